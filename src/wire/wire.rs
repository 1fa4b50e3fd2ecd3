use std::sync::Arc;

use super::{
    inbound::{Inbound, StallReserve},
    outbound::{Outbound, WireConfig},
    traffic::Traffic,
    turn::Turn,
};

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
            .zip(self.outbound.sent_on_each())
            .collect()
    }
}
