/// The moment at which an upgrade is accepted.
///
/// # Examples
///
/// [`Session::accept`](crate::Session::accept) has the service that belongs to this:
///
/// ```
/// use tower_wsstream::{AcceptMode, SessionConfig};
///
/// let config = SessionConfig::default().accept(AcceptMode::Explicit);
/// # let _ = config;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceptMode {
    /// Accepts the upgrade as soon as the service's future has been polled once without failing.
    #[default]
    Immediate,
    /// Accepts the upgrade when the service calls [`Session::accept`](crate::Session::accept), so
    /// that "no such container" can be a 404 after an asynchronous lookup.
    ///
    /// Until then, the service's output waits, and an error or a panic becomes an HTTP answer. Under
    /// `RemoteCommandLayer`, only a [`Rejection`](crate::Rejection) does; any other error becomes a
    /// 101 and a Status. After the [accept timeout](crate::SessionConfig::accept_timeout), the answer
    /// is a 504. A service that returns `Ok` accepts.
    Explicit,
}
