use std::{fmt, ops::Deref, sync::Arc};

/// The reason in a peer's Close frame, which is empty if the peer gave none.
///
/// It is at most 123 bytes of UTF-8, because a Close frame has no room for more (RFC 6455, sections
/// 5.5 and 5.5.1). The peer chooses the text, which may contain control characters. In logs and
/// terminals, print it with `Debug`, which escapes them. Cloning is cheap.
///
/// # Examples
///
/// ```
/// use tower_wsstream::EndCause;
///
/// fn is_reload(cause: &EndCause) -> bool {
///     matches!(cause, EndCause::PeerClosed { code: Some(4000), reason, .. } if reason == "reload")
/// }
/// # assert!(!is_reload(&EndCause::Completed));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CloseReason(
    // `None` if it is empty, which is the usual case and then needs no allocation.
    Option<Arc<str>>,
);

impl From<&str> for CloseReason {
    fn from(reason: &str) -> Self {
        Self((!reason.is_empty()).then(|| reason.into()))
    }
}

impl Deref for CloseReason {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

impl AsRef<str> for CloseReason {
    fn as_ref(&self) -> &str {
        self
    }
}

impl PartialEq<str> for CloseReason {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl PartialEq<&str> for CloseReason {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
