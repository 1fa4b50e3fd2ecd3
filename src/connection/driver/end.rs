//! The end: a cause comes, the service has its grace, the last words are said,
//! the Close frame goes out.

use bytes::Bytes;
use tokio::time::Instant;

use super::Driver;
use crate::{
    connection::{
        closing::{Ending, Phase},
        consequences::{self, Urgency},
        reading::Reading,
        service::ServiceState,
    },
    error::EndCause,
    frame::ClosePayload,
    policy::after,
    session::Outcome,
    unwind::catch,
    wire::End,
};

impl Driver {
    /// A cause has come. The first one is told; a later one can only make the
    /// end come sooner.
    pub(in crate::connection) fn end(&mut self, cause: EndCause) {
        let urgency = consequences::urgency(&cause);
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        let closing = !matches!(self.phase, Phase::Open);
        if closing && urgency != Urgency::Gone {
            return;
        }
        let now = Instant::now();
        let deadline = after(
            now,
            consequences::grace(&cause, self.close_ends_input, &self.config),
        );
        match &mut self.ending {
            Some(ending) if urgency == Urgency::WaitForService => {
                // A service that failed waits for its writers only; a Close
                // of the peer changes nothing about that.
                ending.deadline = ending.deadline.min(deadline);
                return;
            }
            Some(ending) => ending.deadline = ending.deadline.min(deadline),
            None => {
                tracing::debug!(session = self.session.id(), %cause, "the session ends");
                // A service that has returned may have left readers with other
                // tasks: they learn with the end, not before.
                if cause != EndCause::ServiceFailed && cause != EndCause::ServicePanicked {
                    self.mux.end_all(&End::Error(cause.clone()));
                }
                self.session.set_cause(&cause);
                self.ending = Some(Ending {
                    cause: cause.clone(),
                    deadline,
                });
            }
        }
        match urgency {
            Urgency::WaitForService | Urgency::CloseNow => {}
            Urgency::CloseOnly => {
                self.start_closing(&consequences::close_frame(&cause, false), true)
            }
            Urgency::Gone => self.abandon(&cause),
        }
        self.wire.turn.wake_driver();
    }

    /// Drops the connection as it is.
    pub(super) fn abandon(&mut self, cause: &EndCause) {
        self.mux.end_all(&End::Error(cause.clone()));
        self.upgrading = None;
        self.wire.outbound.refuse_writers(cause);
        self.close_transport();
    }

    fn start_closing(&mut self, frame: &ClosePayload, discard: bool) {
        let cause = self.cause().cloned().unwrap_or(EndCause::Completed);
        self.wire.outbound.refuse_writers(&cause);
        self.mux.end_all(&End::Error(cause));
        if discard {
            self.holding = None;
        }
        self.wire.outbound.close(frame, discard);
        self.story.said = frame.code();
        self.phase = self.closing(Instant::now());
        self.wire.turn.wake_driver();
    }

    /// The service is done, or its grace is over: says what is to be said last.
    pub(super) fn say_last(&mut self, service: &ServiceState) {
        let Some(ending) = &self.ending else { return };
        let outcome = service.outcome(&ending.cause);
        let told = match self.session.take_last_words() {
            None => matches!(outcome, Outcome::Returned),
            Some(words) => {
                // It is the service's code: a panic in it must not take the
                // session's end with it.
                let words = catch(|| words(&outcome)).unwrap_or(None);
                let told = words.is_some();
                if let Some(words) = words {
                    self.story.status = words.status;
                    if let Some((channel, message)) = words.message {
                        self.wire.outbound.last_words(channel, message);
                    }
                }
                told
            }
        };
        let frame = match (&ending.cause, self.close.take()) {
            (EndCause::Closed { .. }, Some(frame)) => frame,
            (cause, _) => consequences::close_frame(cause, told),
        };
        self.start_closing(&frame, false);
    }

    /// All was said: lets the socket go.
    pub(super) fn close_transport(&mut self) {
        self.reading = Reading::None;
        self.rest = Bytes::new();
        self.holding = None;
        self.pause = None;
        self.phase = Phase::Closed;
        if let Some(transport) = self.wire.outbound.take_transport() {
            transport.close();
        }
        self.wire.turn.wake_driver();
    }
}
