use std::fmt;

use tower_layer::Layer;

use super::{Tap, TapService};
use crate::channel::ChannelSet;

/// Records the sessions for which a function returns a [`Tap`].
///
/// The function is called once for each session, before the service. It can decide by the
/// subprotocol, by the head of the request with the extensions of outer layers, and by the session,
/// whose [`id`](crate::Session::id) is in the logs. It must not block. It runs in the call of the
/// session's service, so a panic in it is answered with 500, like a panic of the service.
///
/// See the [module](super) for details of the recording, and for examples.
///
/// # Examples
///
/// The sessions of a single user, whose records a task takes:
///
/// ```
/// use tower_wsstream::{
///     ChannelSet,
///     channel::tap::{Overflow, Tap, TapLayer},
///     session::Peer,
/// };
///
/// let layer = TapLayer::new(|channels: &ChannelSet| {
///     let peer = channels.request()?.extensions.get::<Peer>()?;
///     if peer.as_str() != "mallory" {
///         return None;
///     }
///     let (tap, mut records) = Tap::new(Overflow::Lossy);
///     tokio::spawn(async move {
///         while let Some(record) = records.next().await {
///             println!("{record:?}");
///         }
///     });
///     Some(tap)
/// });
/// # let _ = layer;
/// ```
#[derive(Clone, Copy)]
pub struct TapLayer<F> {
    which: F,
}

impl<F> TapLayer<F>
where
    F: Fn(&ChannelSet) -> Option<Tap>,
{
    /// Creates a layer that records the sessions for which `which` returns a tap.
    pub fn new(which: F) -> Self {
        Self { which }
    }
}

impl<S, F: Clone> Layer<S> for TapLayer<F> {
    type Service = TapService<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        TapService::new(inner, self.which.clone())
    }
}

/// Leaves out the function.
impl<F> fmt::Debug for TapLayer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TapLayer").finish_non_exhaustive()
    }
}
