use std::fmt;

/// A fault of the peer on the wire. Nothing can be decoded after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// The peer broke a rule of RFC 6455, which the text names.
    Protocol(&'static str),
    /// The announced length of a frame or a message exceeds the limit.
    TooLarge,
    /// Text, or the reason of a Close frame, is not UTF-8.
    Utf8,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FrameError::Protocol(rule) => rule,
            FrameError::TooLarge => "frame or message above the allowed size",
            FrameError::Utf8 => "text is not UTF-8",
        })
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::FrameError;

    #[test]
    fn a_protocol_fault_displays_its_rule() {
        assert_eq!(FrameError::Protocol("a rule").to_string(), "a rule");
    }
}
