//! What the command line and the environment say, checked before anything
//! listens.
//!
//! The one rule worth a module: this program runs commands for whoever reaches
//! it, so it listens beyond loopback only when a token keeps strangers out.

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::duration;
use crate::server::IDLE_TIMEOUT;

/// The port of `kubectl proxy`, whose place this server takes in examples.
const DEFAULT_PORT: u16 = 8001;

/// Where the token may be put instead of a file. A file is better: the
/// environment of a process can be read by every process of the same user, the
/// commands that this server runs included.
pub(crate) const TOKEN_VARIABLE: &str = "POD_SERVER_TOKEN";

pub(crate) const USAGE: &str = "\
Plays a Kubernetes API server with one running pod, `demo`: kubectl exec runs
commands on this machine, as the user that started this program; kubectl attach
joins a process that counts the seconds and gives back each line, and kubectl
logs shows what it has printed.

Usage: pod-server [--listen ADDR] [--tls-cert FILE --tls-key FILE]
                  [--token-file FILE] [--idle-timeout DURATION]

  --listen ADDR       address and port to listen on; port 0 picks a free one
                      [default: 127.0.0.1:8001]
  --tls-cert FILE     speak TLS, with this chain of certificates in PEM, the
                      server's own first
  --tls-key FILE      the key of that certificate, in PEM
  --token-file FILE   ask every request for this bearer token; needed to listen
                      on anything but loopback. The variable POD_SERVER_TOKEN
                      does the same. kubectl sends a token over TLS only.
  --idle-timeout DURATION
                      end a session in which no data has moved for so long, in
                      h, m, s and ms, such as 1m30s; `none` or 0: never
                      [default: 4h]
  --help              print this

RUST_LOG filters the log on stderr [default: info].";

/// The checked arguments.
pub(crate) struct Args {
    pub(crate) listen: SocketAddr,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) token: Option<String>,
    pub(crate) idle_timeout: Option<Duration>,
}

/// Where the identity of the server lies.
#[derive(Debug, PartialEq)]
pub(crate) struct TlsFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// What a command line asks for.
pub(crate) enum Asked {
    Serve(Args),
    Help,
}

/// An argument, or a combination of them, that cannot be served.
#[derive(Debug)]
pub(crate) struct BadArgs(String);

impl fmt::Display for BadArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads the arguments that follow the program's name; `token_variable` is the
/// value of [`TOKEN_VARIABLE`], if it is set.
pub(crate) fn parse(
    args: impl IntoIterator<Item = OsString>,
    token_variable: Option<OsString>,
) -> Result<Asked, BadArgs> {
    let mut listen = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT));
    let (mut tls_cert, mut tls_key): (Option<PathBuf>, Option<PathBuf>) = (None, None);
    let mut token_file: Option<PathBuf> = None;
    let mut idle_timeout = Some(IDLE_TIMEOUT);

    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy().into_owned();
        // Both `--name value` and `--name=value`.
        let (name, mut inline) = match text.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None => (text.as_str(), None),
        };
        let mut value = || {
            inline
                .take()
                .or_else(|| args.next())
                .ok_or_else(|| BadArgs(format!("{name} needs a value")))
        };
        match name {
            "--listen" => {
                let value = value()?;
                let value = value.to_string_lossy();
                listen = value.parse().map_err(|_| {
                    BadArgs(format!(
                        "--listen {value}: not an address with a port, such as 127.0.0.1:8001"
                    ))
                })?;
            }
            "--tls-cert" => tls_cert = Some(value()?.into()),
            "--tls-key" => tls_key = Some(value()?.into()),
            "--token-file" => token_file = Some(value()?.into()),
            "--idle-timeout" => {
                let value = value()?;
                let value = value.to_string_lossy();
                idle_timeout = duration::parse(&value).map_err(|()| {
                    BadArgs(format!(
                        "--idle-timeout {value}: not a duration such as 4h, 1m30s or 500ms, nor none"
                    ))
                })?;
            }
            "--help" | "-h" => return Ok(Asked::Help),
            _ => return Err(BadArgs(format!("unknown argument {text}; try --help"))),
        }
    }

    let tls = match (tls_cert, tls_key) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
        (None, None) => None,
        _ => {
            return Err(BadArgs(
                "--tls-cert and --tls-key need each other".to_owned(),
            ));
        }
    };
    let token = match (token_file, token_variable) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(&path)
                .map_err(|error| BadArgs(format!("{}: {error}", path.display())))?;
            Some(checked(&text, &path.display().to_string())?)
        }
        (None, Some(text)) => Some(checked(&text.to_string_lossy(), TOKEN_VARIABLE)?),
        (None, None) => None,
    };

    if token.is_none() && !listen.ip().to_canonical().is_loopback() {
        return Err(BadArgs(format!(
            "{listen} can be reached from other machines, and this program runs commands for whoever \
             reaches it: add --token-file, or listen on 127.0.0.1"
        )));
    }
    Ok(Asked::Serve(Args {
        listen,
        tls,
        token,
        idle_timeout,
    }))
}

