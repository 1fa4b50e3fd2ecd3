use std::sync::Arc;

use super::{
    inbound::{Inbound, StallReserve},
    outbound::Outbound,
    traffic::Traffic,
    turn::Turn,
};
use crate::protocol::Format;

/// What a session's wire needs to know of its configuration and subprotocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WireConfig {
    pub(crate) format: Format,
    pub(crate) channels: usize,
    pub(crate) receive_window: usize,
    pub(crate) send_budget: usize,
    pub(crate) high_water: usize,
    /// Whether to note when payload was accepted or left last.
    pub(crate) stamps: bool,
}

/// What handles, mux and driver of a session share.
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

    /// All that ever came and went on each channel: received, then sent.
    pub(crate) fn traffic(&self) -> Vec<(Traffic, Traffic)> {
        let received = self.inbound.received_on_each();
        received
            .into_iter()
            .zip(self.outbound.accepted_on_each())
            .collect()
    }
}
