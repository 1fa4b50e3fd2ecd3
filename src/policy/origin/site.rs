use std::fmt;

use http::uri::Authority;

/// The length of the longest host name (RFC 1035, 3.1). Anything longer is not a host, and is not
/// logged.
const MAX_HOST: usize = 253;

/// The parsed origin of a page: its scheme, host and port (RFC 6454, 4 and 7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) scheme: String,
    pub(super) host: String,
    /// The port: the default port of the scheme if none is written, or `None` if the scheme has no
    /// default either.
    pub(super) port: Option<u16>,
}

impl Site {
    /// Parses an origin. Anything after host and port makes it invalid.
    pub(super) fn parse(origin: &str) -> Option<Self> {
        let (scheme, place) = origin.split_once("://")?;
        let scheme = is_scheme(scheme).then(|| scheme.to_ascii_lowercase())?;
        let (host, port) = read(&place.parse().ok()?)?;
        let port = port.or_else(|| default_port(&scheme));
        Some(Self { scheme, host, port })
    }

    /// Returns whether this is the site of the requested host. The scheme is not compared, and a
    /// missing port is the default port of this site's scheme.
    pub(super) fn is_at(&self, asked: &Authority) -> bool {
        let (Some(default), Some((host, port))) = (default_port(&self.scheme), read(asked)) else {
            return false;
        };
        self.host == host && self.port == Some(port.unwrap_or(default))
    }
}

/// Formats the site for logs: the text contains no user name, path or control character.
impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scheme.len() + self.host.len() > MAX_HOST {
            return f.write_str("(too long)");
        }
        write!(f, "{}://{}", self.scheme, self.host)?;
        match self.port {
            Some(port) if Some(port) != default_port(&self.scheme) => write!(f, ":{port}"),
            _ => Ok(()),
        }
    }
}

/// Returns whether this is a scheme (RFC 3986, 3.1).
fn is_scheme(text: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(rest)
}

/// Returns the host in lower case, and the port if there is one.
fn read(authority: &Authority) -> Option<(String, Option<u16>)> {
    let host = authority.host();
    // The rest is `:port`, `:` or nothing. A user name is invalid here, and a port that is not a
    // number must not pass for a missing one.
    let port = match authority.as_str().strip_prefix(host)? {
        "" | ":" => None,
        port => {
            let digits = port.strip_prefix(':')?;
            // `parse` would accept a sign.
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            Some(plain.then(|| digits.parse().ok())??)
        }
    };
    (!host.is_empty()).then(|| (host.to_ascii_lowercase(), port))
}

/// Returns the host and port for logs, or `None` if they cannot be parsed.
pub(super) fn shown(asked: &Authority) -> Option<String> {
    let (host, port) = read(asked)?;
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    (host.len() <= MAX_HOST).then(|| host + &port)
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_a_user_name_is_not_shown() {
        let long = "a".repeat(MAX_HOST + 1);
        for (asked, expected) in [
            ("A.example", Some("a.example")),
            ("a.example:80", Some("a.example:80")),
            ("[::1]:80", Some("[::1]:80")),
            ("me:hunter2@a.example", None),
            (&long, None),
        ] {
            assert_eq!(shown(&asked.parse().unwrap()).as_deref(), expected);
        }
    }

    #[test]
    fn a_site_is_shown_as_a_browser_writes_it() {
        for (origin, shown) in [
            ("HTTPS://A.example:443", "https://a.example"),
            ("http://a.example:8080", "http://a.example:8080"),
            ("tauri://localhost", "tauri://localhost"),
        ] {
            assert_eq!(Site::parse(origin).unwrap().to_string(), shown);
        }
        let long = format!("http://{}", "a".repeat(300));
        assert_eq!(Site::parse(&long).unwrap().to_string(), "(too long)");
    }
}
