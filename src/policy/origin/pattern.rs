use super::site::Site;
use crate::protocol::ConfigError;

/// An entry of an allow-list: one site, or all sites below a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    site: Site,
    below: bool,
}

impl Pattern {
    /// Parses an entry that an operator has written.
    pub(super) fn parse(entry: &str) -> Result<Self, ConfigError> {
        let no_site = || {
            // There may be a password in front of the host.
            let shown = if entry.contains('@') {
                "with a user name"
            } else {
                entry
            };
            ConfigError::new(format!(
                "the origin {shown:?} is not a site: write the scheme, the host and any port that is not the default, and nothing else, as in https://a.example or https://*.a.example"
            ))
        };
        if entry.eq_ignore_ascii_case("null") {
            return Err(ConfigError::new(
                "the origin \"null\" is that of every sandboxed page and of every file: if you must allow it, use OriginPolicy::predicate",
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
                "the origin {entry:?} is not that of a page: write http instead of ws, and https instead of wss"
            )));
        }
        if below && !has_sub_domains(&site.host) {
            return Err(ConfigError::new(format!(
                "the origin {entry:?} covers the hosts of more than one owner: write a domain of at least two labels after \"*.\""
            )));
        }
        Ok(Self { site, below })
    }

    /// Returns whether this entry allows a page of this site.
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

/// Returns whether all subdomains of a host have one owner, as far as that can be told without a
/// list of public suffixes: the host is neither an address nor a top-level domain.
fn has_sub_domains(host: &str) -> bool {
    let labels: Vec<_> = host.split('.').collect();
    // A host whose last label consists of digits is an IPv4 address (WHATWG URL, 3.5).
    let number = labels
        .last()
        .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    labels.len() >= 2 && !number && !host.starts_with('[') && labels.iter().all(|l| !l.is_empty())
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
    fn a_star_covers_the_hosts_below_a_domain_and_nothing_else() {
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
            ("", "is not a site"),
            ("*", "is not a site"),
            ("a.example", "is not a site"),
            ("://a.example", "is not a site"),
            ("1://a.example", "is not a site"),
            ("https://", "is not a site"),
            ("https://:443", "is not a site"),
            ("https://a.example/", "is not a site"),
            ("https://a.example/x", "is not a site"),
            ("https://a.example?x", "is not a site"),
            ("https://a.example:x", "is not a site"),
            ("https://a.example:+443", "is not a site"),
            ("https://a.example:65536", "is not a site"),
            ("https://a b.example", "is not a site"),
            ("https://*", "is not a site"),
            ("https://*a.example", "is not a site"),
            ("https://a.*.example", "is not a site"),
            ("https://*.*.example.com", "is not a site"),
            ("https://a.example, https://b.example", "is not a site"),
            ("null", "sandboxed"),
            ("NULL", "sandboxed"),
            ("wss://a.example", "https instead of wss"),
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
}
