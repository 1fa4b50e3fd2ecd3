//! The driver's part in a session whose channels are SPDY streams.
//!
//! The streams themselves are in `streams::StreamMux`. The driver calls it once a round, after the service
//! was polled and before output leaves, so that what the service decides leaves in the same write.

use tokio::time::Instant;

use super::{
    consequences::{Urgency, urgency},
    driver::Driver,
    service::ServiceState,
};
use crate::{error::EndCause, frame::ClosePayload, policy::Deadline, wire::Condition};

impl Driver {
    /// Sends what follows from the decisions of the service and its handles.
    pub(super) fn end_round_of_streams(&mut self) {
        let Some(mux) = self.inflow.stream_mux() else {
            return;
        };
        mux.end_round();
        self.move_streams_deadline();
    }

    fn move_streams_deadline(&mut self) {
        let Some(mux) = self.inflow.stream_mux() else {
            return;
        };
        let due = mux.next_due();
        let before = self.deadlines.get(Deadline::Streams);
        match due {
            Some(at) => self.deadlines.set(Deadline::Streams, at),
            None => self.deadlines.clear(Deadline::Streams),
        }
        // The timer is not armed in a quiet round, unless this asks for it.
        if due.is_some_and(|at| before.is_none_or(|before| at < before)) {
            self.timer.reconsider();
        }
    }

    /// Handles the expired deadlines of streams.
    pub(super) fn expire_streams(&mut self, now: Instant) {
        let Some(mux) = self.inflow.stream_mux() else {
            return;
        };
        let cause = mux.expire(now);
        self.move_streams_deadline();
        if let Some(cause) = cause {
            self.end(cause);
        }
        self.wire.turn.wake_driver();
    }

    /// Returns whether the service has to wait until the streams of its channels are open.
    pub(super) fn awaits_streams(&mut self) -> bool {
        (self.inflow.stream_mux()).is_some_and(|mux| !mux.is_complete())
    }

    /// Starts a service that was held, once the streams of its channels are open. If the session
    /// ends before, the service is dropped: it must not start a command whose client has gone.
    pub(super) fn settle_service(&mut self, service: &mut ServiceState) {
        if !service.is_held() {
            return;
        }
        if !self.closing.is_open() {
            service.drop_future();
        } else if !self.awaits_streams() {
            service.release();
            self.wire.outbound.accept(Condition::Streams);
            self.wire.turn.service_waker().wake();
        }
    }

    /// Ends the streams, in front of the end of the session, which `frame` tells.
    pub(super) fn end_streams(&mut self, frame: &ClosePayload) {
        let told = frame.code() == Some(1000);
        let failed = !told && self.closing.cause().is_some_and(has_outcome);
        if let Some(mux) = self.inflow.stream_mux() {
            mux.end_streams(failed);
        }
    }

    /// Notes that reading is paused, or that it continues. Pacing stops meanwhile, because this end
    /// sees no answers to PINGs.
    pub(super) fn note_pause(&mut self, paused: bool) {
        if self.inflow.stream_mux().is_some() {
            self.wire.outbound.pause_pacing(paused);
        }
    }

    /// Continues a pause that ends with output, once output has left.
    ///
    /// Nothing else wakes the driver if all of it has left in this round.
    pub(super) fn resume_after_output(&mut self) {
        if (self.inflow.stream_mux()).is_some_and(|mux| mux.waits_for_output())
            && self.inflow.poll_room().is_ready()
        {
            self.wire.turn.wake_driver();
        }
    }
}

/// Returns whether the service has an outcome to tell after this cause. If it was not told, streams
/// are reset: one that ends in order looks complete, and an empty error stream is a success before
/// v4.
fn has_outcome(cause: &EndCause) -> bool {
    // A client that has closed the session does not wait for one.
    let closed = matches!(cause, EndCause::PeerClosed { .. });
    urgency(cause) == Urgency::WaitForService && !closed
}
