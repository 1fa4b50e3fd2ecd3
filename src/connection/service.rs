//! The future of the inner service, and its states.

use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::{
    error::{BoxError, EndCause, Report},
    session::Outcome,
    unwind::{catch, drop_quietly},
};

/// The future of the inner service, with its type erased. This costs one allocation for each
/// session, and the driver is compiled only once.
pub(crate) type ServiceFuture = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

pin_project! {
    /// The future of an inner service, with its error boxed.
    ///
    /// This is not an `async` block, because one would drop a future that panics while the panic
    /// unwinds, and a second panic in that drop would abort the process.
    pub(crate) struct Erased<F> {
        #[pin]
        future: F,
    }
}

impl<F> Erased<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future }
    }
}

impl<F, E> Future for Erased<F>
where
    F: Future<Output = Result<(), E>>,
    E: Into<BoxError>,
{
    type Output = Result<(), BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx).map_err(Into::into)
    }
}

/// The service of a session: its future, or its outcome.
pub(crate) enum ServiceState {
    Running(ServiceFuture),
    Returned,
    Failed(BoxError),
    Panicked,
    /// It was dropped, at the end of its grace or at the deadline of a drain.
    Dropped,
    /// It is not polled, and its end has no effect, until the streams of its session are open.
    #[cfg(feature = "spdy")]
    Held(Box<Self>),
}

impl ServiceState {
    /// Polls a running service. A panic is an outcome like any other, which the session still tells
    /// its client.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) {
        let Self::Running(future) = self else {
            return;
        };
        let next = match catch(|| future.as_mut().poll(cx)) {
            Ok(Poll::Pending) => return,
            Ok(Poll::Ready(Ok(()))) => Self::Returned,
            Ok(Poll::Ready(Err(error))) => Self::Failed(error),
            Err(_) => {
                tracing::error!("the session's service panicked");
                Self::Panicked
            }
        };
        self.replace(next);
    }

    /// Drops the future of a service that is still running.
    pub(super) fn drop_future(&mut self) {
        #[cfg(feature = "spdy")]
        self.release();
        if let Self::Running(_) = self {
            tracing::debug!("the session's service has run out of time and is dropped");
            self.replace(Self::Dropped);
        }
    }

    /// Sets the new state before the old future is dropped, because after a panic of its poll the
    /// drop may panic as well.
    fn replace(&mut self, next: Self) {
        let old = std::mem::replace(self, next);
        drop_quietly(old, "the session's service");
    }

    pub(crate) fn is_done(&self) -> bool {
        #[cfg(feature = "spdy")]
        if let Self::Held(_) = self {
            return false;
        }
        !matches!(self, Self::Running(_))
    }

    /// Holds the service until the streams of its session are open.
    #[cfg(feature = "spdy")]
    pub(super) fn hold(&mut self) {
        let state = std::mem::replace(self, Self::Dropped);
        *self = Self::Held(Box::new(state));
    }

    #[cfg(feature = "spdy")]
    pub(super) fn is_held(&self) -> bool {
        matches!(self, Self::Held(_))
    }

    /// Ends the hold, if there is one.
    #[cfg(feature = "spdy")]
    pub(super) fn release(&mut self) {
        *self = match std::mem::replace(self, Self::Dropped) {
            Self::Held(state) => *state,
            state => state,
        };
    }

    /// Returns the cause of the session's end, if the service has ended by itself.
    pub(super) fn end_cause(&self) -> Option<EndCause> {
        match self {
            Self::Running(_) | Self::Dropped => None,
            #[cfg(feature = "spdy")]
            Self::Held(_) => None,
            Self::Returned => Some(EndCause::Completed),
            Self::Failed(_) => Some(EndCause::ServiceFailed),
            Self::Panicked => Some(EndCause::ServicePanicked),
        }
    }

    /// Returns the outcome for the last words of a session that ends with `cause`.
    pub(super) fn outcome<'a>(&'a self, cause: &'a EndCause) -> Outcome<'a> {
        match self {
            Self::Returned => Outcome::Returned,
            Self::Failed(error) => Outcome::Failed(error),
            Self::Panicked => Outcome::Panicked,
            Self::Running(_) | Self::Dropped => Outcome::Ended(cause),
            #[cfg(feature = "spdy")]
            Self::Held(_) => Outcome::Ended(cause),
        }
    }

    /// Logs the error of a service that failed. A service is not at fault if its error is the end
    /// of its own session.
    pub(super) fn log_failure(&self) {
        let Self::Failed(error) = self else { return };
        let error: &(dyn StdError + 'static) = &**error;
        let error_text = Report(error);
        match EndCause::from_error(error) {
            Some(_) => tracing::debug!(error = %error_text, "the session's service gave up"),
            None => tracing::error!(error = %error_text, "the session's service failed"),
        }
    }
}

/// Shows only the name of the state, because the `Debug` of a service's error may show anything.
impl fmt::Debug for ServiceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running(_) => "Running",
            Self::Returned => "Returned",
            Self::Failed(_) => "Failed",
            Self::Panicked => "Panicked",
            Self::Dropped => "Dropped",
            #[cfg(feature = "spdy")]
            Self::Held(_) => "Held",
        })
    }
}
