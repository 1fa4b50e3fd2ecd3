use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::{
    ExitStatus,
    outcome::{self, Decided, decide},
    sizes::Resizes,
};
use crate::{
    BoxError, Rejection, Session,
    error::Report,
    rejection::known::Known,
    unwind::{catch, drop_quietly},
};

pin_project! {
    /// The future of a [`RemoteCommandService`](super::RemoteCommandService), which runs one
    /// command.
    #[must_use = "futures do nothing unless polled"]
    pub struct RemoteCommandFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<F> {
        Refused { rejection: Option<Rejection> },
        /// The outcome is already decided, and the last words will report it.
        Decided,
        Running {
            #[pin]
            future: F,
            resizes: Resizes,
            decided: Decided,
            session: Session,
        },
    }
}

impl<F> RemoteCommandFuture<F> {
    pub(super) fn refused(rejection: Rejection) -> Self {
        Self {
            kind: Kind::Refused {
                rejection: Some(rejection),
            },
        }
    }

    pub(super) fn decided() -> Self {
        Self {
            kind: Kind::Decided,
        }
    }

    pub(super) fn running(future: F, resizes: Resizes, decided: Decided, session: Session) -> Self {
        Self {
            kind: Kind::Running {
                future,
                resizes,
                decided,
                session,
            },
        }
    }
}

impl<F, E> Future for RemoteCommandFuture<F>
where
    F: Future<Output = Result<ExitStatus, E>>,
    E: Into<BoxError>,
{
    type Output = Result<(), BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (future, resizes, decided, session) = match self.project().kind.project() {
            KindProj::Refused { rejection } => {
                return match rejection.take() {
                    Some(rejection) => Poll::Ready(Err(rejection.into())),
                    None => panic!("polled after it was ready"),
                };
            }
            KindProj::Decided => return Poll::Ready(Ok(())),
            KindProj::Running {
                future,
                resizes,
                decided,
                session,
            } => (future, resizes, decided, session),
        };
        resizes.poll(cx);
        // Errors and panics are reported like an exit status, because kubectl prints only a Status,
        // and tries SPDY if the upgrade fails.
        let status = match catch(|| future.poll(cx).map_err(Into::into)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Ok(exit))) => exit.to_status(),
            Ok(Poll::Ready(Err(error))) => {
                if !session.is_accepted() && is_rejection(&*error) {
                    return Poll::Ready(Err(error));
                }
                tracing::debug!(error = %Report(&*error), "the command's service failed");
                let status = outcome::of_error(&*error);
                drop_quietly(error, "the error of a command");
                status
            }
            Err(_) => {
                tracing::error!("the command's service panicked");
                outcome::panicked()
            }
        };
        decide(decided, status);
        Poll::Ready(Ok(()))
    }
}

fn is_rejection(error: &(dyn StdError + 'static)) -> bool {
    Known::all(error).any(|known| match known {
        Known::Rejection(_) => true,
        Known::Status(_) | Known::Overloaded | Known::Elapsed | Known::Ended(_) => false,
    })
}

impl<F> fmt::Debug for RemoteCommandFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteCommandFuture")
            .finish_non_exhaustive()
    }
}
