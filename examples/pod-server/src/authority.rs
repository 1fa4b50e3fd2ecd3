//! A host and a port, as a request and its browser name them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An authority, parsed strictly (RFC 9110, 7.2). A request gets past a check if the program
/// behind it reads the same name in another way.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    pub(crate) host: Host,
    pub(crate) port: Option<u16>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// In lower case, and without the dot at the end of a name that is written in full.
    Name(String),
    Address(IpAddr),
}

impl Authority {
    /// Returns `None` for everything but a host with or without a port: for a user name, an empty
    /// port, a list. (The grammar allows an empty port, but no client sends one.)
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, rest) = match text.strip_prefix('[') {
            Some(text) => {
                let (address, rest) = text.split_once(']')?;
                let address = address.parse::<Ipv6Addr>().ok()?;
                (Host::Address(address.into()), rest)
            }
            None => {
                let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
                (Host::parse(host)?, rest)
            }
        };
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(parse_port(port)?),
            None if rest.is_empty() => None,
            None => return None,
        };
        Some(Self { host, port })
    }

    /// Returns whether both are the same for a scheme with this default port.
    pub(crate) fn is_same(&self, other: &Self, default_port: Option<u16>) -> bool {
        self.host == other.host && self.port.or(default_port) == other.port.or(default_port)
    }

    pub(crate) fn is_loopback(&self) -> bool {
        match &self.host {
            // RFC 6761 reserves all of `.localhost`.
            Host::Name(name) => name == "localhost" || name.ends_with(".localhost"),
            Host::Address(address) => address.to_canonical().is_loopback(),
        }
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            !label.is_empty() && label.bytes().all(is_part)
        };
        name.split('.')
            .all(is_label)
            .then(|| Self::Name(name.to_ascii_lowercase()))
    }
}

/// Parses digits and nothing else; Rust's own parser takes a `+` too.
fn parse_port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&port| is_number && port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_a_port_or_without_one() {
        let name = |name: &str| Host::Name(name.into());
        let address = |text: &str| Host::Address(text.parse().unwrap());
        for (text, host, port) in [
            ("localhost", name("localhost"), None),
            ("localhost:8001", name("localhost"), Some(8001)),
            ("LocalHost.:1", name("localhost"), Some(1)),
            (
                "a-b.c_d.example:65535",
                name("a-b.c_d.example"),
                Some(65535),
            ),
            ("127.0.0.1", address("127.0.0.1"), None),
            ("127.0.0.1:80", address("127.0.0.1"), Some(80)),
            // Addresses to some parsers, but never sent: browsers write them in full.
            ("127.1", name("127.1"), None),
            ("0x7f000001", name("0x7f000001"), None),
            ("127.0.0.1.", name("127.0.0.1"), None),
            ("[::1]", address("::1"), None),
            (
                "[::FFFF:127.0.0.1]:80",
                address("::ffff:127.0.0.1"),
                Some(80),
            ),
        ] {
            assert_eq!(
                Authority::parse(text),
                Some(Authority { host, port }),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_neither() {
        for text in [
            "",
            ".",
            ":80",
            "localhost:",
            "localhost..",
            ".localhost",
            "a..localhost",
            "localhost:abc",
            "127.0.0.1:abc",
            "localhost:80:80",
            "localhost:+80",
            "localhost:-1",
            "localhost:0",
            "localhost:65536",
            "localhost:80 ",
            " localhost",
            "localhost,evil",
            "localhost:8001,evil",
            "localhost:8001/evil",
            "localhost/",
            "localhost#",
            "localhost?",
            "local%68ost",
            "user@localhost",
            "user:password@localhost",
            "localhost@evil",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]80",
            "[::1]:",
            "[::1]:80]",
            "[::1%25lo]",
            "[127.0.0.1]",
            "[localhost]",
            "[]",
            "l\u{f6}calhost",
        ] {
            assert_eq!(Authority::parse(text), None, "{text}");
        }
    }
}
