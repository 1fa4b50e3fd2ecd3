use http::{HeaderName, HeaderValue, Request, Version};
use hyper::ext::Protocol;

/// The head of a request as text, with the request that it becomes.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) request: Request<()>,
    /// The headers in order, their names in lower case.
    pub(super) lines: Vec<(String, Vec<u8>)>,
    /// The `:protocol` of an extended CONNECT.
    pub(super) protocol: Option<String>,
}

impl Head {
    /// Reads a request line, and a header from each further line. Lines that no HTTP server would
    /// pass on are left out.
    pub(super) fn read(input: &[u8]) -> Self {
        let mut text = input.split(|&byte| byte == b'\n');
        let mut request = Request::new(());
        let first = String::from_utf8_lossy(text.next().unwrap_or_default()).into_owned();
        let mut words = first.split(' ');
        if let Some(method) = words.next().and_then(|method| method.parse().ok()) {
            *request.method_mut() = method;
        }
        if let Some(uri) = words.next().and_then(|uri| uri.parse().ok()) {
            *request.uri_mut() = uri;
        }
        *request.version_mut() = match words.next() {
            Some("HTTP/1.0") => Version::HTTP_10,
            Some("HTTP/2") => Version::HTTP_2,
            _ => Version::HTTP_11,
        };
        let (mut lines, mut protocol) = (Vec::new(), None);
        for line in text {
            if let Some(name) = line.strip_prefix(b":protocol: ") {
                let name = String::from_utf8_lossy(name).into_owned();
                request.extensions_mut().insert(Protocol::from(&*name));
                protocol = Some(name);
                continue;
            }
            let Some(colon) = line.iter().position(|&byte| byte == b':') else {
                continue;
            };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii_start());
            let name = HeaderName::from_bytes(name).ok();
            let value = HeaderValue::from_bytes(value).ok();
            let (Some(name), Some(value)) = (name, value) else {
                continue;
            };
            let line = (name.as_str().to_owned(), value.as_bytes().to_vec());
            if request.headers_mut().try_append(name, value).is_ok() {
                lines.push(line);
            }
        }
        Self {
            request,
            lines,
            protocol,
        }
    }
    /// Returns the members of a header with commas, over all of its lines.
    pub(super) fn list(&self, name: &str) -> Vec<&[u8]> {
        let lines = self.lines.iter().filter(|(other, _)| other == name);
        let members = lines.flat_map(|(_, value)| value.split(|&byte| byte == b','));
        let members = members.map(<[u8]>::trim_ascii);
        members.filter(|member| !member.is_empty()).collect()
    }

    /// Returns whether a member of a header is this word, in any case.
    pub(super) fn lists(&self, name: &str, word: &str) -> bool {
        let mut members = self.list(name).into_iter();
        members.any(|member| member.to_ascii_lowercase() == word.to_ascii_lowercase().as_bytes())
    }

    /// Returns whether the request asks for a WebSocket (RFC 6455, 4.2.1; RFC 8441, 4).
    pub(super) fn asks_for_websocket(&self) -> bool {
        if self.request.version() > Version::HTTP_11 {
            let protocol = self.protocol.as_deref().unwrap_or_default();
            return self.request.method() == "CONNECT"
                && protocol.eq_ignore_ascii_case("websocket");
        }
        self.lists("upgrade", "websocket") && self.lists("connection", "upgrade")
    }
}
