//! The integration tests: one binary with a module for each area.
//!
//! They use the public interface only. What has to be alone in its process is a binary of its
//! own: `tests/allocations.rs` and `tests/memory`.

#[cfg(all(feature = "remotecommand", feature = "testing"))]
mod accept;
mod any_peer;
#[cfg(all(feature = "axum08", feature = "testing"))]
mod axum;
#[cfg(all(feature = "remotecommand", feature = "testing"))]
mod bearer;
mod bomb;
mod busy;
mod channels;
mod drain;
mod ends;
#[cfg(all(feature = "remotecommand", feature = "testing"))]
mod explicit;
#[cfg(all(
    feature = "http2",
    feature = "portforward",
    feature = "remotecommand",
    feature = "spdy"
))]
mod faults;
mod framing;
#[cfg(all(feature = "remotecommand", feature = "testing"))]
mod hold;
#[cfg(feature = "testing")]
mod hostile;
#[cfg(all(feature = "axum08", feature = "http2", feature = "portforward"))]
mod hostile_layers;
#[cfg(feature = "http2")]
mod http2;
#[cfg(all(feature = "remotecommand", feature = "testing"))]
mod logs;
#[cfg(feature = "testing")]
mod lookup;
mod origin;
#[cfg(all(
    feature = "axum08",
    feature = "portforward",
    feature = "remotecommand",
    feature = "testing"
))]
mod panics;
mod pause;
mod payload;
mod places;
mod policy;
#[cfg(all(feature = "portforward", feature = "testing"))]
mod portforward;
mod rate;
mod reader;
#[cfg(feature = "remotecommand")]
mod refusal;
#[cfg(all(feature = "remotecommand", feature = "testing"))]
mod resize;
#[cfg(feature = "http2")]
mod serving;
#[cfg(all(feature = "remotecommand", feature = "testing"))]
mod smoke;
#[cfg(all(feature = "portforward", feature = "remotecommand", feature = "spdy"))]
mod spdy;
mod stall;
#[cfg(all(feature = "remotecommand", feature = "spdy"))]
mod streaming;
mod summary;
mod support;
#[cfg(all(feature = "remotecommand", feature = "testing"))]
mod tap;
#[cfg(all(feature = "http2", feature = "remotecommand", feature = "testing"))]
mod testing;
#[cfg(all(
    feature = "portforward",
    feature = "remotecommand",
    feature = "testing"
))]
mod tower;
mod writers;
