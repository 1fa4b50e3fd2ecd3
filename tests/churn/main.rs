//! Whole sessions by seed: a random client against a random service, with random limits.
//!
//! Everything that happens follows from one number, the seed. Time is paused. A session is judged
//! by what both ends have seen, see [`judge`]: which bytes came, how each channel ended, with which
//! code the session was closed, and what was left behind.
//!
//! There are three kinds of sessions, with seeds of their own: channels, commands behind a
//! `RemoteCommandLayer`, and connections behind a `PortForwardLayer`.
//!
//! ```console
//! cargo test --all-features --test churn                           # a few seconds
//! FIRST=17 SEEDS=1 cargo test --all-features --test churn commands # one seed again
//! THREADS=2 SEEDS=1000000 cargo test --release --all-features --test churn -- --nocapture --test-threads 1
//! ```
//!
//! A seed that fails is shortened as long as it still fails, and printed with its plan.

#![cfg(all(
    feature = "http2",
    feature = "portforward",
    feature = "remotecommand",
    feature = "spdy"
))]

mod campaign;
mod client;
mod draw;
mod facts;
mod halves;
mod judge;
mod notes;
mod opening;
mod pattern;
mod plan;
mod post;
mod scenario;
mod service;
mod shrink;
mod transport;

#[expect(dead_code, reason = "these are for other tests")]
#[path = "../it/support/frames.rs"]
mod frames;
#[expect(dead_code, reason = "these are for other tests")]
#[path = "../it/support/head.rs"]
mod head;
#[expect(dead_code, reason = "these are for other tests")]
#[path = "../it/support/random.rs"]
mod random;

#[test]
fn channels() {
    campaign::run("channels", 1000, draw::plan);
}

#[test]
fn commands() {
    campaign::run("commands", 500, draw::command);
}

#[test]
fn connections() {
    campaign::run("connections", 500, draw::ports);
}
