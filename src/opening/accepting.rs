//! The state machine of an opening, from a valid request to its answer.
//!
//! ```text
//!     table to look up          table known            head used elsewhere
//!           |                        |                         |
//!           v                        v                         |
//!       LookingUp ---- table ---> Waiting <--------------------+
//!           |                        |
//!           |                        | ready: called
//!           |                        v
//!           |                    Undecided ---- accepted ----> 101, session spawned
//!           |                        |
//!           +------------------------+-- error, panic, timeout, drain ----> refusal
//! ```
//!
//! Each stage owns the values that it needs, and a step takes the stage by value. So a refusal, a
//! panic and a drop all release these values, and no clean-up is necessary.

#[cfg(test)]
mod tests;

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Response, request::Parts};
use tokio::time::Instant;
use tower_service::Service;

use super::{
    agreement::{Agreement, Head, Proposal},
    exclusive::Exclusive,
    patience::Patience,
};
use crate::{
    channel::ChannelSet,
    connection::{Erased, ServiceState, Task},
    error::BoxError,
    handshake::{
        accept::accept_response,
        detect::Upgrade,
        source::{Source, TableFuture, ask},
    },
    rejection::Rejection,
    session::{AcceptMode, Entry, Session, SessionConfig},
    unwind::Quiet,
};

/// The name of the service in logs; see [`Quiet`].
pub(crate) const SERVICE: &str = "the inner service";

/// A valid request for an upgrade that was not answered yet.
pub(crate) struct Accepting<S> {
    stage: Stage<S>,
    patience: Patience,
}

#[allow(
    clippy::large_enum_variant,
    reason = "each future holds one, in a box, until it is answered"
)]
enum Stage<S> {
    LookingUp(LookingUp<S>),
    Waiting(Waiting<S>),
    Undecided(Undecided),
    Done,
}

/// The result of a step that does not refuse.
#[allow(
    clippy::large_enum_variant,
    reason = "a step is matched on as soon as it is returned"
)]
enum Step<S, B> {
    /// The stage waits for a wake-up. At the accept timeout, the text is that of the refusal.
    Wait(Stage<S>, &'static str),
    Next(Stage<S>),
    Answer(Response<B>),
}

impl<S> Accepting<S> {
    /// Checks the head, and makes the service of the session if the request passes.
    ///
    /// # Errors
    /// Returns the refusal, if the head alone is enough to refuse.
    pub(crate) fn begin(
        upgrade: Upgrade,
        head: Box<Parts>,
        source: &Source,
        config: &Arc<SessionConfig>,
        service: impl FnOnce() -> S,
    ) -> Result<Self, Rejection> {
        let service = Quiet::new(service, SERVICE);
        let make = || {
            Rejection::on_panic("the clone of the inner service", service.into_inner())
                .map(|service| Quiet::new(service, SERVICE))
        };
        let proposal = Proposal::judge(upgrade, head, config)?;
        let stage = match source {
            Source::Now(source) => {
                let table = ask(|| source.protocols(proposal.head()))?;
                let (agreement, head) = proposal.select(&table)?;
                Stage::Waiting(Waiting {
                    service: make()?,
                    agreement,
                    head: Some(head),
                })
            }
            Source::Later(look_up) => {
                let table = ask(|| Ok(look_up(proposal.head())))?;
                let table = Quiet::new(table, "the look-up of the subprotocols");
                Stage::LookingUp(LookingUp {
                    table: Exclusive::new(table),
                    proposal,
                    service: make()?,
                })
            }
        };
        Ok(Self {
            stage,
            patience: Patience::new(config.accept_timeout),
        })
    }

