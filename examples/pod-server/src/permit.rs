//! The permits of sessions.

use tower_wsstream::{Rejection, Session, access::SessionPermits};

/// Returns a filter that gives each session one of the permits, until its connection is closed.
///
/// A layer of the permits would release one as soon as the service has returned. But a client that
/// does not read, or that never answers the Close, keeps its connection for longer, and the output
/// that is left.
pub fn until_closed<R>(
    permits: &SessionPermits<()>,
    session: fn(&R) -> &Session,
) -> impl Fn(R) -> Result<R, Rejection> + Clone + use<R> {
    let permits = permits.clone();
    move |request| {
        session(&request).keep_until_closed(permits.try_acquire(())?);
        Ok(request)
    }
}
