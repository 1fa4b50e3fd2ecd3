use std::{
    fmt,
    num::NonZeroU16,
    sync::Arc,
    task::{Context, Poll},
};

use http::{StatusCode, request::Parts};
use tokio::sync::oneshot;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    ForwardedPort, ForwardedStream, ForwardedWriter, PortForwardFuture, due::Due, pair::Pair,
    ports::ports,
};
use crate::{BoxError, ChannelSet, Rejection};

/// Hands each port of a port-forward to a `Service<ForwardedPort>`, and tells the
/// client what becomes of it.
///
/// Belongs directly or further inside of a [`WsStreamLayer`](crate::WsStreamLayer)
/// with [`Protocols`](super::Protocols). The service is called once for each port,
/// and its futures run at the same time inside of the session's own task; a wake of
/// one polls no other. The first port takes the readiness of the service that the
/// layer was polled for, and so has its limits tried before the upgrade is answered;
/// each other port waits for that of a clone. So a `concurrency_limit` inside counts
/// ports, and one outside sessions. A port that waits for its place does not read:
/// what its client sends meanwhile can fill its window and pause the session, so
/// limits inside should be behind a `load_shed`, which tells the port.
///
/// An error, a panic or a refused connection ends its own port, with one text on its
/// error channel. Only a [`Rejection`](crate::Rejection), or tower's `Overloaded`,
/// that *every* port has ended with before the upgrade is accepted is the HTTP answer
/// instead: clients show that. Accepted means after the first poll, or with
/// [`AcceptMode::Explicit`](crate::AcceptMode) once one port calls `session.accept()`. Where
/// the pod of all ports has to be looked up, a layer around this one, over
/// [`ChannelSet`], can do it once.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct PortForwardLayer {}

impl PortForwardLayer {
    /// The layer; it has no knobs.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S> Layer<S> for PortForwardLayer {
    type Service = PortForward<S>;

    fn layer(&self, inner: S) -> Self::Service {
        PortForward { inner }
    }
}

/// The service that [`PortForwardLayer`] makes.
#[derive(Clone)]
pub struct PortForward<S> {
    inner: S,
}

impl<S> PortForward<S> {
    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service, to be changed for the ports to come.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service again.
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
        let request: Option<Arc<Parts>> = channels.take_request().map(Arc::from);
        let query = request.as_ref().and_then(|head| head.uri.query());
        let ports = match ports(query.unwrap_or_default()) {
            Ok(ports) => ports,
            Err(rejection) => return PortForwardFuture::refused(rejection),
        };
        let due = Due::new(ports.len());
        // The one that was polled is the one that is called.
        let clone = self.inner.clone();
        let mut ready = Some(std::mem::replace(&mut self.inner, clone));
        let pairs = ports.into_iter().enumerate().map(|(index, port)| {
            let service = ready.take().unwrap_or_else(|| self.inner.clone());
            pair(&mut channels, service, index, port, &request, &due)
        });
        match pairs.collect() {
            Some(pairs) => PortForwardFuture::forwarding(pairs, due),
            None => PortForwardFuture::refused(Rejection::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the server's port-forward has other channels than its ports need: \
                 its operator must use portforward::Protocols",
            )),
        }
    }
}

/// `None` where the channels of the port are not there.
fn pair<S, F>(
    channels: &mut ChannelSet,
    service: S,
    index: usize,
    port: NonZeroU16,
    request: &Option<Arc<Parts>>,
    due: &Arc<Due>,
) -> Option<Pair<S, F>> {
    let id = u8::try_from(2 * index).ok()?;
    let reader = channels.take_reader(id)?;
    let data = channels.take_writer(id)?;
    let errors = channels.take_writer(id + 1)?;
    let (hand, handed) = oneshot::channel();
    let port = ForwardedPort {
        port: port.get(),
        index,
        stream: ForwardedStream::new(reader, ForwardedWriter::waiting(handed)),
        session: channels.session().clone(),
        request: request.clone(),
    };
    let waker = due.waker(index);
    Some(Pair::new(service, port, data, hand, errors, waker))
}

impl<S> fmt::Debug for PortForward<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortForward").finish_non_exhaustive()
    }
}
