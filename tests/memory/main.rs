//! Memory is bounded by configuration, never by the peer.
//!
//! The server of each test is a child process, which runs this binary again. So its resident memory
//! can be read from outside, and each end has a limit of descriptors of its own.

#![cfg(target_os = "linux")]

mod idle;
mod message;
mod server;
mod stalled;
#[cfg(all(feature = "portforward", feature = "spdy"))]
mod tunnel;
