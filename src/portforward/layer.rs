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
/// An error, a panic or a refused connection ends only its own port, with a text on its error
/// channel. There is one exception: if *every* port ends with a [`Rejection`](crate::Rejection) or
/// tower's `Overloaded` before the upgrade is accepted, the refusal of the first port becomes the
/// HTTP answer, which clients show. The upgrade is accepted after the first poll, or with
/// [`AcceptMode::Explicit`](crate::AcceptMode) once one port calls `session.accept()`. If the pod
/// of all ports has to be looked up, a layer around this one, over [`ChannelSet`](crate::ChannelSet), can do it once.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct PortForwardLayer {}

impl PortForwardLayer {
    /// Creates the layer, which has no settings.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S> Layer<S> for PortForwardLayer {
    type Service = PortForward<S>;

    fn layer(&self, inner: S) -> Self::Service {
        PortForward::new(inner)
    }
}
