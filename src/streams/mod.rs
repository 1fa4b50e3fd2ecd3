//! The streams of a SPDY session: from bytes of the peer to the pipes of channels and to the service,
//! and from the service's decisions to frames.
//!
//! It has no socket, and spawns nothing. Each stream stands for a channel, so that readers, writers,
//! the queue and the driver are those of any session.
//!
//! ```text
//!  messages ──> tunnel ──┐                    ┌── data ──> pipes of the channels
//!                        ├──> mux ─── frames ─┤
//!  bytes ────────────────┘                    └──> exchange <── verdicts, ends of writers, time
//!                                                     │
//!                                                     └──> replies, FINs, resets
//! ```
//!
//! SPDY as it is in use has no flow control, so data that one connection does not read is in front of
//! that of all others. Its pipe is extended from the stall reserve as the data arrives. Reading pauses
//! once the reserve is used up, and the connection is reset if the service has asked for that.
//!
//! | file | what it is |
//! |---|---|
//! | `tunnel.rs` | the messages of a WebSocket as bytes |
//! | `mux.rs` | bytes to frames, and data to its pipe; what the driver calls |
//! | `exchange.rs` | what each frame does, and what follows for the handles |
//! | `exchange/opening.rs` | new streams, and halves of pairs |
//! | `exchange/rounds.rs` | what the service, writers and deadlines ask for |
//! | `streams.rs` | the table of streams, with their states and deadlines |
//! | `roles.rs` | the purpose of a stream |
//! | `handoff.rs` | connections to the service, and its verdicts back |

mod exchange;
mod handoff;
mod mux;
mod roles;
mod streams;
mod tunnel;

#[cfg(test)]
mod flow;
#[cfg(test)]
mod model;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use self::{
    handoff::{Answer, NewPair, NewPairs, handoff},
    mux::StreamMux,
    roles::Roles,
    tunnel::TunnelSink,
};
