//! Memory is bounded by configuration, never by the peer.
//!
//! The server of each test is a process of its own (this test's binary, run once
//! more), so that its resident memory can be seen from outside, and so that each
//! end has its own limit of descriptors.

#![cfg(target_os = "linux")]

mod idle;
mod message;
mod server;
mod stalled;
