//! The head of a request, written by hand.

/// The key of RFC 6455, section 1.3, and its accept key.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A bearer token, which must not be seen anywhere.
pub(crate) const TOKEN: &str = "c2VjcmV0LXRva2Vu";

/// The head of a request, from which its bytes are made.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    line: String,
    headers: Vec<(&'static str, String)>,
}

impl Head {
    /// Creates a valid handshake that offers no subprotocol.
    pub(crate) fn to(target: &str) -> Self {
        Self::plain(target)
            .with("Connection", "Upgrade")
            .with("Upgrade", "websocket")
            .with("Sec-WebSocket-Version", "13")
            .with("Sec-WebSocket-Key", KEY)
    }

    /// Creates a request that does not ask for an upgrade.
    pub(crate) fn plain(target: &str) -> Self {
        let head = Self {
            line: format!("GET {target} HTTP/1.1"),
            headers: Vec::new(),
        };
        head.with("Host", "localhost")
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self
    }

    pub(crate) fn offer(self, names: &str) -> Self {
        self.with("Sec-WebSocket-Protocol", names)
    }

    /// Replaces the request line, for example by `POST / HTTP/1.1`.
    pub(crate) fn line(mut self, line: &str) -> Self {
        line.clone_into(&mut self.line);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.line);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}
