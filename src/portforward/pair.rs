//! One port and its two channels: the call of its service, and the report of how that ends.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_sink::Sink;
use tokio::sync::oneshot;
use tower_service::Service;

use super::{
    call::{Call, PORT_SERVICE},
    failure::Failure,
    port::ForwardedPort,
};
use crate::{BoxError, ChannelWriter, channel::ChannelSink, unwind::drop_quietly};

/// A port of the session.
pub(super) struct Pair<S, F> {
    port: u16,
    waker: Waker,
    call: Call<S, F>,
    /// The writer of the data channel, until it is greeted and handed to the service.
    data: Option<(ChannelSink, oneshot::Sender<ChannelWriter>)>,
    /// The writer of the error channel, until the port has ended.
    errors: Option<ChannelSink>,
    greeted: bool,
    /// The failure, until it is reported.
    failure: Option<Failure>,
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
            call: Call::new(service, port),
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
        if self.call.has_ended() {
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
        failure.log(port);
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
        let Poll::Ready(result) = self.call.poll(cx) else {
            return false;
        };
        self.failure = result.err();
        if self.greeted {
            self.tell();
        }
        true
    }
}

/// Sends one message without regard to the budget: a channel has at most two of these.
pub(super) fn say(sink: &mut ChannelSink, message: Bytes) {
    // If the session is over, the next read or write fails.
    let _ = Pin::new(sink).start_send(message);
}
