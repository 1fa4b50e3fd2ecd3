use std::{
    borrow::Cow,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Response, request::Parts};
use hyper::upgrade::OnUpgrade;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower_service::Service as TowerService;

use crate::{
    body::ResponseBody,
    channel::ChannelSet,
    config::Config,
    connection::{Driver, DriverParts, Erased, Service, Task},
    error::{BoxError, Report},
    handshake::{Rejection, RejectionKind, accept::accept_response, validate::Key},
    protocol::{ChannelProtocolConfig, Encoding},
    session::Session,
    wire::{Format, Shared, Turn, WireConfig},
};

pin_project! {
    /// The answer to a request of [`WsStream`](crate::WsStream).
    ///
    /// Until it is ready nothing is spawned. Dropping it before that drops the
    /// inner service's future, and nothing is left behind.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, S> {
        #[pin]
        kind: Kind<F, S>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<F, S> {
        Fallback { #[pin] future: F },
        Refused { rejection: Option<Rejection> },
        Accepting { accepting: Box<Accepting<S>> },
    }
}

impl<F, S> ResponseFuture<F, S> {
    pub(crate) fn fallback(future: F) -> Self {
        Self {
            kind: Kind::Fallback { future },
        }
    }

    pub(crate) fn refused(rejection: Rejection) -> Self {
        Self {
            kind: Kind::Refused {
                rejection: Some(rejection),
            },
        }
    }

    pub(crate) fn accepting(accepting: Accepting<S>) -> Self {
        Self {
            kind: Kind::Accepting {
                accepting: Box::new(accepting),
            },
        }
    }
}

impl<F, S, B, E> Future for ResponseFuture<F, S>
where
    F: Future<Output = Result<Response<B>, E>>,
    S: TowerService<ChannelSet, Response = ()>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match self.project().kind.project() {
            KindProj::Fallback { future } => {
                let response = ready!(future.poll(cx))?;
                return Poll::Ready(Ok(response.map(ResponseBody::inner)));
            }
            KindProj::Refused { rejection } => match rejection.take() {
                Some(rejection) => Err(rejection),
                None => panic!("polled after it was ready"),
            },
            KindProj::Accepting { accepting } => ready!(accepting.poll(cx)),
        };
        Poll::Ready(Ok(answer.unwrap_or_else(|rejection| {
            tracing::debug!(%rejection, "upgrade refused");
            rejection.into_response()
        })))
    }
}

impl<F, S> fmt::Debug for ResponseFuture<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// A valid handshake that is not answered yet.
pub(crate) struct Accepting<S> {
    pub(crate) service: Option<S>,
    pub(crate) on: Option<OnUpgrade>,
    pub(crate) head: Option<Box<Parts>>,
    pub(crate) key: Key,
    pub(crate) subprotocol: Cow<'static, str>,
    pub(crate) channels: ChannelProtocolConfig,
    pub(crate) config: Arc<Config>,
    pub(crate) timeout: Option<Pin<Box<Sleep>>>,
    #[cfg(test)]
    pub(crate) whole: Option<crate::mux::Whole>,
}

