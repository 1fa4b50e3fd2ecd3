//! The connection afterwards.

use super::*;

/// RFC 6455, 4.2.2 and 7.2.2.
#[tokio::test(start_paused = true)]
async fn a_connection_lives_on_after_a_refusal() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let service = hyper_util::service::TowerToHyperService::new(layer().layer_on(Probe::default()));
    tokio::spawn(
        hyper::server::conn::http1::Builder::new()
            .serve_connection(hyper_util::rt::TokioIo::new(server), service)
            .with_upgrades(),
    );
    for (head, status) in [
        (Head::plain("/"), "426"),
        (Head::to("/").offer("unknown"), "403"),
        (Head::to("/"), "101"),
    ] {
        client.write_all(&head.bytes()).await.unwrap();
        let answer = read_head(&mut client).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        let length = answer
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        client.read_exact(&mut body).await.unwrap();
        let connection = answer
            .lines()
            .filter(|line| line.starts_with("connection: "));
        assert!(connection.count() <= 1, "{answer}");
    }
}
