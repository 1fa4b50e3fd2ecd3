//! A session whose connections come one by one, each as a pair of streams.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::request::Parts;
use tower_service::Service;

use super::{
    call::PORT_SERVICE,
    connection::{Connection, End},
    due::{Due, Order},
    failure::Failure,
    port::ForwardedPort,
    stream::ForwardedStream,
};
use crate::{
    BoxError, Session,
    channel::TappedPairs,
    streams::NewPair,
    unwind::{Quiet, catch, drop_quietly},
};

/// The connections of a tunnel, which run concurrently.
pub(super) struct Tunnel<S, F> {
    /// Cloned for each connection. It is never polled for readiness, so it holds no permit.
    service: Quiet<S>,
    session: Session,
    request: Option<Arc<Parts>>,
    go_errors: bool,
    /// `None` once there will be no more connections.
    new: Option<TappedPairs>,
    /// Each at the number of its pair, which is used again once the connection has ended.
    connections: Vec<Option<Box<Connection<S, F>>>>,
    due: Arc<Due>,
    order: Order,
    /// The number of connections that have not ended.
    open: usize,
    accepted: bool,
}

impl<S, F> Tunnel<S, F> {
    /// Creates a tunnel without connections.
    pub(super) fn new(
        service: S,
        session: Session,
        request: Option<Arc<Parts>>,
        new: TappedPairs,
        go_errors: bool,
    ) -> Self {
        Self {
            service: Quiet::new(service, PORT_SERVICE),
            session,
            request,
            go_errors,
            new: Some(new),
            connections: Vec::new(),
            due: Due::new(0),
            order: Order::default(),
            open: 0,
            accepted: false,
        }
    }
}

impl<S> Tunnel<S, S::Future>
where
    S: Service<ForwardedPort, Response = ()> + Clone,
    S::Error: Into<BoxError>,
{
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.accept(cx);
        self.due.register(cx.waker());
        self.poll_new(cx);
        for index in self.order.of(self.due.take()) {
            let Some(entry) = self.connections.get_mut(index) else {
                continue;
            };
            // A late wake-up of a connection that has ended finds none, or the next one.
            if entry.as_mut().is_some_and(|connection| connection.poll()) {
                drop_quietly(entry.take(), PORT_SERVICE);
                self.open -= 1;
            }
        }
        match self.open {
            0 if self.new.is_none() => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    /// Accepts the upgrade. With `AcceptMode::Explicit`, no port could do it: the client opens none
    /// before the answer.
    fn accept(&mut self, cx: &mut Context<'_>) {
        if !self.accepted {
            self.accepted = true;
            // The first poll accepts.
            let _ = pin!(self.session.accept()).poll(cx);
        }
    }

    /// Takes all connections that the client has opened since the last poll.
    fn poll_new(&mut self, cx: &mut Context<'_>) {
        while let Some(TappedPairs { new, taps }) = &mut self.new {
            match new.poll_next(cx) {
                Poll::Ready(Some(mut pair)) => {
                    taps.attach_reader(&mut pair.reader);
                    taps.attach_writer(&mut pair.data);
                    taps.attach_writer(&mut pair.errors);
                    self.connect(pair);
                }
                Poll::Ready(None) => self.new = None,
                Poll::Pending => return,
            }
        }
    }

    /// Begins a connection, whose first poll is due.
    fn connect(&mut self, pair: NewPair) {
        let end = End::new(pair.port, pair.errors, pair.answer, self.go_errors);
        let Ok(service) = catch(|| self.service.get_ref().clone()) else {
            end.report(Err(Failure::Panicked));
            return;
        };
        let port = |writer| ForwardedPort {
            port: pair.port,
            index: pair.index,
            stream: ForwardedStream::new(pair.reader, writer),
            session: self.session.clone(),
            request: self.request.clone(),
            half_close: true,
            request_id: pair.request_id,
        };
        let waker = self.due.waker(pair.index);
        let connection = Connection::new(service, port, pair.data, waker, end);
        self.due.set(pair.index);
        if self.connections.len() <= pair.index {
            self.connections.resize_with(pair.index + 1, || None);
        }
        let before = self.connections[pair.index].replace(Box::new(connection));
        debug_assert!(before.is_none(), "the number of a live connection");
        self.open += 1;
    }
}

impl<S, F> Drop for Tunnel<S, F> {
    fn drop(&mut self) {
        // One at a time, and with each panic contained, as for channels.
        for connection in self.connections.drain(..) {
            drop_quietly(connection, PORT_SERVICE);
        }
    }
}

#[cfg(test)]
mod tests;
