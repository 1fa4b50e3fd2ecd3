//! The decoding of what the peer sends: from the bytes of the transport to the pipes of the readers.

#[cfg(feature = "spdy")]
mod streams;

use std::{sync::Arc, task::Poll};

#[cfg(feature = "spdy")]
use self::streams::StreamInflow;
#[cfg(feature = "spdy")]
use crate::streams::{Roles, StreamMux};
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
    /// SPDY streams, in the messages of a WebSocket or without one.
    #[cfg(feature = "spdy")]
    Streams { roles: Roles, in_messages: bool },
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
    #[cfg(feature = "spdy")]
    Streams(Box<StreamInflow>),
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
            Carrier::Streams { roles, in_messages } => Self::Streams(Box::new(StreamInflow {
                messages: in_messages.then(decoder),
                mux: StreamMux::new(wire, roles),
            })),
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
            Self::Streams(streams) => streams.decode(bytes),
        }
    }

    /// Waits for room for the next byte. If it is pending, the driver is woken once there is room.
    pub(super) fn poll_room(&mut self) -> Poll<()> {
        match self {
            Self::Channels { mux, .. } => mux.poll_room(),
            #[cfg(feature = "spdy")]
            Self::Streams(streams) => streams.mux.poll_room(),
        }
    }

    /// Extends the window of the channel that waits for room, from the stall reserve. Returns
    /// whether there is room now.
    pub(super) fn extend(&self) -> bool {
        match self {
            Self::Channels { mux, .. } => mux.extend(),
            #[cfg(feature = "spdy")]
            Self::Streams(streams) => streams.mux.extend(),
        }
    }

    /// Takes everything from now on, even without room. This is for the little that is left of a
    /// lost connection.
    pub(super) fn take_regardless(&mut self) {
        match self {
            Self::Channels { mux, .. } => mux.take_regardless(),
            #[cfg(feature = "spdy")]
            Self::Streams(streams) => streams.mux.take_regardless(),
        }
    }

    /// Returns the smallest room of all readable channels.
    pub(super) fn least_room(&self) -> usize {
        match self {
            Self::Channels { mux, .. } => mux.least_room(),
            #[cfg(feature = "spdy")]
            Self::Streams(streams) => streams.mux.least_room(),
        }
    }

    /// Ends the channels after the peer has closed the session.
    pub(super) fn end_by_close(&mut self, cause: &EndCause) {
        match self {
            Self::Channels { mux, .. } => mux.end_by_close(cause),
            #[cfg(feature = "spdy")]
            Self::Streams(streams) => streams.mux.end_by_close(cause),
        }
    }

    /// Ends every channel that has not ended yet.
    pub(super) fn end_all(&mut self, end: &End) {
        match self {
            Self::Channels { mux, .. } => mux.end_all(end),
            #[cfg(feature = "spdy")]
            Self::Streams(streams) => streams.mux.end_all(end),
        }
    }

    /// Takes the signs of the peer since the last call.
    pub(super) fn take_heard(&mut self) -> Heard {
        match self {
            Self::Channels { mux, .. } => std::mem::take(&mut mux.heard),
            #[cfg(feature = "spdy")]
            Self::Streams(streams) => streams.mux.take_heard(),
        }
    }

    /// Returns the number of messages for channels that do not exist or are only writable.
    pub(super) fn ignored(&self) -> u64 {
        match self {
            Self::Channels { mux, .. } => mux.ignored,
            #[cfg(feature = "spdy")]
            Self::Streams(streams) => streams.mux.ignored(),
        }
    }

    /// Returns whether there is no WebSocket, whose Pings are apart from SPDY.
    pub(super) fn is_bare_spdy(&self) -> bool {
        match self {
            Self::Channels { .. } => false,
            #[cfg(feature = "spdy")]
            Self::Streams(streams) => streams.messages.is_none(),
        }
    }

    /// Returns the streams of a session over SPDY.
    #[cfg(feature = "spdy")]
    pub(super) fn stream_mux(&mut self) -> Option<&mut StreamMux> {
        match self {
            Self::Channels { .. } => None,
            Self::Streams(streams) => Some(&mut streams.mux),
        }
    }
}
