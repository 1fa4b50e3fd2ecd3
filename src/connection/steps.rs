//! The execution of the steps that [`Closing`](super::closing::Closing) decides on.

use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    closing::{Event, Output, Shutdown, Step},
    driver::Driver,
    service::ServiceState,
    watch::Half,
};
use crate::{
    error::EndCause,
    frame::ClosePayload,
    policy::Deadline,
    session::Outcome,
    unwind::catch,
    wire::{End, Progress},
};

impl Driver {
    /// Ends the session for this cause. If it is already ending, the cause may make the end come
    /// sooner.
    pub(super) fn end(&mut self, cause: EndCause) {
        self.advance(Event::Cause(cause), Instant::now());
    }

    /// Reports an event to the closing state machine, and carries out the steps that follow.
    pub(super) fn advance(&mut self, event: Event, now: Instant) {
        let mut event = event;
        loop {
            event = match self.closing.on(event, &mut self.deadlines.at(now)) {
                Step::Wait => return,
                Step::Tell { readers } => {
                    self.tell_cause(readers);
                    Event::Told
                }
                Step::Close { frame, discard } => {
                    self.queue_close(&frame, discard);
                    Event::CloseQueued(self.wire.outbound.due(now))
                }
                Step::ShutDown => Event::ShutDown(self.shut_down()),
                Step::Abandon(cause) => return self.abandon(&cause),
                Step::Release => return self.release_transport(),
            };
        }
    }

    fn tell_cause(&mut self, readers: bool) {
        let Some(cause) = self.closing.cause() else {
            return;
        };
        tracing::debug!(session = self.session.id(), %cause, "the session ends");
        if readers {
            self.inflow.end_all(&End::Error(cause.clone()));
        }
        self.session.set_cause(cause);
        self.wire.turn.wake_driver();
    }

    fn queue_close(&mut self, frame: &ClosePayload, discard: bool) {
        if let Some(cause) = self.closing.cause() {
            self.wire.outbound.refuse_writers(cause);
            self.inflow.end_all(&End::Error(cause.clone()));
        }
        if discard {
            self.forget_hold();
        }
        #[cfg(feature = "spdy")]
        self.end_streams(frame);
        self.wire.outbound.close(frame, discard);
        self.story.close_code = frame.code();
        self.wire.turn.wake_driver();
    }

    fn shut_down(&mut self) -> Shutdown {
        let cx = &mut Context::from_waker(&self.waker);
        match self.wire.outbound.poll_shutdown(cx) {
            Poll::Ready(Ok(())) => {
                self.wire.turn.wake_driver();
                Shutdown::Done
            }
            Poll::Ready(Err(_)) => Shutdown::Failed,
            Poll::Pending => Shutdown::Pending,
        }
    }

    /// Drops the connection as it is.
    fn abandon(&mut self, cause: &EndCause) {
        self.inflow.end_all(&End::Error(cause.clone()));
        self.upgrading = None;
        self.deadlines.clear(Deadline::Upgrade);
        self.wire.outbound.refuse_writers(cause);
        self.release_transport();
    }

    fn release_transport(&mut self) {
        self.reading.half = Half::None;
        self.reading.undecoded = Bytes::new();
        self.forget_hold();
        self.deadlines.clear(Deadline::Pause);
        if let Some(transport) = self.wire.outbound.take_transport() {
            transport.close();
        }
        self.wire.turn.wake_driver();
    }

    /// Advances the closing state machine after a round of the task.
    pub(super) fn advance_end(
        &mut self,
        now: Instant,
        progress: &Progress,
        service: &ServiceState,
    ) {
        let service_done = service.is_done();
        let open_writers = self.wire.outbound.open_writers();
        let grace_over = self.deadlines.is_expired(Deadline::Grace, now);
        if (self.closing).may_say_last(service_done, open_writers, grace_over) {
            let told = self.say_last(service);
            // The closure may have taken a long time, and the peer's time counts from here.
            self.advance(Event::LastWordsSaid { told }, Instant::now());
        }
        let output = self.output(progress, now);
        let round = Event::RoundOver {
            service_done,
            output,
        };
        self.advance(round, now);
    }

    fn output(&self, progress: &Progress, now: Instant) -> Output {
        if progress.idle && !self.wire.outbound.has_output() {
            Output::Gone
        } else if self.hold.is_some() {
            Output::Held(self.wire.outbound.due(now))
        } else if progress.wrote || progress.throttled.is_some() {
            Output::Moving
        } else {
            Output::Waiting
        }
    }

    /// Queues the last words, if there are any. Returns whether the peer then knows the outcome in
    /// full.
    fn say_last(&mut self, service: &ServiceState) -> bool {
        // A success is silent on streams that end in order, so a client without them does not hear it.
        #[cfg(feature = "spdy")]
        let hears = !self.awaits_streams();
        #[cfg(not(feature = "spdy"))]
        let hears = true;
        let Some(cause) = self.closing.cause() else {
            return false;
        };
        let outcome = service.outcome(cause);
        let Some(words) = self.session.take_last_words() else {
            return hears && matches!(outcome, Outcome::Returned);
        };
        // This runs the service's code. If it panics, the session still ends in order.
        let words = catch(|| words(&outcome)).unwrap_or_else(|_| {
            tracing::error!("the closure of say_last panicked");
            None
        });
        let Some(words) = words else {
            return false;
        };
        self.story.status = words.status;
        let Some((channel, message)) = words.message else {
            return hears;
        };
        // Its client may have reset the stream, or not opened it.
        #[cfg(feature = "spdy")]
        if (self.inflow.stream_mux()).is_some_and(|mux| !mux.sends(channel)) {
            tracing::debug!(channel, "the last words are lost: their stream is not open");
            return false;
        }
        let is_said = self.wire.outbound.last_words(cause, channel, message);
        if !is_said {
            tracing::error!(
                channel,
                "the last words are for a channel that does not exist"
            );
        }
        is_said
    }
}
