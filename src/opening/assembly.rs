//! Makes the parts of a session from what the handshake has settled.

use std::sync::Arc;

use super::agreement::{Agreement, Head};
use crate::{
    channel::ChannelSet,
    connection::{Driver, DriverParts},
    protocol::{Encoding, Format},
    session::{AcceptMode, Session},
    wire::{StallReserve, Turn, Wire, WireConfig},
};

impl Agreement {
    fn format(&self) -> Format {
        #[cfg(test)]
        if self.whole.is_some() {
            return Format::Whole;
        }
        match (self.channels.encoding(), self.bare) {
            (Encoding::Binary, false) => Format::Binary,
            (Encoding::Base64, false) => Format::Base64,
            (Encoding::Binary, true) => Format::BareBinary,
            (Encoding::Base64, true) => Format::BareBase64,
        }
    }

    /// Makes all parts of a session, not yet connected to anything. The service gets `head`
    /// with its channels.
    pub(super) fn assemble(&mut self, head: Option<Head>) -> (Driver, Session, ChannelSet) {
        let types = self.channels.channels();
        let config = &self.config;
        let limits = &config.policy.limits;
        let format = self.format();
        #[cfg(feature = "testing")]
        if let Some(told) = self.told.take() {
            told.tell(format, self.channels.supports_half_close());
        }
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
        #[allow(unused_mut, reason = "tests set the mode for whole messages")]
        let mut driver = Driver::new(DriverParts {
            wire,
            session: session.clone(),
            config: Arc::clone(config),
            format,
            // A session without input does not end any: a Close is then only the end.
            half_close: self.bare || self.channels.supports_half_close(),
            close_ends_input: !self.bare && self.channels.may_close_end_input(),
            expiry: self.expiry,
            subprotocol: self.subprotocol.clone(),
            peer: self.peer.clone(),
        });
        #[cfg(test)]
        {
            driver.mux().whole = self.whole.take();
        }
        (driver, session, set)
    }
}
