//! The options of the command line and of the environment, checked before anything listens.
//!
//! One rule matters most. This program runs commands for everyone who reaches it, so it listens
//! beyond loopback only if a token keeps strangers out.

use std::{ffi::OsString, fs, net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use tower_wsstream::policy::KeepAlive;

/// The variable that may hold the token in place of a file. A file is better: every process of
/// the same user can read the environment of this one, and so can the commands that it runs.
pub(crate) const TOKEN_VARIABLE: &str = "POD_SERVER_TOKEN";

/// Plays a Kubernetes API server with one running pod, `demo`.
///
/// `kubectl exec` runs commands on this machine, as the user that started this program; `kubectl
/// attach` joins a process that counts the seconds and echoes each line; `kubectl logs` shows its
/// output.
#[derive(Debug, Parser)]
#[command(
    name = "pod-server",
    after_help = "RUST_LOG filters the log on stderr [default: info].",
    max_term_width = 100
)]
pub(crate) struct Options {
    /// Address and port to listen on; port 0 picks a free one.
    // The default is the port of `kubectl proxy`, whose place this server takes in examples.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8001", value_parser = address)]
    pub(crate) listen: SocketAddr,

    #[command(flatten)]
    pub(crate) tls: Option<TlsFiles>,

    /// Ask every request for the bearer token in this file. A token is required to listen on
    /// anything but loopback. The variable POD_SERVER_TOKEN does the same. kubectl sends a token
    /// over TLS only.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// End a session in which no data was exchanged for this long, in h, m, s and ms, such as
    /// 1m30s; `none` or 0 for never.
    // The default is the kubelet's. A shell that was left open over lunch is there afterwards,
    // and one that was forgotten is gone the next day. A client attached to the pod's process is
    // never idle, because that process prints.
    #[arg(long, value_name = "DURATION", default_value = "4h", value_parser = duration)]
    idle_timeout: Limit,

    /// Send a Ping to the client of each session this often, so that no proxy on the way takes it
    /// for dead; `none` or 0 for never. It should be at most half of what the proxies allow.
    // The default is the library's: half of the 60 s that balancers commonly allow.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    keep_alive: Limit,

    /// When the server is stopped, let its sessions finish for this long before they are told to
    /// end; new ones are refused at once. `none` or 0 tells them at once.
    // The default is for a terminal, whose user waits for it after Ctrl-C.
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration)]
    drain_after: Limit,

    /// Refuse more sessions than this at once: execs, attached clients, port-forwards and logs,
    /// taken together. Each counts until its connection is closed, and a log until its last byte was
    /// handed over. Those of kubectl's exec and attach that are refused are told so in a session, of
    /// which there are at most 100 more.
    // Generous: each costs some descriptors, an exec a process, and one whose client does its worst
    // what SECURITY.md says.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    max_sessions: usize,
}

/// The files with the identity of the server.
#[derive(Clone, Debug, PartialEq, clap::Args)]
#[group(requires_all = ["cert", "key"])]
pub(crate) struct TlsFiles {
    /// Speak TLS, with this chain of certificates in PEM, the server's own first.
    #[arg(id = "cert", long = "tls-cert", value_name = "FILE", required = false)]
    pub(crate) cert: PathBuf,

    /// The key of that certificate, in PEM.
    #[arg(id = "key", long = "tls-key", value_name = "FILE", required = false)]
    pub(crate) key: PathBuf,
}

/// A duration, or none. A type of its own, because clap takes an `Option` for an argument that may
/// be missing.
#[derive(Clone, Copy, Debug)]
struct Limit(Option<Duration>);

impl Options {
    pub(crate) fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout.0
    }

    pub(crate) fn keep_alive(&self) -> KeepAlive {
        self.keep_alive
            .0
            .map_or_else(KeepAlive::never, KeepAlive::every)
    }

    pub(crate) fn drain_after(&self) -> Duration {
        self.drain_after.0.unwrap_or_default()
    }

    pub(crate) fn max_sessions(&self) -> usize {
        self.max_sessions
    }

    /// Reads the token, if there is one, and checks that a server without one listens on
    /// loopback. `variable` is the value of [`TOKEN_VARIABLE`].
    pub(crate) fn token(&self, variable: Option<OsString>) -> Result<Option<String>, String> {
        let token = match (&self.token_file, variable) {
            (Some(path), _) => {
                let origin = path.display().to_string();
                let text =
                    fs::read_to_string(path).map_err(|error| format!("{origin}: {error}"))?;
                Some(checked(&text, &origin)?)
            }
            (None, Some(text)) => Some(checked(&text.to_string_lossy(), TOKEN_VARIABLE)?),
            (None, None) => None,
        };
        if token.is_none() && !self.listen.ip().to_canonical().is_loopback() {
            return Err(format!(
                "{} can be reached from other machines, and this program runs commands for \
                 everyone who reaches it: add --token-file, or listen on 127.0.0.1",
                self.listen
            ));
        }
        Ok(token)
    }
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "not an address with a port, such as 127.0.0.1:8001")
}

fn duration(text: &str) -> Result<Limit, &'static str> {
    if matches!(text, "none" | "0") {
        return Ok(Limit(None));
    }
    match humantime::parse_duration(text) {
        Ok(duration) => Ok(Limit(Some(duration).filter(|duration| !duration.is_zero()))),
        Err(_) => Err("not a duration such as 4h, 1m30s or 500ms, nor none"),
    }
}

