//! Where a page comes from. RFC 6454, 4 and 7.

use std::fmt;

use http::uri::Authority;

use crate::protocol::ConfigError;

/// Longest name of a host: RFC 1035, 3.1. What is longer is no host, and is not logged.
const MAX_HOST: usize = 253;

/// Scheme, host and port, as far as they can be read for certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Site {
    scheme: String,
    host: String,
    /// Of a scheme without a usual one: what is written.
    port: Option<u16>,
}

impl Site {
    /// Reads an origin; anything behind host and port makes it none.
    pub(super) fn parse(origin: &str) -> Option<Self> {
        let (scheme, place) = origin.split_once("://")?;
        let scheme = is_scheme(scheme).then(|| scheme.to_ascii_lowercase())?;
        let (host, port) = read(&place.parse().ok()?)?;
        let port = port.or_else(|| default_port(&scheme));
        Some(Self { scheme, host, port })
    }

    /// Whether this is the site that was asked. The scheme is not compared, and a
    /// missing port is the usual one of this site's.
    pub(super) fn is_at(&self, asked: &Authority) -> bool {
        let (Some(default), Some((host, port))) = (default_port(&self.scheme), read(asked)) else {
            return false;
        };
        self.host == host && self.port == Some(port.unwrap_or(default))
    }
}

/// For a log: holds no user name, no path and no control character.
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

/// One entry of a list: a site, or all below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    site: Site,
    below: bool,
}

impl Pattern {
    /// Reads an entry of an operator's.
    pub(super) fn parse(entry: &str) -> Result<Self, ConfigError> {
        let no_site = || {
            // Somebody may have written a password before the host.
            let shown = if entry.contains('@') {
                "that holds a user name"
            } else {
                entry
            };
            ConfigError::new(format!(
                "the origin {shown:?} is no site: write scheme, host and, if it is not the usual one, the port, and nothing behind them, as https://a.example or https://*.a.example"
            ))
        };
        if entry.eq_ignore_ascii_case("null") {
            return Err(ConfigError::new(
                "the origin \"null\" is that of every sandboxed page and of every file: allow it by OriginPolicy::predicate, if at all",
            ));
        }
        let star = entry.split_once("://*.");
        let below = star.is_some();
        let site = match star {
            Some((scheme, place)) => Site::parse(&format!("{scheme}://{place}")),
            None => Site::parse(entry),
        };
        let site = site.ok_or_else(no_site)?;
        if site.host.contains('*') {
            return Err(no_site());
        }
        if matches!(&*site.scheme, "ws" | "wss") {
            return Err(ConfigError::new(format!(
                "the origin {entry:?} is that of no page: write http for ws, and https for wss"
            )));
        }
        if below && !has_sub_domains(&site.host) {
            return Err(ConfigError::new(format!(
                "the origin {entry:?} covers more than one owner's hosts: write a domain of two labels or more behind \"*.\""
            )));
        }
        Ok(Self { site, below })
    }

    pub(super) fn covers(&self, page: &Site) -> bool {
        let hosts_agree = match self.below {
            false => page.host == self.site.host,
            true => page
                .host
                .strip_suffix(&*self.site.host)
                .and_then(|front| front.strip_suffix('.'))
                .is_some_and(|front| !front.is_empty() && !front.starts_with('.')),
        };
        hosts_agree && page.scheme == self.site.scheme && page.port == self.site.port
    }
}

/// A domain whose sub-domains are one owner's, as far as that can be told without a list
/// of public suffixes: no address, and no top-level domain.
fn has_sub_domains(host: &str) -> bool {
    let labels: Vec<_> = host.split('.').collect();
    // A last label of digits makes it an IPv4 address (WHATWG URL, 3.5).
    let number = labels
        .last()
        .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    labels.len() >= 2 && !number && !host.starts_with('[') && labels.iter().all(|l| !l.is_empty())
}

/// RFC 3986, 3.1.
fn is_scheme(text: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(rest)
}

