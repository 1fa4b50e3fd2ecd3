//! A handshake that is valid and not answered yet: all that the head of a request alone
//! decides, and the session that follows from it.

use std::{borrow::Cow, sync::Arc, time::Duration};

use http::request::Parts;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use crate::{
    channel::ChannelSet,
    connection::{Driver, DriverParts},
    error::{BoxError, Report},
    handshake::{
        detect::Upgrade,
        negotiate,
        validate::{self, Challenge},
    },
    policy::ValidUntil,
    protocol::{ChannelProtocolConfig, ChannelProtocols, ConfigError},
    rejection::{Rejection, RejectionKind},
    session::{AcceptMode, Peer, Session, SessionConfig},
    unwind::{Quiet, catch},
    wire::{StallReserve, Turn, Wire, WireConfig},
};

/// A valid request head whose subprotocol is not selected yet.
pub(crate) struct Valid {
    challenge: Challenge,
    on: OnUpgrade,
    head: Quiet<Box<Parts>>,
    config: Arc<SessionConfig>,
    /// When what let the request in expires.
    expiry: Option<Instant>,
}

/// A handshake whose subprotocol is selected, with what goes along with it.
pub(crate) struct Agreed {
    pub(crate) handshake: Handshake,
    pub(crate) on: OnUpgrade,
    /// With what outer layers have put into it.
    pub(crate) head: Quiet<Box<Parts>>,
}

impl Valid {
    /// Judges the head, and takes out of it what the server hands the connection over by.
    ///
    /// A client's fault is told before ours.
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

    pub(crate) fn accept_timeout(&self) -> Duration {
        self.config.accept_timeout
    }

    /// Refuses if a drain has begun since the head was judged.
    pub(crate) fn refuse_if_draining(&self) -> Result<(), Rejection> {
        refuse_if_draining(&self.config)
    }

    /// Selects the subprotocol from the request's table.
    pub(crate) fn select(self, protocols: &ChannelProtocols) -> Result<Agreed, Rejection> {
        let head = self.head();
        let names = negotiate::offered(&head.headers)?;
        let (subprotocol, channels) = negotiate::select(&names, protocols)?;
        let handshake = Handshake {
            challenge: self.challenge,
            subprotocol,
            channels,
            peer: head.extensions.get().cloned(),
            config: self.config,
            expiry: self.expiry,
        };
        Ok(Agreed {
            handshake,
            on: self.on,
            head: self.head,
        })
    }
}

fn refuse_if_draining(config: &SessionConfig) -> Result<(), Rejection> {
    if config.sessions.is_closed() {
        return Err(Rejection::draining());
    }
    Ok(())
}

/// What the handshake has settled.
pub(crate) struct Handshake {
    pub(crate) challenge: Challenge,
    pub(crate) subprotocol: Cow<'static, str>,
    pub(crate) channels: ChannelProtocolConfig,
    pub(crate) config: Arc<SessionConfig>,
    pub(crate) expiry: Option<Instant>,
    pub(crate) peer: Option<Peer>,
}

impl Handshake {
    /// All parts of a session, not yet connected to anything.
    pub(crate) fn session(&mut self, head: Box<Parts>) -> (Driver, Session, ChannelSet) {
        let types = self.channels.channels();
        let config = &self.config;
        let limits = &config.policy.limits;
        let format = self.channels.format();
        let wire = WireConfig {
            format,
            channels: types.len(),
            receive_window: limits.receive_window,
            send_budget: limits.send_budget,
            high_water: limits.high_water,
            stamps: config.policy.idle_timeout.is_some(),
        };
        let wire = Wire::new(
            Turn::new(),
            &wire,
            StallReserve::new(limits.stall_reserve, config.sessions.reserve()),
            |id| types[id].is_readable(),
            |id| types[id].is_writable(),
        );
        if config.accept == AcceptMode::Explicit {
            wire.outbound.wait_for_acceptance();
        }
        let session = Session::new(Arc::clone(&wire));
        let set = ChannelSet::new(
            self.subprotocol.clone(),
            head,
            session.clone(),
            &wire,
            self.channels.clone(),
        );
        let driver = Driver::new(DriverParts {
            wire,
            session: session.clone(),
            config: Arc::clone(config),
            format,
            half_close: self.channels.supports_half_close(),
            close_ends_input: self.channels.may_close_end_input(),
            expiry: self.expiry,
            subprotocol: self.subprotocol.clone(),
            peer: self.peer.clone(),
        });
        (driver, session, set)
    }

    /// The refusal that an error is; one that tells the client nothing is logged.
    pub(crate) fn refusal(&self, error: &BoxError) -> Rejection {
        let map = &self.config.map_rejection.0;
        // The user's code, as the service's is.
        let rejection = catch(|| map(&**error))
            .unwrap_or_else(|_| Rejection::panicked("the closure of map_rejection"));
        if rejection.kind() == RejectionKind::Internal {
            tracing::error!(error = %Report(&**error), "the inner service failed");
        }
        rejection
    }
}