/// Returns a token without the newline that editors put behind it. An empty one would let in
/// everyone who sends an empty one, and one that no header can carry would let in no one.
fn checked(text: &str, origin: &str) -> Result<String, String> {
    let token = text.trim();
    if token.is_empty() {
        return Err(format!("{origin} holds no token"));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{origin}: a token is one word of ASCII"));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, String> {
        let args = [&["pod-server"], args].concat();
        Options::try_parse_from(args).map_err(|error| error.to_string())
    }

    fn token(args: &[&str], variable: Option<&str>) -> Result<Option<String>, String> {
        parse(args)?.token(variable.map(OsString::from))
    }

    #[test]
    fn loopback_needs_no_token() {
        for listen in [
            "127.0.0.1:0",
            "127.8.8.8:1",
            "[::1]:8001",
            "[::ffff:127.0.0.1]:8001",
        ] {
            let options = parse(&["--listen", listen]).unwrap();
            assert_eq!(options.listen, listen.parse().unwrap());
            assert_eq!(options.token(None), Ok(None));
        }
        assert_eq!(parse(&[]).unwrap().listen.to_string(), "127.0.0.1:8001");
    }

    #[test]
    fn other_addresses_need_a_token() {
        for listen in ["0.0.0.0:8001", "[::]:8001", "192.0.2.1:8001"] {
            let flag = format!("--listen={listen}");
            assert!(token(&[&flag], None).is_err(), "{listen}");
            assert_eq!(token(&[&flag], Some("secret")), Ok(Some("secret".into())));
        }
    }

    #[test]
    fn a_token_is_trimmed_and_not_empty() {
        assert_eq!(token(&[], Some("secret\n")), Ok(Some("secret".into())));
        assert!(token(&[], Some(" \n")).is_err());
        assert!(token(&[], Some("two words")).is_err());
    }

    #[test]
    fn the_idle_timeout_is_the_kubelets_by_default() {
        let timeout = |args: &[&str]| parse(args).unwrap().idle_timeout();
        assert_eq!(timeout(&[]), Some(Duration::from_secs(4 * 3600)));
        for (text, millis) in [
            ("4h", 4 * 3_600_000),
            ("90s", 90_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1.5h", 5_400_000),
            ("1h2m3s4ms", 3_723_004),
            ("007s", 7000),
        ] {
            let expected = Some(Duration::from_millis(millis));
            assert_eq!(timeout(&["--idle-timeout", text]), expected, "{text}");
        }
        for text in ["none", "0", "0s", "0h0m"] {
            assert_eq!(
                timeout(&[&format!("--idle-timeout={text}")]),
                None,
                "{text}"
            );
        }
    }

    #[test]
    fn pings_are_the_librarys_by_default() {
        let keep_alive = |args: &[&str]| parse(args).unwrap().keep_alive();
        assert_eq!(keep_alive(&[]), KeepAlive::default());
        let often = KeepAlive::every(Duration::from_secs(2));
        assert_eq!(keep_alive(&["--keep-alive", "2s"]), often);
        assert_eq!(keep_alive(&["--keep-alive", "none"]), KeepAlive::never());
    }

    #[test]
    fn a_stopped_server_tells_its_sessions_at_once_by_default() {
        let drain_after = |args: &[&str]| parse(args).unwrap().drain_after();
        assert_eq!(drain_after(&[]), Duration::ZERO);
        let minute = Duration::from_secs(60);
        assert_eq!(drain_after(&["--drain-after=1m"]), minute);
    }

    #[test]
    fn sessions_have_a_limit_by_default() {
        let limit = |args: &[&str]| parse(args).map(|options| options.max_sessions());
        assert_eq!(limit(&[]), Ok(10_000));
        assert_eq!(limit(&["--max-sessions", "3"]), Ok(3));
        for wrong in ["", "-1", "many"] {
            let error = limit(&[&format!("--max-sessions={wrong}")]).unwrap_err();
            assert!(error.contains("--max-sessions"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_certificate_comes_with_its_key() {
        let files = TlsFiles {
            cert: "cert.pem".into(),
            key: "key.pem".into(),
        };
        let args = ["--tls-cert", "cert.pem", "--tls-key=key.pem"];
        assert_eq!(parse(&args).unwrap().tls, Some(files));
        assert_eq!(parse(&[]).unwrap().tls, None);
        for (half, other) in [
            ("--tls-cert=cert.pem", "--tls-key"),
            ("--tls-key=key.pem", "--tls-cert"),
        ] {
            let error = parse(&[half]).unwrap_err();
            assert!(error.contains(other), "{error}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for wrong in [
            "",
            "4",
            "h",
            "4x",
            "4H",
            "-4h",
            "-1s",
            "+4h",
            "1m30",
            "none1s",
            "\u{664}h",
            "18446744073709551615h",
            "18446744073709551616s",
            "18446744073709551615s1s",
        ] {
            let error = parse(&[&format!("--idle-timeout={wrong}")]).unwrap_err();
            assert!(error.contains("--idle-timeout"), "{wrong}: {error}");
            assert!(error.contains("such as 4h"), "{wrong}: {error}");
        }
        for (args, name) in [
            (
                &["--listen"][..],
                "a value is required for '--listen <ADDR>'",
            ),
            (
                &["--listen", "8001"],
                "'8001' for '--listen <ADDR>': not an address with a port",
            ),
            (&["--lisen", "x"], "--lisen"),
        ] {
            let error = parse(args).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
        let error = token(&["--token-file", "/no/such"], None).unwrap_err();
        assert!(error.contains("/no/such"), "{error}");
    }
}
