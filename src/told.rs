use std::sync::{Arc, OnceLock};

use crate::{
    policy::{Policy, Sealed},
    protocol::{Format, subprotocols},
};

/// Carries what a session speaks from the handshake to the client of a test: the format of its
/// messages, and whether the client can end one channel alone.
///
/// A real client knows what the name of a subprotocol stands for. The test's client knows
/// only those of Kubernetes; a table may have any others. So it puts this into the
/// request's extensions, beside the connection that the upgrade needs: a layer that keeps
/// that keeps this.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told(Arc<OnceLock<(Format, bool)>>);

impl Told {
    pub(crate) fn tell(&self, format: Format, half_close: bool) {
        // The one request of a client is answered once.
        let _ = self.0.set((format, half_close));
    }

    /// Returns what the subprotocol has, for a client that knows nothing else.
    ///
    /// The subprotocols of Kubernetes come first: for those the client checks the server, and
    /// does not believe it.
    pub(crate) fn of(&self, subprotocol: &str) -> (Format, bool) {
        match subprotocol {
            subprotocols::BASE64_CHANNEL | subprotocols::V4_BASE64 => (Format::Base64, false),
            subprotocols::CHANNEL | subprotocols::V2 | subprotocols::V3 | subprotocols::V4 => {
                (Format::Binary, false)
            }
            subprotocols::V5 => (Format::Binary, true),
            _ => self.0.get().copied().unwrap_or((Format::Binary, false)),
        }
    }
}

// The layer of the policies inserts it.
impl Sealed for Told {}
impl Policy for Told {}
