//! Configurations that are refused.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_time_of_nothing_is_a_mistake() {
    let _watchdog = Watchdog::bites_after(BITE);
    let zero = Duration::ZERO;
    for (layer, knob) in [
        (layer().idle_timeout(zero), "idle_timeout"),
        (layer().config(config().time_limit(zero)), "time_limit"),
        (
            layer().config(config().keep_alive(KeepAlive::every(zero))),
            "KeepAlive",
        ),
        (
            layer().config(config().keep_alive(KeepAlive::every(secs(1)).timeout(zero))),
            "KeepAlive",
        ),
    ] {
        let error = layer.check().unwrap_err().to_string();
        assert!(error.contains(knob), "{error}");
        let (near, far) = tokio::io::duplex(4096);
        serve(far, layer.layer(tower::service_fn(never)));
        let answer = Raw::handshake(near, subprotocols::V5).await.unwrap_err();
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    }
    for layer in [
        layer(),
        idle(),
        beating(1, 1),
        layer().idle_timeout(Duration::MAX),
        layer().config(config().keep_alive(KeepAlive::every(Duration::MAX).timeout(Duration::MAX))),
    ] {
        layer.check().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_asks_for_no_time_is_told_so() {
    let zero = Some(Duration::ZERO);
    let session = idle().layer(tower::service_fn(never));
    macro_rules! asking {
        ($policy:expr) => {
            BoxCloneService::new(PolicyLayer::new($policy).layer(session.clone()))
        };
    }
    for (service, knob) in [
        (asking!(IdleTimeout(zero)), "IdleTimeout"),
        (asking!(TimeLimit(zero)), "TimeLimit"),
        (asking!(KeepAlive::every(Duration::ZERO)), "KeepAlive"),
        (asking!(ByteRate::default().inbound(0)), "ByteRate"),
        (asking!(Limits::default().send_budget(0)), "Limits"),
    ] {
        let (near, far) = tokio::io::duplex(4096);
        serve(far, service);
        let answer = Raw::handshake(near, subprotocols::V5).await.unwrap_err();
        assert!(answer.starts_with("HTTP/1.1 500 "), "{knob}: {answer}");
    }
}
