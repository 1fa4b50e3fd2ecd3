//! Every knob, its default and the reason for the number.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use http::Extensions;

use super::{OnEnd, Sessions};
use crate::{
    policy::{OriginPolicy, SessionPolicy},
    protocol::ConfigError,
    rejection::Rejection,
};

/// How long an answer may wait for the inner service: for its readiness, and with
/// `AcceptMode::Explicit` for its word, both together. Clients give up on an unanswered
/// handshake between 30 and 45 s.
pub(crate) const DEFAULT_ACCEPT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the server may take to hand the connection over after the 101.
pub(crate) const DEFAULT_UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the service has to clean up after the end of the session.
pub(crate) const DEFAULT_GRACE: Duration = Duration::from_secs(1);

/// The same after a Close frame that is the client's way to say that its input
/// is finished: there may be work left whose result is still to be told.
pub(crate) const DEFAULT_CLOSED_GRACE: Duration = Duration::from_secs(30);

/// Silence after our Close, and while lingering, that is waited for: a slow reader
/// that says nothing still gets what the kernel holds.
pub(crate) const DEFAULT_CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// For closing, where what is queued has its own time beside it, and from our Close on for
/// all that follows: a peer that has not got so far by then never will.
pub(crate) const DEFAULT_CLOSE_LIMIT: Duration = Duration::from_secs(5 * 60);

/// When an upgrade is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceptMode {
    /// As soon as the service's future was polled once and did not fail.
    #[default]
    Immediate,
    /// When the service calls [`Session::accept`](crate::Session::accept), so that
    /// "no such container" can be a 404 after an asynchronous look-up.
    ///
    /// Until then what it writes waits, every error and panic is an HTTP answer (under
    /// `RemoteCommandLayer` only a [`Rejection`] is, and any other error a 101 and a
    /// Status), and at the [accept timeout](crate::WsStreamLayer::accept_timeout) the answer
    /// is a 504. A service that returns `Ok` has accepted.
    Explicit,
}

/// What an error of the service becomes before the upgrade.
#[derive(Clone)]
pub(crate) struct MapRejection(pub(crate) Arc<MapError>);

type MapError = dyn Fn(&(dyn StdError + 'static)) -> Rejection + Send + Sync;

impl Default for MapRejection {
    fn default() -> Self {
        Self(Arc::new(Rejection::from_error))
    }
}

impl fmt::Debug for MapRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapRejection").finish_non_exhaustive()
    }
}

/// All of a layer's knobs.
#[derive(Clone, Debug)]
pub(crate) struct SessionConfig {
    /// What a request's extensions may override.
    pub(crate) policy: SessionPolicy,
    pub(crate) sessions: Sessions,
    pub(crate) origin: OriginPolicy,
    pub(crate) on_end: OnEnd,
    pub(crate) accept: AcceptMode,
    pub(crate) map_rejection: MapRejection,
    pub(crate) accept_timeout: Duration,
    pub(crate) upgrade_timeout: Duration,
    pub(crate) grace: Duration,
    pub(crate) closed_grace: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) close_limit: Duration,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            policy: SessionPolicy::default(),
            sessions: Sessions::default(),
            origin: OriginPolicy::default(),
            on_end: OnEnd::default(),
            accept: AcceptMode::default(),
            map_rejection: MapRejection::default(),
            accept_timeout: DEFAULT_ACCEPT_TIMEOUT,
            upgrade_timeout: DEFAULT_UPGRADE_TIMEOUT,
            grace: DEFAULT_GRACE,
            closed_grace: DEFAULT_CLOSED_GRACE,
            close_timeout: DEFAULT_CLOSE_TIMEOUT,
            close_limit: DEFAULT_CLOSE_LIMIT,
        }
    }
}

impl SessionConfig {
    /// Returns the configuration for a request with these extensions. Sessions that override
    /// nothing share the layer's.
    pub(crate) fn for_request(self: &Arc<Self>, extensions: &Extensions) -> Arc<Self> {
        let policy = self.policy.overridden_by(extensions);
        if policy == self.policy {
            return Arc::clone(self);
        }
        Arc::new(Self {
            policy,
            ..Self::clone(self)
        })
    }

    /// The one step in which nonsense is found.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.policy.check()
    }
}
