//! The decoder of a session whose channels are SPDY streams.

use crate::{
    error::EndCause,
    frame::Decoder,
    streams::{StreamMux, TunnelSink},
};

/// The decoder; see the module's documentation.
#[derive(Debug)]
pub(in crate::connection) struct StreamInflow {
    /// The decoder of the messages that carry SPDY, unless there is no WebSocket.
    pub(super) messages: Option<Decoder>,
    pub(super) mux: StreamMux,
}

impl StreamInflow {
    /// Decodes as many bytes as there is room for, and returns their number.
    pub(super) fn decode(&mut self, bytes: &[u8]) -> Result<usize, EndCause> {
        let Some(messages) = &mut self.messages else {
            return self.mux.decode(bytes);
        };
        let decoded = messages.decode(bytes, &mut TunnelSink(&mut self.mux));
        self.mux.commit();
        decoded
    }
}
