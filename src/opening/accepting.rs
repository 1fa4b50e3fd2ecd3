//! Between a valid handshake and its answer: the inner service is made ready,
//! called, and polled until there is something to answer.

use std::{
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Response, request::Parts};
use hyper::upgrade::OnUpgrade;
use tokio::{
    task::{Unconstrained, unconstrained},
    time::{Instant, Sleep, sleep},
};
use tower_service::Service;

use super::agreement::{Agreed, Handshake};
use crate::{
    channel::ChannelSet,
    connection::{Erased, ServiceState, Task},
    error::BoxError,
    handshake::accept::accept_response,
    rejection::Rejection,
    session::{AcceptMode, Entry, Session},
    unwind::{Quiet, catch, drop_quietly},
};

/// Names what a log says was dropped; see [`drop_quietly`].
pub(crate) const SERVICE: &str = "the inner service";
const ERROR: &str = "the error of the inner service";

/// A valid handshake that is not answered yet.
pub(crate) struct Accepting<S> {
    stage: Stage<S>,
    handshake: Handshake,
    on: Option<OnUpgrade>,
    patience: Patience,
}

/// How long is left to answer. It counts from the first wait: a service that is ready at
/// once needs no timer.
#[derive(Default)]
pub(crate) struct Patience {
    /// Whatever the service has used up of tokio's budget, its time runs out.
    timeout: Option<Pin<Box<Unconstrained<Sleep>>>>,
}

impl Patience {
    pub(crate) fn poll(&mut self, after: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let timeout = self
            .timeout
            .get_or_insert_with(|| Box::pin(unconstrained(sleep(after))));
        timeout.as_mut().poll(cx)
    }
}

#[allow(clippy::large_enum_variant, reason = "a future in a box holds the one")]
enum Stage<S> {
    Waiting {
        service: Quiet<S>,
        head: Quiet<Box<Parts>>,
    },
    /// The service was called, and may still refuse. Never locked: the mutex makes
    /// a future of the service that is `Send` alone `Sync` as well.
    Undecided {
        task: Mutex<Task>,
        session: Session,
    },
    Done,
}

impl<S> Accepting<S>
where
    S: Service<ChannelSet, Response = ()>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    /// Waits for the inner service, starts it, and answers.
    pub(crate) fn poll<B: Default>(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<B>, Rejection>> {
        if let Stage::Waiting { .. } = self.stage {
            ready!(self.poll_ready(cx))?;
            self.start()?;
        }
        ready!(self.poll_decision(cx))?;
        Poll::Ready(self.answer())
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        let Stage::Waiting { service, .. } = &mut self.stage else {
            panic!("polled after it was ready");
        };
        let rejection = match catch(|| service.get_mut().poll_ready(cx).map_err(Into::into)) {
            Ok(Poll::Ready(Ok(()))) => return Poll::Ready(Ok(())),
            Ok(Poll::Ready(Err(error))) => {
                let rejection = self.handshake.refusal(&error);
                drop_quietly(error, ERROR);
                rejection
            }
            Err(_) => Rejection::panicked("the poll_ready of the inner service"),
            Ok(Poll::Pending) => {
                ready!(self.poll_timeout(cx));
                Rejection::not_ready("the server has no room for another session: try again later")
            }
        };
        self.give_up();
        Poll::Ready(Err(rejection))
    }

    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.patience.poll(self.handshake.config.accept_timeout, cx)
    }

    /// Calls the service; its future is polled next.
    fn start(&mut self) -> Result<(), Rejection> {
        let Stage::Waiting { mut service, head } = std::mem::replace(&mut self.stage, Stage::Done)
        else {
            panic!("polled after it was ready");
        };
        let (driver, session, set) = self.handshake.session(head.into_inner());
        let called = catch(|| service.get_mut().call(set));
        drop(service);
        let future = called.map_err(|_| Rejection::panicked("the call of the inner service"))?;

        let span = tracing::info_span!(
            "session",
            id = session.id(),
            subprotocol = %self.handshake.subprotocol
        );
        let task = Task::new(driver, Box::pin(Erased::new(future)), span);
        self.stage = Stage::Undecided {
            task: Mutex::new(task),
            session,
        };
        Ok(())
    }

    fn poll_decision(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        let Stage::Undecided { task, session } = &mut self.stage else {
            panic!("polled after it was ready");
        };
        let task = task.get_mut().unwrap_or_else(PoisonError::into_inner);
        match self.handshake.config.accept {
            AcceptMode::Immediate => task.first_poll(),
            AcceptMode::Explicit => {
                if task.poll_undecided(cx, session).is_pending() {
                    ready!(self.poll_timeout(cx));
                    self.give_up();
                    return Poll::Ready(Err(Rejection::not_ready(
                        "the service did not accept the session in time: it has to call Session::accept",
                    )));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn answer<B: Default>(&mut self) -> Result<Response<B>, Rejection> {
        let (Stage::Undecided { task, session }, Some(on)) = (
            std::mem::replace(&mut self.stage, Stage::Done),
            self.on.take(),
        ) else {
            panic!("polled after it was ready");
        };
        let task = task.into_inner().unwrap_or_else(PoisonError::into_inner);
        let failed = matches!(
            task.service(),
            ServiceState::Failed(_) | ServiceState::Panicked
        );
        // A close that was asked for counts like a write that was accepted: the client is to
        // see it. Where the service accepts, nothing counts before it has.
        let immediate = self.handshake.config.accept == AcceptMode::Immediate;
        let refuse = || !(immediate && session.is_closing()) && task.refuse();
        // First nothing more is accepted, then the error is asked what it is:
        // it may own a writer.
        if failed && !session.is_accepting() && refuse() {
            let rejection = match task.service() {
                ServiceState::Failed(error) => self.handshake.refusal(error),
                _ => Rejection::internal(),
            };
            drop_quietly(task, SERVICE);
            return Err(rejection);
        }
        let entry = Entry {
            session: session.clone(),
            subprotocol: self.handshake.subprotocol.clone(),
            peer: self.handshake.peer.clone(),
            since: Instant::now(),
        };
        let sessions = &self.handshake.config.sessions;
        let Ok(registered) = sessions.register(entry, refuse) else {
            drop_quietly(task, SERVICE);
            return Err(Rejection::draining());
        };
        session.set_accepted();
        tokio::spawn(task.accepted(on, registered));
        let Handshake {
            challenge,
            subprotocol,
            ..
        } = &self.handshake;
        let response = accept_response(challenge, subprotocol);
        // `testing::Client` cannot know what a name stands for in a table that is not ours.
        #[cfg(feature = "testing")]
        let response = {
            let mut response: Response<_> = response;
            let config = self.handshake.channels.clone();
            response.extensions_mut().insert(config);
            response
        };
        Ok(response)
    }
}

impl<S> Accepting<S> {
    pub(crate) fn new(service: S, agreed: Agreed, patience: Patience) -> Self {
        let Agreed {
            handshake,
            on,
            head,
        } = agreed;
        let service = Quiet::new(service, SERVICE);
        Self {
            stage: Stage::Waiting { service, head },
            handshake,
            on: Some(on),
            patience,
        }
    }

    /// There will be no session.
    fn give_up(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Undecided { task, .. } => drop_quietly(task, SERVICE),
            Stage::Waiting { .. } | Stage::Done => {}
        }
    }
}

/// The client has left, or has its answer.
impl<S> Drop for Accepting<S> {
    fn drop(&mut self) {
        self.give_up();
    }
}
