use std::{
    fmt,
    num::NonZeroU16,
    sync::Arc,
    task::{Context, Poll},
};

use http::{StatusCode, request::Parts};
use tokio::sync::oneshot;
use tower_service::Service;

use super::{
    ForwardedPort, ForwardedStream, ForwardedWriter, PortForwardFuture, due::Due,
    forwarding::Forwarding, pair::Pair, ports::ports,
};
#[cfg(feature = "spdy")]
use super::{call::PORT_SERVICE, head::compact, tunnel::Tunnel};
use crate::{BoxError, ChannelReader, ChannelSet, ChannelWriter, Rejection};
#[cfg(feature = "spdy")]
use crate::{channel::TappedPairs, unwind::drop_quietly};

/// The service of a [`PortForwardLayer`](super::PortForwardLayer).
#[derive(Clone)]
pub struct PortForward<S> {
    pub(super) inner: S,
    #[cfg(feature = "spdy")]
    pub(super) go_errors: bool,
}

impl<S> PortForward<S> {
    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service. Changes apply to later sessions.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Consumes the service, and returns the inner one.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S> Service<ChannelSet> for PortForward<S>
where
    S: Service<ForwardedPort, Response = ()> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = ();
    type Error = BoxError;
    type Future = PortForwardFuture<S, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut channels: ChannelSet) -> Self::Future {
        #[cfg(feature = "spdy")]
        if let Some(pairs) = channels.take_pairs() {
            return match self.tunnel(channels, pairs) {
                Ok(tunnel) => PortForwardFuture::tunnel(tunnel),
                Err(rejection) => PortForwardFuture::refused(rejection),
            };
        }
        let request: Option<Arc<Parts>> = channels.take_request().map(Arc::from);
        let query = request.as_ref().and_then(|head| head.uri.query());
        let ports = match ports(query.unwrap_or_default()) {
            Ok(ports) => ports,
            Err(rejection) => return PortForwardFuture::refused(rejection),
        };
        let due = Due::new(ports.len());
        // The first port calls the instance that was polled for readiness.
        let clone = match on_panic(|| self.inner.clone()) {
            Ok(clone) => clone,
            Err(rejection) => return PortForwardFuture::refused(rejection),
        };
        let mut ready = Some(std::mem::replace(&mut self.inner, clone));
        // If a later step fails, this drops the ports one at a time. A clone that panics must not
        // unwind through them, because a second panic in a drop would abort the process.
        let mut session = Forwarding::new(ports.len(), &due);
        for (index, port) in ports.into_iter().enumerate() {
            let service = match ready.take() {
                Some(service) => Ok(service),
                None => on_panic(|| self.inner.clone()),
            };
            match service
                .and_then(|service| pair(&mut channels, service, index, port, &request, &due))
            {
                Ok(pair) => session.push(pair),
                Err(rejection) => return PortForwardFuture::refused(rejection),
            }
        }
        PortForwardFuture::forwarding(session)
    }
}

#[cfg(feature = "spdy")]
impl<S: Clone> PortForward<S> {
    /// Creates the future of a session whose connections come one by one.
    fn tunnel<F>(
        &mut self,
        mut channels: ChannelSet,
        pairs: TappedPairs,
    ) -> Result<Tunnel<S, F>, Rejection> {
        let clone = on_panic(|| self.inner.clone())?;
        // The readiness of this instance is released: a tunnel without connections must not hold
        // the permit of one. Each connection waits for the readiness of its own clone.
        drop_quietly(std::mem::replace(&mut self.inner, clone), PORT_SERVICE);
        let service = on_panic(|| self.inner.clone())?;
        let session = channels.session().clone();
        let request = channels.take_request().map(|mut head| {
            compact(&mut head);
            Arc::from(head)
        });
        Ok(Tunnel::new(
            service,
            session,
            request,
            pairs,
            self.go_errors,
        ))
    }
}

/// Refuses the upgrade if the clone of the service panics.
fn on_panic<S>(clone: impl FnOnce() -> S) -> Result<S, Rejection> {
    Rejection::on_panic("the clone of the inner service", clone)
}

/// Creates a port with its channels, or refuses if the session does not have them.
fn pair<S, F>(
    channels: &mut ChannelSet,
    service: S,
    index: usize,
    port: NonZeroU16,
    request: &Option<Arc<Parts>>,
    due: &Arc<Due>,
) -> Result<Pair<S, F>, Rejection> {
    let Some((reader, data, errors)) = take(channels, index) else {
        return Err(Rejection::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the channels of the server's port-forward do not match its ports: \
             its operator must use portforward::Protocols",
        ));
    };
    let (hand, handed) = oneshot::channel();
    let port = ForwardedPort {
        port: port.get(),
        index,
        stream: ForwardedStream::new(reader, ForwardedWriter::waiting(handed)),
        session: channels.session().clone(),
        request: request.clone(),
        half_close: false,
        request_id: None,
    };
    let waker = due.waker(index);
    Ok(Pair::new(service, port, data, hand, errors, waker))
}

/// Takes the reader and the writer of a port's data channel, and the writer of its error channel.
fn take(
    channels: &mut ChannelSet,
    index: usize,
) -> Option<(ChannelReader, ChannelWriter, ChannelWriter)> {
    let id = u8::try_from(2 * index).ok()?;
    let reader = channels.take_reader(id)?;
    let data = channels.take_writer(id)?;
    Some((reader, data, channels.take_writer(id + 1)?))
}

impl<S> fmt::Debug for PortForward<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortForward").finish_non_exhaustive()
    }
}
