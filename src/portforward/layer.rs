use tower_layer::Layer;

use super::PortForward;

/// Passes each port of a port-forward to a `Service<ForwardedPort>`, and reports its errors to the
/// client.
///
/// This layer belongs inside of a [`WsStreamLayer`](crate::WsStreamLayer) with
/// [`Protocols`](super::Protocols), directly or with other layers in between. The service is called
/// once for each port. Its futures run concurrently inside of the session's own task, and a wake-up
/// of one future polls only that one.
///
/// The first port uses the readiness that this layer's service reported, so a limit applies to it
/// before the upgrade is answered. Each other port waits for the readiness of a clone. Therefore a
/// `concurrency_limit` inside of this layer counts ports, and one outside counts sessions. A port
/// that waits for a permit does not read, so data from its client can fill its window and pause the
/// session. For this reason, put a `load_shed` around a limit that is inside: it ends the port with
/// an error.
///
/// In a [tunnel](super#tunnels), the service is called for each connection of the client. Each waits
/// for the readiness of a clone of its own, and the readiness of this layer's service is given up
/// when the session begins.
///
/// On channels, an error, a panic or a refused connection ends only its own port, with a text on its error
/// channel. There is one exception: if *every* port ends with a [`Rejection`](crate::Rejection) or
/// tower's `Overloaded` before the upgrade is accepted, the refusal of the first port becomes the
/// HTTP answer, which clients show. The upgrade is accepted after the first poll, or with
/// [`AcceptMode::Explicit`](crate::AcceptMode) once one port calls `session.accept()`. If the pod
/// of all ports has to be looked up, a layer around this one, over [`ChannelSet`](crate::ChannelSet), can do it once.
///
/// # Examples
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_wsstream::{
///     BoxError, WsStreamLayer,
///     portforward::{ForwardedPort, PortForwardLayer, Protocols},
/// };
///
/// let service = ServiceBuilder::new()
///     .layer(WsStreamLayer::new(Protocols::default()))
///     .layer(PortForwardLayer::new())
///     .service_fn(async |_: ForwardedPort| Ok::<_, BoxError>(()));
/// # let _ = service;
/// ```
///
/// With limits on sessions and on ports, few ports for each session over channels, and Go's way of
/// reporting errors:
///
/// ```
/// # #[cfg(feature = "spdy")] {
/// use tower::ServiceBuilder;
/// use tower_wsstream::{
///     BoxError, StreamingLayer,
///     portforward::{ForwardedPort, PortForwardLayer, Protocols},
/// };
///
/// let service = ServiceBuilder::new()
///     .layer(StreamingLayer::new(Protocols::default().max_ports(8)))
///     .load_shed()
///     .concurrency_limit(64) // sessions
///     .layer(PortForwardLayer::new().go_errors(true))
///     .load_shed()
///     .concurrency_limit(256) // ports
///     .service_fn(async |_: ForwardedPort| Ok::<_, BoxError>(()));
/// # let _ = service;
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct PortForwardLayer {
    #[cfg(feature = "spdy")]
    go_errors: bool,
}

impl PortForwardLayer {
    /// Creates the layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether each error is reported to the clients of a tunnel as a text, as the servers of
    /// Kubernetes do it. Default `false`: only the error of a [target](super::ForwardError::target)
    /// is, and an error of one connection resets that connection.
    ///
    /// The text ends `kubectl port-forward` with all of its connections. This setting has no effect
    /// on channels, where each port has a text of its own.
    #[cfg(feature = "spdy")]
    #[cfg_attr(docsrs, doc(cfg(feature = "spdy")))]
    #[must_use]
    pub fn go_errors(mut self, on: bool) -> Self {
        self.go_errors = on;
        self
    }
}

impl<S> Layer<S> for PortForwardLayer {
    type Service = PortForward<S>;

    fn layer(&self, inner: S) -> Self::Service {
        PortForward {
            inner,
            #[cfg(feature = "spdy")]
            go_errors: self.go_errors,
        }
    }
}
