use std::sync::Arc;

use super::{
    inbound::{Inbound, StallReserve},
    outbound::Outbound,
    traffic::Traffic,
    turn::Turn,
};
use crate::protocol::Format;

/// The part of a session's configuration and subprotocol that the wire depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WireConfig {
    pub(crate) format: Format,
    pub(crate) channels: usize,
    pub(crate) receive_window: usize,
    pub(crate) send_budget: usize,
    pub(crate) high_water: usize,
    /// Set to note when payload was last accepted or last left.
    pub(crate) stamps: bool,
}

/// The state that a session's handles, mux and driver share, in one allocation.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) turn: Arc<Turn>,
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
}

impl Wire {
    pub(crate) fn new(
        turn: Arc<Turn>,
        config: &WireConfig,
        reserve: StallReserve,
        readable: impl Fn(usize) -> bool,
        writable: impl Fn(usize) -> bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            inbound: Inbound::new(&turn, config, reserve, readable),
            outbound: Outbound::new(&turn, config, writable),
            turn,
        })
    }

    /// Returns the traffic of each channel, first received and then sent.
    pub(crate) fn traffic(&self) -> Vec<(Traffic, Traffic)> {
        let received = self.inbound.received_on_each();
        let accepted = self.outbound.accepted_on_each();
        #[cfg(feature = "spdy")]
        if received.is_empty() && self.outbound.has_streams() {
            return self.traffic_of_pairs(&accepted);
        }
        received.into_iter().zip(accepted).collect()
    }

    /// Returns the traffic of all data streams and of all error streams.
    #[cfg(feature = "spdy")]
    fn traffic_of_pairs(&self, accepted: &[Traffic]) -> Vec<(Traffic, Traffic)> {
        let mut sums = vec![<(Traffic, Traffic)>::default(); 2];
        for pipe in self.inbound.pipes() {
            sums[0].0 += pipe.received();
        }
        for (channel, accepted) in accepted.iter().enumerate() {
            sums[channel % 2].1 += *accepted;
        }
        sums
    }
}
