//! The permits of sessions.

use tower_wsstream::{BoxError, Rejection, Session, access::SessionPermits};

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

/// Returns the filter for clients that show no answer but a Status, such as kubectl's exec.
///
/// A session that is refused with a Status has its 101 and a connection, which its client can keep
/// like any other. So each of them takes one of the `refusals`, and a client that finds none is
/// refused with a plain 429.
pub(crate) fn until_closed_or_told<R>(
    permits: &SessionPermits<()>,
    refusals: &SessionPermits<()>,
    session: fn(&R) -> &Session,
) -> impl Fn(R) -> Result<R, BoxError> + Clone + use<R> {
    let admit = until_closed(permits, session);
    let refusals = refusals.clone();
    move |request| {
        let told = session(&request).clone();
        admit(request).map_err(|rejection| match refusals.try_acquire(()) {
            Ok(permit) => {
                told.keep_until_closed(permit);
                rejection.to_status().into()
            }
            Err(_) => rejection.into(),
        })
    }
}
