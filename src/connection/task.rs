//! The one task of a session: its driver and its service, and what becomes of
//! the service's result.

use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use hyper::upgrade::OnUpgrade;
use pin_project_lite::pin_project;
use tracing::Span;

use super::driver::Driver;
use crate::{
    error::{BoxError, EndCause, Report},
    session::{Outcome, Registered, Session},
    unwind::{catch, drop_quietly},
    wire::Turn,
};

/// The inner service's future, its types left behind: a session costs one
/// allocation for it, and the driver is compiled once.
pub(crate) type ServiceFuture = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

pin_project! {
    /// An inner service's future, with its types about to be left behind.
    ///
    /// Not an `async` block: where a future panics, that would drop it while the
    /// panic unwinds, and a second panic in its drop would abort the process.
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

/// The service of one session, and how it ended.
pub(crate) enum ServiceState {
    Running(ServiceFuture),
    Returned,
    Failed(BoxError),
    Panicked,
    /// Its grace was over.
    Dropped,
}

impl ServiceState {
    /// Polls a running service. A panic is an outcome like any other: it must
    /// not keep the session from telling it.
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

    /// Drops what has not finished.
    pub(super) fn drop_future(&mut self) {
        if let Self::Running(_) = self {
            tracing::debug!("the session's service is dropped: its grace is over");
            self.replace(Self::Dropped);
        }
    }

    /// The old future is dropped apart: its drop may panic as well, in a state
    /// that a panicking poll has left.
    fn replace(&mut self, next: Self) {
        let old = std::mem::replace(self, next);
        drop_quietly(old, "the session's service");
    }

    pub(crate) fn is_done(&self) -> bool {
        !matches!(self, Self::Running(_))
    }

    /// The cause that the service's own end is.
    pub(super) fn end_cause(&self) -> Option<EndCause> {
        match self {
            Self::Running(_) | Self::Dropped => None,
            Self::Returned => Some(EndCause::Completed),
            Self::Failed(_) => Some(EndCause::ServiceFailed),
            Self::Panicked => Some(EndCause::ServicePanicked),
        }
    }

    pub(super) fn outcome<'a>(&'a self, cause: &'a EndCause) -> Outcome<'a> {
        match self {
            Self::Returned => Outcome::Returned,
            Self::Failed(error) => Outcome::Failed(error),
            Self::Panicked => Outcome::Panicked,
            Self::Running(_) | Self::Dropped => Outcome::Ended(cause),
        }
    }
}

/// Its future may hold anything, so not even its `Debug` is asked.
impl fmt::Debug for ServiceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running(_) => "Running",
            Self::Returned => "Returned",
            Self::Failed(_) => "Failed",
            Self::Panicked => "Panicked",
            Self::Dropped => "Dropped",
        })
    }
}

/// A round that finds more to do goes round again, so often at most before the
/// task lets others run: some 2 MiB of reads.
const ROUNDS: usize = 32;

/// A service that passes on what its session has told it has not failed itself.
fn log_failure(error: &(dyn StdError + 'static)) {
    let error_text = Report(error);
    match EndCause::from_error(error) {
        Some(_) => tracing::debug!(error = %error_text, "the session's service gave up"),
        None => tracing::error!(error = %error_text, "the session's service failed"),
    }
}

/// A session: see the module.
#[derive(Debug)]
#[must_use = "a session does nothing unless it is polled"]
pub(crate) struct Task {
    driver: Driver,
    service: ServiceState,
    waker: Waker,
    turn: Arc<Turn>,
    span: Span,
    /// Tokio's budget for the last poll was used up, and nothing that was written
    /// could leave: it goes before the service is polled again.
    output_first: bool,
    /// Last: the session counts until all the rest is gone.
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

    /// Polls the service before the upgrade was answered. What wakes it from
    /// now on makes it due in the task's first round.
    pub(crate) fn first_poll(&mut self) {
        let _entered = self.span.enter();
        self.turn.take_service();
        self.service.poll(&mut Context::from_waker(&self.waker));
    }

    pub(crate) fn service(&self) -> &ServiceState {
        &self.service
    }

    /// Polls the service until it has accepted the upgrade or is done, on the
    /// task of the request.
    pub(crate) fn poll_undecided(&mut self, cx: &mut Context<'_>, session: &Session) -> Poll<()> {
        let _entered = self.span.enter();
        self.turn.register(cx.waker());
        for _ in 0..ROUNDS {
            // The driver has nothing to drive yet; it is told again below.
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
        // A service that yields waits for others, the accept timeout among them.
        self.turn.pass();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Refuses the upgrade, unless anything that was written has been accepted:
    /// then nothing happens, and the answer is `false`. Once refused, nothing is
    /// accepted any more.
    pub(crate) fn refuse(&self) -> bool {
        self.driver
            .wire()
            .outbound
            .refuse_unless_written(&EndCause::Aborted)
    }

    /// The upgrade is answered: to be spawned, and the connection will come.
    pub(crate) fn accepted(mut self, on: OnUpgrade, registered: Registered) -> Self {
        self.registered = Some(registered);
        // Too late to be refused, and not polled again: nobody else tells of it.
        if let ServiceState::Failed(error) = &self.service {
            self.span.in_scope(|| log_failure(&**error));
        }
        self.driver.expect(on);
        self
    }
}

/// In its span, and before the service's future goes: what it still holds fails.
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
                if let ServiceState::Failed(error) = &this.service {
                    log_failure(&**error);
                }
            }
            let progress = this.driver.end_turn();
            if this.driver.settle(&progress, &mut this.service) {
                return Poll::Ready(());
            }
            // Without budget every poll of the socket is pending, and wakes us:
            // going round again would spin.
            let spent = !tokio::task::coop::has_budget_remaining();
            // Only every other time: output may use all of it up as well.
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