/// A token without the newline that editors put behind it. An empty one would
/// let in whoever sends an empty one, so it is a mistake; one that no header can
/// carry would let in nobody.
fn checked(text: &str, origin: &str) -> Result<String, BadArgs> {
    let token = text.trim();
    if token.is_empty() {
        return Err(BadArgs(format!("{origin} holds no token")));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(BadArgs(format!("{origin}: a token is one word of ASCII")));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(args: &[&str], variable: Option<&str>) -> Result<Args, BadArgs> {
        match parse(
            args.iter().map(OsString::from),
            variable.map(OsString::from),
        )? {
            Asked::Serve(args) => Ok(args),
            Asked::Help => Err(BadArgs("help".into())),
        }
    }

    #[test]
    fn loopback_needs_no_token() {
        for listen in [
            "127.0.0.1:0",
            "127.8.8.8:1",
            "[::1]:8001",
            "[::ffff:127.0.0.1]:8001",
        ] {
            let args = serve(&["--listen", listen], None).unwrap();
            assert_eq!(args.listen, listen.parse().unwrap());
            assert!(args.token.is_none());
        }
        assert_eq!(
            serve(&[], None).unwrap().listen.to_string(),
            "127.0.0.1:8001"
        );
    }

    #[test]
    fn other_addresses_need_a_token() {
        for listen in ["0.0.0.0:8001", "[::]:8001", "192.0.2.1:8001"] {
            let flag = format!("--listen={listen}");
            assert!(serve(&[&flag], None).is_err(), "{listen}");
            assert_eq!(
                serve(&[&flag], Some("secret")).unwrap().token.unwrap(),
                "secret"
            );
        }
    }

    #[test]
    fn a_token_is_trimmed_and_not_empty() {
        assert_eq!(
            serve(&[], Some("secret\n")).unwrap().token.unwrap(),
            "secret"
        );
        assert!(serve(&[], Some(" \n")).is_err());
        assert!(serve(&[], Some("two words")).is_err());
    }

    #[test]
    fn the_idle_timeout_is_the_kubelets_unless_told() {
        let timeout = |args: &[&str]| serve(args, None).unwrap().idle_timeout;
        assert_eq!(timeout(&[]), Some(Duration::from_secs(4 * 3600)));
        assert_eq!(
            timeout(&["--idle-timeout", "1m30s"]),
            Some(Duration::from_secs(90))
        );
        assert_eq!(timeout(&["--idle-timeout=none"]), None);
        assert_eq!(timeout(&["--idle-timeout=0"]), None);
    }

    #[test]
    fn a_certificate_comes_with_its_key() {
        let files = TlsFiles {
            cert: "cert.pem".into(),
            key: "key.pem".into(),
        };
        let args = ["--tls-cert", "cert.pem", "--tls-key=key.pem"];
        assert_eq!(serve(&args, None).unwrap().tls, Some(files));
        assert_eq!(serve(&[], None).unwrap().tls, None);
        for half in ["--tls-cert=cert.pem", "--tls-key=key.pem"] {
            assert!(serve(&[half], None).is_err(), "{half}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for wrong in ["", "4", "4x", "-1s", "1.5h"] {
            assert!(
                serve(&["--idle-timeout", wrong], None)
                    .is_err_and(|e| e.0.contains(&format!("--idle-timeout {wrong}:"))),
                "{wrong}"
            );
        }
        assert!(serve(&["--listen"], None).is_err_and(|e| e.0.contains("needs a value")));
        assert!(serve(&["--listen", "8001"], None).is_err_and(|e| e.0.contains("8001")));
        assert!(serve(&["--lisen", "x"], None).is_err_and(|e| e.0.contains("--lisen")));
        assert!(
            serve(&["--token-file", "/no/such"], None).is_err_and(|e| e.0.contains("/no/such"))
        );
    }
}
