//! The decoding of what the peer sends: from the bytes of the transport to the pipes of the readers.

use std::{sync::Arc, task::Poll};

#[cfg(feature = "spdy")]
use crate::streams::{Peer, Roles, Tunnel};
use crate::{
    error::EndCause,
    frame::{Decoder, Role},
    mux::{Heard, Mux},
    policy::Limits,
    protocol::Format,
    wire::{End, Wire},
};

/// The way in which the data of channels is carried.
#[derive(Debug)]
pub(crate) enum Carrier {
    /// WebSocket messages, each of one channel.
    Channels { format: Format, half_close: bool },
    /// SPDY streams in WebSocket messages.
    #[cfg(feature = "spdy")]
    Tunnel(Roles),
    /// SPDY streams, without a WebSocket.
    #[cfg(feature = "spdy")]
    Spdy(Roles),
}

/// The decoder of a session; see the module's documentation.
#[derive(Debug)]
#[cfg_attr(
    feature = "spdy",
    expect(
        clippy::large_enum_variant,
        reason = "a box would cost a session without SPDY an allocation"
    )
)]
pub(super) enum Inflow {
    /// Each WebSocket message is one of a channel.
    Channels { decoder: Decoder, mux: Mux },
    /// The WebSocket messages are the bytes of SPDY.
    #[cfg(feature = "spdy")]
    Tunnel(Box<(Decoder, Tunnel)>),
    #[cfg(feature = "spdy")]
    Spdy(Box<Peer>),
}

impl Inflow {
    pub(super) fn new(carrier: Carrier, wire: &Arc<Wire>, limits: &Limits) -> Self {
        let decoder = || Decoder::new(Role::Server, limits.max_frame, limits.max_message);
        let wire = Arc::clone(wire);
        match carrier {
            Carrier::Channels { format, half_close } => Self::Channels {
                decoder: decoder(),
                mux: Mux::new(wire, format, half_close),
            },
            #[cfg(feature = "spdy")]
            Carrier::Tunnel(roles) => {
                let tunnel = Tunnel::new(Peer::new(wire, roles));
                Self::Tunnel(Box::new((decoder(), tunnel)))
            }
            #[cfg(feature = "spdy")]
            Carrier::Spdy(roles) => Self::Spdy(Box::new(Peer::new(wire, roles))),
        }
    }

    /// Decodes as many bytes as there is room for, and returns their number.
    pub(super) fn decode(&mut self, bytes: &[u8]) -> Result<usize, EndCause> {
        match self {
            Self::Channels { decoder, mux } => {
                let decoded = decoder.decode(bytes, mux);
                mux.commit();
                decoded
            }
            #[cfg(feature = "spdy")]
            Self::Tunnel(tunnel) => {
                let (decoder, tunnel) = &mut **tunnel;
                let decoded = decoder.decode(bytes, tunnel);
                tunnel.peer_mut().commit();
                decoded
            }
            #[cfg(feature = "spdy")]
            Self::Spdy(peer) => peer.decode(bytes),
        }
    }

    /// Waits for room for the next byte. If it is pending, the driver is woken once there is room.
    pub(super) fn poll_room(&mut self) -> Poll<()> {
        match self {
            Self::Channels { mux, .. } => mux.poll_room(),
            #[cfg(feature = "spdy")]
            Self::Tunnel(tunnel) => tunnel.1.peer_mut().poll_room(),
            #[cfg(feature = "spdy")]
            Self::Spdy(peer) => peer.poll_room(),
        }
    }

    /// Extends the window of the channel that waits for room, from the stall reserve. Returns
    /// whether there is room now.
    pub(super) fn extend(&self) -> bool {
        match self {
            Self::Channels { mux, .. } => mux.extend(),
            #[cfg(feature = "spdy")]
            Self::Tunnel(tunnel) => tunnel.1.peer().extend(),
            #[cfg(feature = "spdy")]
            Self::Spdy(peer) => peer.extend(),
        }
    }

    /// Takes everything from now on, even without room. This is for the little that is left of a
    /// lost connection.
    pub(super) fn take_regardless(&mut self) {
        match self {
            Self::Channels { mux, .. } => mux.take_regardless(),
            #[cfg(feature = "spdy")]
            Self::Tunnel(tunnel) => tunnel.1.peer_mut().take_regardless(),
            #[cfg(feature = "spdy")]
            Self::Spdy(peer) => peer.take_regardless(),
        }
    }

    /// Returns the smallest room of all readable channels.
    pub(super) fn least_room(&self) -> usize {
        match self {
            Self::Channels { mux, .. } => mux.least_room(),
            #[cfg(feature = "spdy")]
            Self::Tunnel(tunnel) => tunnel.1.peer().least_room(),
            #[cfg(feature = "spdy")]
            Self::Spdy(peer) => peer.least_room(),
        }
    }

    /// Ends the channels after the peer has closed the session.
    pub(super) fn end_by_close(&mut self, cause: &EndCause) {
        match self {
            Self::Channels { mux, .. } => mux.end_by_close(cause),
            #[cfg(feature = "spdy")]
            Self::Tunnel(tunnel) => tunnel.1.peer_mut().end_by_close(cause),
            #[cfg(feature = "spdy")]
            Self::Spdy(peer) => peer.end_by_close(cause),
        }
    }

    /// Ends every channel that has not ended yet.
    pub(super) fn end_all(&mut self, end: &End) {
        match self {
            Self::Channels { mux, .. } => mux.end_all(end),
            #[cfg(feature = "spdy")]
            Self::Tunnel(tunnel) => tunnel.1.peer_mut().end_all(end),
            #[cfg(feature = "spdy")]
            Self::Spdy(peer) => peer.end_all(end),
        }
    }

    /// Takes the signs of the peer since the last call.
    pub(super) fn take_heard(&mut self) -> Heard {
        match self {
            Self::Channels { mux, .. } => std::mem::take(&mut mux.heard),
            #[cfg(feature = "spdy")]
            Self::Tunnel(tunnel) => tunnel.1.peer_mut().take_heard(),
            #[cfg(feature = "spdy")]
            Self::Spdy(peer) => peer.take_heard(),
        }
    }

    /// Returns the number of messages for channels that do not exist or are only writable.
    pub(super) fn ignored(&self) -> u64 {
        match self {
            Self::Channels { mux, .. } => mux.ignored,
            #[cfg(feature = "spdy")]
            Self::Tunnel(tunnel) => tunnel.1.peer().ignored(),
            #[cfg(feature = "spdy")]
            Self::Spdy(peer) => peer.ignored(),
        }
    }

    /// Returns whether there is no WebSocket, whose Pings are apart from SPDY.
    pub(super) fn is_bare_spdy(&self) -> bool {
        match self {
            Self::Channels { .. } => false,
            #[cfg(feature = "spdy")]
            Self::Tunnel(_) => false,
            #[cfg(feature = "spdy")]
            Self::Spdy(_) => true,
        }
    }

    /// Returns the peer of a session over SPDY.
    #[cfg(feature = "spdy")]
    pub(super) fn peer_mut(&mut self) -> Option<&mut Peer> {
        match self {
            Self::Channels { .. } => None,
            Self::Tunnel(tunnel) => Some(tunnel.1.peer_mut()),
            Self::Spdy(peer) => Some(peer),
        }
    }
}