    /// Begins after the subprotocol was selected. The head was used elsewhere, so the channels do
    /// not have one.
    pub(crate) fn agreed(service: S, agreement: Agreement) -> Self {
        Self {
            patience: Patience::new(agreement.config.accept_timeout),
            stage: Stage::Waiting(Waiting {
                service: Quiet::new(service, SERVICE),
                agreement,
                head: None,
            }),
        }
    }
}

impl<S> Accepting<S>
where
    S: Service<ChannelSet, Response = ()>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    /// Runs the stages until there is an answer.
    ///
    /// # Panics
    /// Panics if it is polled again after it was ready.
    pub(crate) fn poll<B: Default>(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<B>, Rejection>> {
        loop {
            let step = match mem::replace(&mut self.stage, Stage::Done) {
                Stage::LookingUp(stage) => stage.step(cx),
                Stage::Waiting(stage) => stage.step(cx),
                Stage::Undecided(stage) => stage.step(cx),
                Stage::Done => panic!("polled after it was ready"),
            };
            match step? {
                Step::Next(stage) => self.stage = stage,
                Step::Answer(response) => return Poll::Ready(Ok(response)),
                Step::Wait(stage, overdue) => {
                    if self.patience.poll(cx).is_ready() {
                        return Poll::Ready(Err(Rejection::not_ready(overdue)));
                    }
                    self.stage = stage;
                    return Poll::Pending;
                }
            }
        }
    }
}

/// The stage in which the table of subprotocols is looked up.
struct LookingUp<S> {
    table: Exclusive<Quiet<TableFuture>>,
    proposal: Proposal,
    service: Quiet<S>,
}

impl<S> LookingUp<S> {
    fn step<B>(mut self, cx: &mut Context<'_>) -> Result<Step<S, B>, Rejection> {
        let future = self.table.get_mut().get_mut();
        let table = match ask(|| Ok(future.as_mut().poll(cx)))? {
            Poll::Ready(table) => table?,
            Poll::Pending => {
                return Ok(Step::Wait(
                    Stage::LookingUp(self),
                    "the server did not look up its subprotocols in time: try again later",
                ));
            }
        };
        self.proposal.refuse_if_draining()?;
        let (agreement, head) = self.proposal.select(&table)?;
        Ok(Step::Next(Stage::Waiting(Waiting {
            service: self.service,
            agreement,
            head: Some(head),
        })))
    }
}

/// The stage in which the service is not ready yet.
struct Waiting<S> {
    service: Quiet<S>,
    agreement: Agreement,
    head: Option<Head>,
}

impl<S> Waiting<S>
where
    S: Service<ChannelSet, Response = ()>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    fn step<B>(mut self, cx: &mut Context<'_>) -> Result<Step<S, B>, Rejection> {
        let service = self.service.get_mut();
        let polled = Rejection::on_panic("the poll_ready of the inner service", || {
            service.poll_ready(cx).map_err(Into::into)
        });
        match polled? {
            Poll::Ready(Ok(())) => self.call(),
            Poll::Ready(Err(error)) => {
                let error = Quiet::new(error, "the error of the inner service");
                Err(self.agreement.refusal(error.get_ref()))
            }
            Poll::Pending => Ok(Step::Wait(
                Stage::Waiting(self),
                "the server has no room for another session: try again later",
            )),
        }
    }

    /// Calls the service. Its future is polled in the next stage.
    fn call<B>(self) -> Result<Step<S, B>, Rejection> {
        let Self {
            mut service,
            mut agreement,
            head,
        } = self;
        let (driver, session, set) = agreement.assemble(head);
        let called = Rejection::on_panic("the call of the inner service", || {
            service.get_mut().call(set)
        });
        // Dropped before the first poll of the future. A panic in this drop refuses nothing.
        drop(service);
        let future = called?;

        let span = tracing::info_span!(
            "session",
            id = session.id(),
            subprotocol = %agreement.subprotocol
        );
        let task = Task::new(driver, Box::pin(Erased::new(future)), span);
        Ok(Step::Next(Stage::Undecided(Undecided {
            task: Exclusive::new(Quiet::new(task, SERVICE)),
            session,
            agreement,
        })))
    }
}

/// The stage in which the service was called, and may still refuse.
struct Undecided {
    task: Exclusive<Quiet<Task>>,
    session: Session,
    agreement: Agreement,
}

impl Undecided {
    fn step<S, B: Default>(mut self, cx: &mut Context<'_>) -> Result<Step<S, B>, Rejection> {
        let task = self.task.get_mut().get_mut();
        match self.agreement.config.accept {
            AcceptMode::Immediate => task.first_poll(),
            AcceptMode::Explicit => {
                if task.poll_undecided(cx, &self.session).is_pending() {
                    return Ok(Step::Wait(
                        Stage::Undecided(self),
                        "the service did not accept the session in time: it has to call Session::accept",
                    ));
                }
            }
        }
        self.answer().map(Step::Answer)
    }

    /// Accepts the upgrade and spawns the session, unless the service has failed before it
    /// accepted.
    fn answer<B: Default>(self) -> Result<Response<B>, Rejection> {
        let Self {
            task,
            session,
            agreement,
        } = self;
        let task = task.into_inner();
        let failed = match task.get_ref().service() {
            ServiceState::Failed(_) | ServiceState::Panicked => true,
            ServiceState::Running(_) | ServiceState::Returned | ServiceState::Dropped => false,
            #[cfg(feature = "spdy")]
            ServiceState::Held(_) => false,
        };
        // The client has to see a close of the service, so it accepts as a write does. In explicit
        // mode, neither accepts.
        let immediate = agreement.config.accept == AcceptMode::Immediate;
        let refuse = || !(immediate && session.is_closing()) && task.get_ref().refuse();
        // `refuse` also refuses further writes. This comes before the error is examined, because
        // the error may own a writer.
        if failed && !session.is_accepting() && refuse() {
            return Err(match task.get_ref().service() {
                ServiceState::Failed(error) => agreement.refusal(error),
                _ => Rejection::internal(),
            });
        }
        let entry = Entry {
            session: session.clone(),
            subprotocol: agreement.subprotocol.clone(),
            peer: agreement.peer,
            since: Instant::now(),
        };
        let sessions = &agreement.config.sessions;
        let Ok(registered) = sessions.register(entry, refuse) else {
            return Err(Rejection::draining());
        };
        session.set_accepted();
        tokio::spawn(task.into_inner().accepted(agreement.on, registered));
        let response = accept_response(&agreement.challenge, &agreement.subprotocol);
        // `testing::Client` cannot know the channels of a subprotocol in a table of the user's.
        #[cfg(feature = "testing")]
        let response = {
            let mut response: Response<_> = response;
            response.extensions_mut().insert(agreement.channels);
            response
        };
        Ok(response)
    }
}
