//! What an attacker found, each as the right value.

#[path = "support/raw.rs"]
mod raw;

use std::time::Duration;

use raw::{layer, once_in, open_watched};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep},
};
use tower::{Layer, ServiceExt};
use tower_wsstream::{BoxError, ByteRate, ChannelSet, subprotocols};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A peer that takes one frame each 80 s: five minutes, and what is queued at 2 KiB a second;
/// where the session holds its output back itself, not more than that takes beside it.
#[tokio::test(start_paused = true)]
async fn closing_is_bounded_where_the_output_has_a_rate_of_its_own() {
    // Payload, so that a frame has 64 bytes, which is what the transport holds.
    const FRAME: usize = 64;
    const PAYLOAD: usize = FRAME - 3;
    for (rate, takes) in [(1_000, FRAME), (1_000, 1), (20_000, FRAME)] {
        // More than a burst, which is 50 ms of it.
        let frames_at_once = (rate / 20 / FRAME as u64) as usize + 1;
        let capacity = FRAME * frames_at_once;
        let takes = if takes == 1 { 1 } else { capacity };
        let rate_of = layer().byte_rate(ByteRate::default().outbound(rate));
        let service = once_in(rate_of, |mut set: ChannelSet| async move {
            for channel in [1, 2] {
                let mut writer = set.take_writer(channel).unwrap();
                for _ in 0..30_000 / PAYLOAD {
                    writer.write_all(&[7; PAYLOAD]).await?;
                }
            }
            Ok(())
        });
        let (mut client, dropped) = open_watched(service, subprotocols::V5, capacity).await;
        let start = Instant::now();
        let trickle = async {
            let mut bytes = vec![0; takes];
            // Ten hours are enough to see it.
            while client.io.read_exact(&mut bytes).await.is_ok() && start.elapsed() < secs(36_000) {
                sleep(secs(80)).await;
            }
        };
        tokio::select! {
            () = trickle => {}
            _ = dropped => {}
        }
        // 63 KB at this rate, and at 2 KiB/s.
        let allowed = secs(300 + 63_000 / rate + 63_000 / 2048 + 90);
        let elapsed = start.elapsed();
        assert!(
            elapsed <= allowed,
            "{rate} by {takes}: {elapsed:?}, not {allowed:?}"
        );
    }
}

/// Drops with a panic, whatever else goes on.
#[derive(Clone)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in the drop of an extension, on purpose");
    }
}

/// A service that panics in `call`, with a request in its channels whose extensions panic in
/// their drop, costs its own session.
#[test]
fn a_panic_in_call_with_a_bomb_in_the_request_costs_one_session() {
    const CHILD: &str = "REVIEW_ATTACK_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let me = std::env::current_exe().unwrap();
        let output = std::process::Command::new(me)
            .args([
                "--exact",
                "a_panic_in_call_with_a_bomb_in_the_request_costs_one_session",
            ])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {text}", output.status);
        return;
    }
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
        raw::serve(far, service);
        let refused = raw::Raw::handshake(near, subprotocols::V5).await;
        assert!(refused.is_err());
    });
}

/// A peer that has got its Close may not send any faster than one that has not.
#[tokio::test(start_paused = true)]
async fn what_comes_behind_our_close_has_a_rate_too() {
    let rate = ByteRate::default().inbound(100_000);
    let service = once_in(layer().byte_rate(rate), |mut set: ChannelSet| async move {
        set.take_writer(1).unwrap().write_all(b"bye").await?;
        Ok(())
    });
    let (mut client, _dropped) = open_watched(service, subprotocols::V5, 64 * 1024).await;
    raw::within(secs(60), client.read_to_close()).await;
    let start = Instant::now();
    for _ in 0..1000 {
        client.send(0, &[7; 1000]).await.unwrap();
    }
    let elapsed = start.elapsed();
    assert!(elapsed > secs(8), "1 MB at 100 KB/s took {elapsed:?}");
}
