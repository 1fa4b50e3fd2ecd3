//! Port-forward over SPDY: the same service by a POST and through the tunnel of kubectl.

use tower::ServiceBuilder;
use tower_wsstream::portforward::{ForwardedPort, PortForwardLayer, Protocols};

use super::*;
use crate::support::{
    HttpService,
    spdy::{REFUSED, Said, Spdy, data, fin},
};

const PATH: &str = "/portforward";

/// Echoes on each port but 81, which refuses its connections.
async fn forward(mut port: ForwardedPort) -> Result<(), BoxError> {
    if port.port == 81 {
        return Err("connection refused".into());
    }
    assert!(port.has_half_close());
    assert!(port.request.is_some());
    let (mut input, mut output) = tokio::io::split(&mut port.stream);
    tokio::io::copy(&mut input, &mut output).await?;
    Ok(())
}

fn service() -> impl HttpService {
    ServiceBuilder::new()
        .layer(StreamingLayer::new(Protocols::default()))
        .layer(PortForwardLayer::new())
        .service_fn(forward)
}

#[tokio::test(start_paused = true)]
async fn a_post_and_the_tunnel_reach_the_same_service() {
    let by_post = Spdy::post(service(), PATH, "portforward.k8s.io").await;
    for mut client in [by_post, Spdy::tunnel(service()).await] {
        assert_eq!(client.connect(1, 80).await, 3);
        assert_eq!(client.next().await, Some(Said::Reply(3)));
        client.bytes(&data(3, b"hello")).await;
        assert_eq!(client.next().await, Some(Said::data(3, "hello")));

        // One that fails is refused in place of its answer, and the other lives on.
        assert_eq!(client.connect(5, 81).await, 7);
        let refused = client.take::<2>().await;
        assert!(refused.contains(&Said::Reset(7, REFUSED)), "{refused:?}");
        assert!(refused.contains(&Said::Fin(5)), "{refused:?}");

        client.bytes(&fin(3)).await;
        assert_eq!(client.take().await, [Said::Fin(1), Said::Fin(3)]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_streams_of_a_command_are_not_those_of_ports() {
    let head = post_to(PATH, &CLIENT_GO);
    let service = StreamingLayer::new(Protocols::default()).layer(Kept::default().service());
    let told = refused(service, &head, 403, RejectionKind::NoCommonSubprotocol).await;
    let accepted = &told.headers["x-accepted-stream-protocol-versions"];
    assert_eq!(accepted, "portforward.k8s.io");
}
