//! Port-forward over SPDY: the same service by a POST and through the tunnel of kubectl.

use bytes::Bytes;
use tokio::io::DuplexStream;
use tower::ServiceBuilder;
use tower_wsstream::portforward::{ForwardedPort, PortForwardLayer, Protocols};

use super::*;
use crate::support::{
    HttpService, Raw, serve, soon,
    spdy::{REFUSED, Sent, Spdy, open_spdy},
};

const PATH: &str = "/portforward";

/// Echoes on each port but 81, which refuses its connections.
async fn forward(mut port: ForwardedPort) -> Result<(), BoxError> {
    if port.port == 81 {
        return Err("connection refused".into());
    }
    assert!(port.has_half_close());
    assert_eq!(port.request.as_ref().unwrap().uri, PATH);
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

async fn by_post() -> Spdy<DuplexStream> {
    open_spdy(service(), PATH, "portforward.k8s.io").await
}

async fn by_tunnel() -> Spdy<DuplexStream> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    serve(far, service());
    let raw = Raw::handshake_at(near, PATH, "SPDY/3.1+portforward.k8s.io").await;
    Spdy::tunnel(raw.expect("no refusal"))
}

/// Opens the two streams of a connection, as client-go does, and ends the first.
async fn connect(client: &mut Spdy<DuplexStream>, error: u32, port: &str) {
    let request = (error / 4).to_string();
    for (stream, kind) in [(error, "error"), (error + 2, "data")] {
        let headers = [
            ("streamtype", kind),
            ("port", port),
            ("requestid", &request),
        ];
        client.open(stream, &headers).await.unwrap();
        if kind == "error" {
            assert_eq!(soon(client.next()).await, Some(Sent::Reply(error)));
            client.fin(error).await.unwrap();
        }
    }
}

fn fin(stream: u32) -> Sent {
    Sent::Data {
        stream,
        fin: true,
        bytes: Bytes::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_and_the_tunnel_reach_the_same_service() {
    for mut client in [by_post().await, by_tunnel().await] {
        connect(&mut client, 1, "80").await;
        assert_eq!(soon(client.next()).await, Some(Sent::Reply(3)));
        client.data(3, b"hello").await.unwrap();
        let echo = Sent::Data {
            stream: 3,
            fin: false,
            bytes: Bytes::from_static(b"hello"),
        };
        assert_eq!(soon(client.next()).await, Some(echo));

        // One that fails is refused in place of its answer, and the other lives on.
        connect(&mut client, 5, "81").await;
        let mut refused = [soon(client.next()).await, soon(client.next()).await];
        refused.sort_by_key(|sent| matches!(sent, Some(Sent::Reset { .. })));
        let reset = Sent::Reset {
            stream: 7,
            status: REFUSED,
        };
        assert_eq!(refused, [Some(fin(5)), Some(reset)]);

        client.fin(3).await.unwrap();
        assert_eq!(soon(client.next()).await, Some(fin(1)));
        assert_eq!(soon(client.next()).await, Some(fin(3)));
    }
}

#[tokio::test(start_paused = true)]
async fn the_streams_of_a_command_are_not_those_of_ports() {
    let head = spdy::post(PATH, &CLIENT_GO);
    let told = refused(service(), &head, 403, RejectionKind::NoCommonSubprotocol).await;
    let accepted = &told.headers["x-accepted-stream-protocol-versions"];
    assert_eq!(accepted, "portforward.k8s.io");
}