/// Host in lower case, and the port if it is there.
fn read(authority: &Authority) -> Option<(String, Option<u16>)> {
    let host = authority.host();
    // What is left is `:port`, or `:`, or nothing; a user name has no business
    // here, and a port that is no number would else read as a missing one.
    let port = match authority.as_str().strip_prefix(host)? {
        "" | ":" => None,
        port => {
            let digits = port.strip_prefix(':')?;
            // A sign would be read as well.
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            Some(plain.then(|| digits.parse().ok())??)
        }
    };
    (!host.is_empty()).then(|| (host.to_ascii_lowercase(), port))
}

/// For a log: host and port of what was asked, or nothing if they cannot be read.
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

    fn covers(entry: &str, origin: &str) -> bool {
        let pattern = Pattern::parse(entry).unwrap();
        Site::parse(origin).is_some_and(|site| pattern.covers(&site))
    }

    #[test]
    fn an_entry_is_scheme_host_and_port() {
        for (entry, origin, expected) in [
            ("https://a.example", "https://a.example", true),
            ("https://a.example", "HTTPS://A.Example:443", true),
            ("HTTPS://A.example:443", "https://a.example", true),
            ("http://a.example:8080", "http://a.example:8080", true),
            ("http://[::1]:8001", "http://[::1]:8001", true),
            ("chrome-extension://abc", "chrome-extension://abc", true),
            ("tauri://localhost", "tauri://localhost", true),
            ("https://a.example", "http://a.example", false),
            ("https://a.example", "https://a.example:8443", false),
            ("https://a.example", "http://a.example:443", false),
            ("https://a.example", "https://b.a.example", false),
            ("https://a.example", "https://a.example.b", false),
            ("https://a.example", "https://a.example.", false),
            ("https://a.example", "https://a.example/", false),
            ("https://a.example", "https://a.example@b.example", false),
            ("chrome-extension://abc", "chrome-extension://abd", false),
            ("tauri://localhost", "http://localhost", false),
        ] {
            assert_eq!(covers(entry, origin), expected, "{entry} {origin}");
        }
    }

    #[test]
    fn a_star_covers_what_is_below_and_nothing_else() {
        for (origin, expected) in [
            ("https://b.a.example", true),
            ("https://c.b.a.example", true),
            ("https://B.A.EXAMPLE:443", true),
            ("https://a.example", false),
            ("https://.a.example", false),
            ("https://..a.example", false),
            ("https://ba.example", false),
            ("https://b.a.example.c", false),
            ("https://b.a.example.", false),
            ("http://b.a.example", false),
            ("https://b.a.example:8443", false),
        ] {
            assert_eq!(covers("https://*.a.example", origin), expected, "{origin}");
        }
        assert!(covers("http://*.a.example:81", "http://b.a.example:81"));
        assert!(!covers("http://*.a.example:81", "http://b.a.example"));
    }

    #[test]
    fn entries_that_make_no_sense_are_errors_that_say_why() {
        for (entry, why) in [
            ("", "is no site"),
            ("*", "is no site"),
            ("a.example", "is no site"),
            ("://a.example", "is no site"),
            ("1://a.example", "is no site"),
            ("https://", "is no site"),
            ("https://:443", "is no site"),
            ("https://a.example/", "is no site"),
            ("https://a.example/x", "is no site"),
            ("https://a.example?x", "is no site"),
            ("https://a.example:x", "is no site"),
            ("https://a.example:+443", "is no site"),
            ("https://a.example:65536", "is no site"),
            ("https://a b.example", "is no site"),
            ("https://*", "is no site"),
            ("https://*a.example", "is no site"),
            ("https://a.*.example", "is no site"),
            ("https://*.*.example.com", "is no site"),
            ("https://a.example, https://b.example", "is no site"),
            ("null", "sandboxed"),
            ("NULL", "sandboxed"),
            ("wss://a.example", "https for wss"),
            ("https://*.com", "two labels"),
            ("https://*.localhost", "two labels"),
            ("https://*.0.0.1", "two labels"),
            ("https://*.[::1]", "two labels"),
            ("https://*..com", "two labels"),
        ] {
            let error = Pattern::parse(entry).unwrap_err().to_string();
            assert!(error.contains(why), "{entry}: {error}");
        }
        let error = Pattern::parse("https://me:hunter2@a.example").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn a_host_is_shown_without_what_does_not_belong_to_it() {
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
