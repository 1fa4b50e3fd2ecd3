//! One port and its two channels: it runs the port's service and reports how that ends.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use futures_sink::Sink;
use tokio::sync::oneshot;
use tower_service::Service;

use super::{failure::Failure, port::ForwardedPort};
use crate::{
    BoxError, ChannelWriter,
    channel::ChannelSink,
    error::Report,
    unwind::{Quiet, catch, drop_quietly},
};

/// The name in the log of a value that panics while it is dropped.
pub(super) const PORT_SERVICE: &str = "the service of a port";
const PORT: &str = "the request of a port";

/// A port of the session.
pub(super) struct Pair<S, F> {
    port: u16,
    waker: Waker,
    state: State<S, F>,
    /// The writer of the data channel, until it is greeted and handed to the service.
    data: Option<(ChannelSink, oneshot::Sender<ChannelWriter>)>,
    /// The writer of the error channel, until the port has ended.
    errors: Option<ChannelSink>,
    greeted: bool,
    /// The failure, until it is reported.
    failure: Option<Failure>,
}

enum State<S, F> {
    /// Each is dropped on its own: two panics in one drop would abort the process.
    Waiting {
        service: Quiet<S>,
        port: Quiet<ForwardedPort>,
    },
    Running(Pin<Box<F>>),
    Ended,
}

impl<S, F> Pair<S, F> {
    /// Creates a port that waits for its service.
    ///
    /// `data` and `errors` are the writers of its channels; `hand` passes `data` on to the stream
    /// of `port`.
    pub(super) fn new(
        service: S,
        port: ForwardedPort,
        data: ChannelWriter,
        hand: oneshot::Sender<ChannelWriter>,
        errors: ChannelWriter,
        waker: Waker,
    ) -> Self {
        Self {
            port: port.port,
            waker,
            state: State::Waiting {
                service: Quiet::new(service, PORT_SERVICE),
                port: Quiet::new(port, PORT),
            },
            data: Some((data.into_sink(), hand)),
            errors: Some(errors.into_sink()),
            greeted: false,
            failure: None,
        }
    }

    /// Waits until the channels are writable. With `AcceptMode::Explicit`, this is when the upgrade
    /// is accepted.
    pub(super) fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.errors {
            // An error means that the session has ended, so there is nothing to wait for.
            Some(errors) => Pin::new(errors).poll_ready(cx).map(|_| ()),
            None => Poll::Ready(()),
        }
    }

    /// Sends the port number as the first message on both channels, and lets the service write.
    pub(super) fn greet(&mut self) {
        let greeting = Bytes::copy_from_slice(&self.port.to_le_bytes());
        if let Some((mut data, hand)) = self.data.take() {
            say(&mut data, greeting.clone());
            // Fails if the stream was dropped. The writer is then dropped as well.
            let _ = hand.send(data.into_inner());
        }
        if let Some(errors) = &mut self.errors {
            say(errors, greeting);
        }
        self.greeted = true;
    }

    /// Reports the end of a port that ended before it was greeted.
    pub(super) fn catch_up(&mut self) {
        if let State::Ended = self.state {
            self.tell();
        }
    }

    /// Returns whether the service has ended by refusing the upgrade.
    pub(super) fn has_refused(&self) -> bool {
        self.failure.as_ref().is_some_and(Failure::is_refusal)
    }

    pub(super) fn take_error(&mut self) -> Option<BoxError> {
        match self.failure.take()? {
            Failure::Error(error) => Some(error),
            Failure::Panicked => None,
        }
    }

    /// Ends the error channel, with the text of the failure if there is one.
    fn tell(&mut self) {
        let (failure, errors) = (self.failure.take(), self.errors.take());
        let (Some(failure), Some(mut errors)) = (failure, errors) else {
            return;
        };
        let port = self.port;
        let text = failure.text(port);
        match &failure {
            Failure::Error(error) => {
                tracing::debug!(port, error = %Report(&**error), "a port failed");
            }
            Failure::Panicked => tracing::error!(port, "the service of a port panicked"),
        }
        drop_quietly(failure, PORT_SERVICE);
        if let Some(text) = text {
            say(&mut errors, text.into());
        }
    }
}

impl<S> Pair<S, S::Future>
where
    S: Service<ForwardedPort, Response = ()>,
    S::Error: Into<BoxError>,
{
    /// Polls a port that was woken, and returns whether it ended in this poll.
    pub(super) fn poll(&mut self) -> bool {
        let cx = &mut Context::from_waker(&self.waker);
        let Poll::Ready(result) = self.state.poll(cx) else {
            return false;
        };
        // The service's future is dropped before the text is sent, so that data which it writes in
        // its drop goes first.
        let ended = mem::replace(&mut self.state, State::Ended);
        drop_quietly(ended, PORT_SERVICE);
        self.failure = result.err();
        if self.greeted {
            self.tell();
        }
        true
    }
}

impl<S> State<S, S::Future>
where
    S: Service<ForwardedPort, Response = ()>,
    S::Error: Into<BoxError>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if let Self::Waiting { service, .. } = self {
            ready!(guarded(|| service
                .get_mut()
                .poll_ready(cx)
                .map_err(Into::into)))?;
            *self = match mem::replace(self, Self::Ended) {
                Self::Waiting { mut service, port } => {
                    let port = port.into_inner();
                    let called = guarded(|| Poll::Ready(Ok(service.get_mut().call(port))));
                    drop(service);
                    Self::Running(Box::pin(ready!(called)?))
                }
                other => other,
            };
        }
        match self {
            Self::Running(future) => guarded(|| future.as_mut().poll(cx).map_err(Into::into)),
            // A late wake-up.
            Self::Waiting { .. } | Self::Ended => Poll::Pending,
        }
    }
}

/// Runs a step of the service. A panic in it is a failure of this port alone.
fn guarded<T>(step: impl FnOnce() -> Poll<Result<T, BoxError>>) -> Poll<Result<T, Failure>> {
    match catch(step) {
        Ok(poll) => poll.map_err(Failure::Error),
        Err(_) => Poll::Ready(Err(Failure::Panicked)),
    }
}

/// Sends one message without regard to the budget: a channel has at most two of these.
fn say(sink: &mut ChannelSink, message: Bytes) {
    // If the session is over, the next read or write fails.
    let _ = Pin::new(sink).start_send(message);
}
