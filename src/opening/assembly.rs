//! The assembly of a session's parts, by the terms of the handshake.

use std::sync::Arc;

use super::agreement::{Agreement, Head};
use crate::{
    channel::ChannelSet,
    connection::{Carrier, Driver, DriverParts},
    protocol::ChannelProtocolConfig,
    session::{AcceptMode, Session},
    wire::{Condition, StallReserve, Turn, Wire, WireConfig},
};
#[cfg(feature = "spdy")]
use crate::{
    protocol::{ChannelType, StreamPurpose},
    streams::{Roles, handoff},
};

impl Agreement {
    /// Makes all parts of a session, which has no connection yet. The service gets `head` with its
    /// channels.
    pub(super) fn assemble(&mut self, head: Option<Head>) -> (Driver, Session, ChannelSet) {
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
            wire.outbound.wait_for(Condition::Upgrade);
        }
        let session = Session::new(Arc::clone(&wire));
        let mut set = ChannelSet::new(
            self.subprotocol.clone(),
            head,
            session.clone(),
            &wire,
            self.channels.clone(),
        );
        let carrier = carrier(&self.channels, &wire, &mut set);
        let driver = Driver::new(DriverParts {
            wire,
            session: session.clone(),
            config: Arc::clone(config),
            carrier,
            close_ends_input: self.channels.may_close_end_input(),
            expiry: self.expiry,
            subprotocol: self.subprotocol.clone(),
            peer: self.peer.clone(),
        });
        (driver, session, set)
    }
}

/// Chooses the way in which data is carried. Over SPDY, the parts of the session that depend on its
/// streams are prepared for them.
#[cfg_attr(not(feature = "spdy"), allow(unused_variables, reason = "for streams"))]
fn carrier(channels: &ChannelProtocolConfig, wire: &Arc<Wire>, set: &mut ChannelSet) -> Carrier {
    #[cfg(feature = "spdy")]
    if let Some(streams) = channels.streams() {
        let roles = match streams {
            StreamPurpose::Channels => {
                wire.outbound.wait_for(Condition::Streams);
                let wanted = |channel: &ChannelType| *channel != ChannelType::Ignore;
                Roles::command(channels.channels().iter().map(wanted))
            }
            StreamPurpose::Ports { stall } => {
                let (handoff, pairs) = handoff(wire);
                set.set_pairs(pairs);
                Roles::ports(handoff).reset_stalled(stall)
            }
        };
        let in_messages = channels.format().is_web_socket();
        return Carrier::Streams { roles, in_messages };
    }
    Carrier::Channels {
        format: channels.format(),
        half_close: channels.supports_half_close(),
    }
}
