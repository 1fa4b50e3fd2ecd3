//! The decisions that only need the head of a request: whether it may become a session, and on
//! which terms.

use std::{borrow::Cow, sync::Arc};

use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

#[cfg(feature = "spdy")]
use crate::handshake::spdy;
use crate::{
    error::{BoxError, Report},
    handshake::{
        detect::Upgrade,
        negotiate,
        validate::{self, Challenge},
    },
    policy::ValidUntil,
    protocol::{ChannelProtocolConfig, ChannelProtocols, ConfigError},
    rejection::{Rejection, RejectionKind},
    session::{Peer, SessionConfig},
    unwind::Quiet,
};

/// The head of a request, with the extensions that outer layers have inserted.
pub(crate) type Head = Quiet<Box<Parts>>;

/// A valid request for an upgrade whose subprotocol was not selected yet.
pub(crate) struct Proposal {
    challenge: Challenge,
    on: OnUpgrade,
    head: Head,
    config: Arc<SessionConfig>,
    /// The time at which the credential of the request expires.
    expiry: Option<Instant>,
}

impl Proposal {
    /// Checks the head, and takes the future of the connection out of it.
    ///
    /// An invalid configuration is reported first, then mistakes of the client, and then other
    /// problems of the server.
    pub(crate) fn judge(
        upgrade: Upgrade,
        head: Box<Parts>,
        config: &Arc<SessionConfig>,
    ) -> Result<Self, Rejection> {
        let mut quiet = Quiet::new(head, "the head of a request");
        let head = quiet.get_mut();
        config.check().map_err(|error| Rejection::config(&error))?;
        let on = head.extensions.remove::<OnUpgrade>();
        let challenge = validate::validate(upgrade, head)?;
        let on = on.ok_or_else(|| {
            Rejection::config(&ConfigError::new(
                "the HTTP server hands over no connection: serve with upgrades enabled, \
                 and keep layers from replacing the request's extensions",
            ))
        })?;
        let origin = head.extensions.get().unwrap_or(&config.origin);
        origin.check(head)?;
        refuse_if_draining(config)?;
        let expiry = ValidUntil::expiry(&head.extensions, Instant::now());
        let config = config.for_request(&head.extensions);
        config
            .policy
            .check()
            .map_err(|error| Rejection::config(&error))?;
        Ok(Self {
            challenge,
            on,
            head: quiet,
            config,
            expiry,
        })
    }

    pub(crate) fn head(&self) -> &Parts {
        self.head.get_ref()
    }

    /// Refuses the request if a drain has begun since the head was judged.
    pub(super) fn refuse_if_draining(&self) -> Result<(), Rejection> {
        refuse_if_draining(&self.config)
    }

    /// Selects the subprotocol from the table of the request. Returns the head as well.
    pub(crate) fn select(
        self,
        protocols: &ChannelProtocols,
    ) -> Result<(Agreement, Head), Rejection> {
        let head = self.head.get_ref();
        let (subprotocol, channels) = match self.challenge {
            Challenge::Http1(_) | Challenge::Http2 => {
                let names = negotiate::offered(&head.headers)?;
                negotiate::select(names, protocols)?
            }
            #[cfg(feature = "spdy")]
            Challenge::Spdy => {
                let names = spdy::offered(&head.headers)?;
                let (name, channels) = spdy::select(names, protocols.over_spdy())?;
                (name.to_owned().into(), channels.clone())
            }
        };
        let agreement = Agreement {
            challenge: self.challenge,
            on: self.on,
            subprotocol,
            channels,
            peer: head.extensions.get().cloned(),
            config: self.config,
            expiry: self.expiry,
        };
        Ok((agreement, self.head))
    }
}

fn refuse_if_draining(config: &SessionConfig) -> Result<(), Rejection> {
    if config.sessions.is_closed() {
        return Err(Rejection::draining());
    }
    Ok(())
}

/// The terms of a session, as the handshake has settled them.
pub(crate) struct Agreement {
    pub(super) challenge: Challenge,
    /// The connection, once the server hands it over.
    pub(super) on: OnUpgrade,
    pub(super) subprotocol: Cow<'static, str>,
    pub(super) channels: ChannelProtocolConfig,
    pub(super) config: Arc<SessionConfig>,
    pub(super) expiry: Option<Instant>,
    pub(super) peer: Option<Peer>,
}

impl Agreement {
    /// Returns the refusal for an error of the service.
    ///
    /// If the refusal does not tell the client the error, the error is logged.
    pub(super) fn refusal(&self, error: &BoxError) -> Rejection {
        let map = &self.config.map_rejection.0;
        let rejection = Rejection::on_panic("the closure of map_rejection", || map(&**error))
            .unwrap_or_else(|panicked| panicked);
        if rejection.kind() == RejectionKind::Internal {
            tracing::error!(error = %Report(&**error), "the inner service failed");
        }
        rejection
    }
}

#[cfg(test)]
mod tests;