impl<S> Accepting<S>
where
    S: TowerService<ChannelSet, Response = ()>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    /// Waits for the inner service, starts it, and answers.
    fn poll<B: Default>(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<B>, Rejection>> {
        ready!(self.poll_ready(cx))?;
        Poll::Ready(self.start())
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        let Some(service) = &mut self.service else {
            panic!("polled after it was ready");
        };
        let rejection = match catch_unwind(AssertUnwindSafe(|| service.poll_ready(cx))) {
            Ok(Poll::Ready(Ok(()))) => return Poll::Ready(Ok(())),
            Ok(Poll::Ready(Err(error))) => Some(refusal(&*error.into())),
            Err(_) => Some(panicked("while it was made ready")),
            Ok(Poll::Pending) => None,
        };
        if let Some(rejection) = rejection {
            drop_quietly(self.service.take());
            return Poll::Ready(Err(rejection));
        }
        // The time counts from the first wait: a service that is ready at once
        // needs no timer.
        let after = self.config.accept_timeout;
        let timeout = self.timeout.get_or_insert_with(|| Box::pin(sleep(after)));
        ready!(timeout.as_mut().poll(cx));
        drop_quietly(self.service.take());
        Poll::Ready(Err(Rejection::not_ready(
            "the server has no room for another session: try again later",
        )))
    }

    fn start<B: Default>(&mut self) -> Result<Response<B>, Rejection> {
        let (Some(mut service), Some(on), Some(head)) =
            (self.service.take(), self.on.take(), self.head.take())
        else {
            panic!("polled after it was ready");
        };
        let format = self.format();
        let (driver, session, set) = self.session(head, format);
        let called = catch_unwind(AssertUnwindSafe(|| service.call(set)));
        drop_quietly(service);
        let future = called.map_err(|_| panicked("when it was called"))?;

        let span = tracing::info_span!(
            "session",
            id = session.id(),
            subprotocol = %self.subprotocol
        );
        let mut task = Task::new(driver, Box::pin(Erased::new(future)), span);
        task.first_poll();
        let failed = matches!(task.service(), Service::Failed(_) | Service::Panicked);
        // First nothing more is accepted, then the error is asked what it is:
        // it may own a writer.
        if failed && task.can_be_refused() {
            return Err(match task.service() {
                Service::Failed(error) => refusal(&**error),
                _ => Rejection::internal(),
            });
        }
        session.set_accepted();
        tokio::spawn(task.accepted(on));
        Ok(accept_response(&self.key, &self.subprotocol))
    }

    fn format(&self) -> Format {
        #[cfg(test)]
        if self.whole.is_some() {
            return Format::Whole;
        }
        match self.channels.encoding() {
            Encoding::Binary => Format::Binary,
            Encoding::Base64 => Format::Base64,
        }
    }

    /// All parts of a session, not yet connected to anything.
    fn session(&mut self, head: Box<Parts>, format: Format) -> (Driver, Session, ChannelSet) {
        let types = self.channels.channels();
        let limits = &self.config.limits;
        let wire = WireConfig {
            format,
            channels: types.len(),
            receive_window: limits.receive_window,
            send_budget: limits.send_budget,
            high_water: limits.high_water,
        };
        let shared = Shared::new(
            Turn::new(),
            &wire,
            |id| types[id].is_readable(),
            |id| types[id].is_writable(),
        );
        let session = Session::new(Arc::clone(&shared));
        let set = ChannelSet::new(
            self.subprotocol.clone(),
            head,
            session.clone(),
            &shared,
            types,
        );
        #[allow(unused_mut, reason = "tests set the mode for whole messages")]
        let mut driver = Driver::new(DriverParts {
            shared,
            session: session.clone(),
            config: Arc::clone(&self.config),
            format,
            half_close: self.channels.supports_half_close(),
        });
        #[cfg(test)]
        {
            driver.mux().whole = self.whole.take();
        }
        (driver, session, set)
    }
}

/// Whatever the drop of a service does, the answer is decided without it.
fn drop_quietly<S>(service: S) {
    if catch_unwind(AssertUnwindSafe(|| drop(service))).is_err() {
        tracing::error!("the inner service panicked while it was dropped");
    }
}

/// The refusal that an error is; one that tells the client nothing is logged.
fn refusal(error: &(dyn std::error::Error + 'static)) -> Rejection {
    let rejection = Rejection::from_error(error);
    if rejection.kind() == RejectionKind::Internal {
        tracing::error!(error = %Report(error), "the inner service failed");
    }
    rejection
}

fn panicked(when: &'static str) -> Rejection {
    tracing::error!("the inner service panicked {when}");
    Rejection::internal()
}
