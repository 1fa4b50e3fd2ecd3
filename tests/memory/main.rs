//! Memory is bounded by configuration, never by the peer.
//!
//! The server of each test is a child process, which runs this binary again. So its resident memory
//! can be read from outside, and each end has a limit of descriptors of its own.

#![cfg(target_os = "linux")]

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[cfg(all(
    feature = "http2",
    feature = "portforward",
    feature = "remotecommand",
    feature = "spdy"
))]
mod attacks;
#[cfg(all(
    feature = "http2",
    feature = "portforward",
    feature = "remotecommand",
    feature = "spdy"
))]
#[expect(dead_code, reason = "one of them is for other tests")]
#[path = "../it/support/frames.rs"]
mod frames;
mod idle;
mod message;
#[cfg(all(
    feature = "http2",
    feature = "portforward",
    feature = "remotecommand",
    feature = "spdy"
))]
#[path = "../../examples/support/serve.rs"]
mod serve;
mod server;
mod stalled;
#[cfg(all(feature = "portforward", feature = "spdy"))]
mod tunnel;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;
