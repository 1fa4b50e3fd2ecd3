//! A panic during a panic aborts the process, so this test runs in a child process.

use tower::{Layer, ServiceExt};
use tower_wsstream::{BoxError, ChannelSet, subprotocols};

use crate::support::{Raw, in_own_process, layer, serve};

/// Panics when it is dropped, even while the thread unwinds.
#[derive(Clone)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in the drop of an extension, on purpose");
    }
}

/// A service panics in `call` while it owns a request whose extensions panic when they are dropped:
/// only its own session is lost.
#[test]
fn a_panic_in_call_with_a_bomb_in_the_request_costs_one_session() {
    in_own_process(|| {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let inner = tower::service_fn(|set: ChannelSet| {
                let _set = set;
                if true {
                    panic!("in call, on purpose");
                }
                std::future::ready(Ok::<(), BoxError>(()))
            });
            let service = layer().layer(inner).map_request(
                |mut request: http::Request<hyper::body::Incoming>| {
                    request.extensions_mut().insert(Bomb);
                    request
                },
            );
            let (near, far) = tokio::io::duplex(4096);
            serve(far, service);
            let refused = Raw::handshake(near, subprotocols::V5).await;
            assert!(refused.is_err());
        });
    });
}
