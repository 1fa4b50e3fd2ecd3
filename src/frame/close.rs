use std::{fmt, str};

use super::{error::FrameError, header::MAX_CONTROL};

/// The largest reason, which is the payload of a control frame without the two bytes of the code.
const MAX_REASON: usize = MAX_CONTROL - 2;

/// Returns whether a code may be on the wire (RFC 6455, 7.4, and the IANA registry).
///
/// 1004 has no meaning. 1005, 1006 and 1015 report the absence of a Close frame or of its code, and
/// never appear in one. 1016 to 2999 are not registered. 3000 to 3999 are registered by libraries,
/// and 4000 to 4999 are private.
pub(crate) fn is_valid_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Parses the code and the reason in the unmasked payload of a Close frame.
pub(super) fn parse(payload: &[u8]) -> Result<Option<(u16, &str)>, FrameError> {
    match payload {
        [] => Ok(None),
        [_] => Err(FrameError::Protocol("Close frame with half a code")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !is_valid_close_code(code) {
                return Err(FrameError::Protocol(
                    "Close frame with a code that must not be sent",
                ));
            }
            let reason = str::from_utf8(reason).map_err(|_| FrameError::Utf8)?;
            Ok(Some((code, reason)))
        }
    }
}

/// The payload of a Close frame to be sent, stored inline.
#[derive(Clone, Copy)]
pub(crate) struct ClosePayload {
    bytes: [u8; MAX_CONTROL],
    len: u8,
}

/// Builds the payload of a Close frame.
///
/// A reason that does not fit is cut after the last character that does, because half a character
/// would make the peer answer with 1007. A payload without a code cannot have a reason, so the
/// reason is left out then. The code is not checked.
pub(crate) fn close_payload(code: Option<u16>, reason: &str) -> ClosePayload {
    let mut payload = ClosePayload {
        bytes: [0; MAX_CONTROL],
        len: 0,
    };
    if let Some(code) = code {
        let mut len = reason.len().min(MAX_REASON);
        while !reason.is_char_boundary(len) {
            len -= 1;
        }
        payload.bytes[..2].copy_from_slice(&code.to_be_bytes());
        payload.bytes[2..2 + len].copy_from_slice(&reason.as_bytes()[..len]);
        payload.len = 2 + len as u8;
    }
    payload
}

impl ClosePayload {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Returns the code, if there is one.
    pub(crate) fn code(&self) -> Option<u16> {
        let code = self.as_bytes().first_chunk()?;
        Some(u16::from_be_bytes(*code))
    }
}

impl fmt::Debug for ClosePayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClosePayload")
            .field(&parse(self.as_bytes()))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_that_may_be_sent_are_valid() {
        for (range, valid) in [
            (0..=999, false),
            (1000..=1003, true),
            (1004..=1006, false),
            (1007..=1014, true),
            (1015..=2999, false),
            (3000..=4999, true),
            (5000..=u16::MAX, false),
        ] {
            for code in range {
                assert_eq!(is_valid_close_code(code), valid, "{code}");
                assert_eq!(parse(&code.to_be_bytes()).is_ok(), valid, "{code}");
            }
        }
    }

    #[test]
    fn a_payload_is_nothing_or_a_code_and_utf8() {
        assert_eq!(parse(b""), Ok(None));
        assert!(matches!(parse(b"\x03"), Err(FrameError::Protocol(_))));
        assert_eq!(parse(b"\x03\xe8"), Ok(Some((1000, ""))));
        assert_eq!(parse(b"\x03\xe8bye"), Ok(Some((1000, "bye"))));
        assert_eq!(parse(b"\x03\xe8\xc3"), Err(FrameError::Utf8));
        // A bad code is reported before a bad reason, because 1002 says more than 1007.
        assert!(matches!(
            parse(b"\x00\x00\xc3"),
            Err(FrameError::Protocol(_))
        ));
    }

    #[test]
    fn a_reason_is_cut_to_123_bytes() {
        for len in [0, 1, 122, 123, 124, 500] {
            let reason = "r".repeat(len);
            let payload = close_payload(Some(1001), &reason);
            assert_eq!(payload.as_bytes().len(), 2 + len.min(123));
            assert_eq!(
                parse(payload.as_bytes()),
                Ok(Some((1001, &reason[..len.min(123)])))
            );
        }
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        for (pad, character, expected) in [
            (122, "\u{e9}", 122),
            (121, "\u{e9}", 123),
            (120, "\u{1f600}", 120),
            (119, "\u{1f600}", 123),
        ] {
            let reason = "r".repeat(pad) + character + "tail";
            let payload = close_payload(Some(1000), &reason);
            assert_eq!(
                parse(payload.as_bytes()),
                Ok(Some((1000, &reason[..expected])))
            );
        }
    }

    #[test]
    fn without_a_code_the_payload_is_empty() {
        assert_eq!(close_payload(None, "unsaid").as_bytes(), b"");
    }
}
