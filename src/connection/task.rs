//! The task of a session, which polls its driver and its service in rounds.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use hyper::upgrade::OnUpgrade;
use tracing::Span;

use super::{
    driver::Driver,
    service::{ServiceFuture, ServiceState},
};
use crate::{
    error::EndCause,
    session::{Registered, Session},
    wire::Turn,
};

/// The most rounds in one poll of the task. If each round finds more to do, which amounts to about
/// 2 MiB of reads, other tasks get their turn after this many.
const ROUNDS: usize = 32;

/// A session, to be spawned once its upgrade is answered.
#[derive(Debug)]
#[must_use = "a session does nothing unless it is polled"]
pub(crate) struct Task {
    driver: Driver,
    service: ServiceState,
    waker: Waker,
    turn: Arc<Turn>,
    span: Span,
    /// The last poll used up tokio's budget before any output could leave. The next one sends
    /// output before it polls the service.
    output_first: bool,
    /// The last field, so that the session counts as live until everything else is dropped.
    registered: Option<Registered>,
}

impl Task {
    pub(crate) fn new(driver: Driver, service: ServiceFuture, span: Span) -> Self {
        let turn = Arc::clone(&driver.wire().turn);
        Self {
            driver,
            service: ServiceState::Running(service),
            waker: turn.service_waker(),
            turn,
            span,
            output_first: false,
            registered: None,
        }
    }

    /// Polls the service before the upgrade is answered. After a wake-up from now on, the service
    /// is polled in the task's first round.
    pub(crate) fn first_poll(&mut self) {
        let _entered = self.span.enter();
        self.turn.take_service();
        self.service.poll(&mut Context::from_waker(&self.waker));
    }

    pub(crate) fn service(&self) -> &ServiceState {
        &self.service
    }

    /// Polls the service on the task of the request, until it has accepted the upgrade or is done.
    pub(crate) fn poll_undecided(&mut self, cx: &mut Context<'_>, session: &Session) -> Poll<()> {
        let _entered = self.span.enter();
        self.turn.register(cx.waker());
        for _ in 0..ROUNDS {
            // The driver has no connection yet, so its wake-up is repeated below.
            self.turn.begin();
            if self.turn.take_service() {
                self.service.poll(&mut Context::from_waker(&self.waker));
            }
            if session.is_accepting() || self.service.is_done() {
                self.turn.pass();
                self.turn.wake_driver();
                return Poll::Ready(());
            }
            if self.turn.end() {
                return Poll::Pending;
            }
        }
        // If the service keeps yielding, other tasks and the accept timeout have to run.
        self.turn.pass();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Refuses the upgrade and all further writes, unless a write was accepted already. Returns
    /// whether it refused.
    pub(crate) fn refuse(&self) -> bool {
        self.driver
            .wire()
            .outbound
            .refuse_unless_written(&EndCause::Aborted)
    }

    /// Accepts the upgrade, and returns the task to spawn, which waits for the connection.
    pub(crate) fn accepted(mut self, on: OnUpgrade, registered: Registered) -> Self {
        self.registered = Some(registered);
        // If the service failed too late to refuse the upgrade, this is the only chance to log it,
        // because a service that is done is not polled again.
        self.span.in_scope(|| self.service.log_failure());
        #[cfg(feature = "spdy")]
        if self.driver.awaits_streams() {
            self.service.hold();
        }
        self.driver.expect(on);
        self
    }
}

/// Ends the session in its span. This comes before the drop of the service's future, so the handles
/// in the future fail from here on.
impl Drop for Task {
    fn drop(&mut self) {
        let _entered = self.span.enter();
        self.driver.finish();
    }
}

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let _entered = this.span.enter();
        this.turn.register(cx.waker());
        let mut output_first = this.output_first;
        for _ in 0..ROUNDS {
            let driver_due = this.turn.begin();
            this.driver.wire().outbound.begin_turn(driver_due);
            if driver_due {
                this.driver.run();
            }
            if !output_first && this.turn.take_service() && !this.service.is_done() {
                this.service.poll(&mut Context::from_waker(&this.waker));
                this.service.log_failure();
            }
            let progress = this.driver.end_turn();
            if this.driver.finish_round(&progress, &mut this.service) {
                return Poll::Ready(());
            }
            // Without budget, every poll of the socket is pending and wakes the task, so another
            // round would spin.
            let spent = !tokio::task::coop::has_budget_remaining();
            // Only in every other poll, because output may use up the budget as well.
            this.output_first = spent && !output_first;
            if this.turn.end() {
                return Poll::Pending;
            }
            if spent {
                break;
            }
            output_first = false;
        }
        this.turn.pass();
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
