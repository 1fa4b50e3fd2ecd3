//! Upgrades to SPDY: the handshake, and the layers that answer it.

mod commands;
mod handshake;
mod layers;
#[cfg(feature = "portforward")]
mod ports;
mod servers;

use std::sync::{Arc, Mutex};

use http::Response;
use tower::{Layer, util::ServiceFn};
use tower_wsstream::{
    BoxError, ChannelSet, RejectionKind, Sessions, StreamingLayer, remotecommand::Protocols,
};

use crate::support::{Head, hold, refusal, refused, sorted, tasks};

/// The path of a command with stdin and stdout.
const EXEC: &str = "/exec?command=cat&stdin=1&stdout=1";

/// Returns the head of a valid request for SPDY, which offers these protocols in a line each.
fn post(offers: &[&str]) -> Head {
    post_to(EXEC, offers)
}

fn post_to(path: &str, offers: &[&str]) -> Head {
    let head = Head::plain("/")
        .line(&format!("POST {path} HTTP/1.1"))
        .with("Connection", "Upgrade")
        .with("Upgrade", "SPDY/3.1")
        .with("Content-Length", "0");
    offers.iter().fold(head, |head, offer| {
        head.with("X-Stream-Protocol-Version", offer)
    })
}

/// The protocols that client-go offers.
const CLIENT_GO: [&str; 5] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];

/// Returns a layer for commands over SPDY alone.
fn layer() -> StreamingLayer {
    StreamingLayer::new(Protocols::default()).spdy_only()
}

/// Keeps the sets of channels that it is called with. Their sessions do not end.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<ChannelSet>>>);

impl Kept {
    fn service(
        &self,
    ) -> ServiceFn<
        impl FnMut(ChannelSet) -> std::future::Pending<Result<(), BoxError>> + Clone + use<>,
    > {
        let kept = Arc::clone(&self.0);
        tower::service_fn(move |set| {
            kept.lock().unwrap().push(set);
            std::future::pending()
        })
    }

    fn take(&self) -> ChannelSet {
        self.0
            .lock()
            .unwrap()
            .pop()
            .expect("the service was called")
    }
}
