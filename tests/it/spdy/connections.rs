//! Connections through both kinds of session.

use tokio::io::duplex;

use super::*;
use crate::support::serve;

#[tokio::test(start_paused = true)]
async fn a_connection_as_kubectl_makes_it() {
    for mut client in both(forward(echo)).await {
        let stream = client.connect(1, 80).await;
        assert_eq!(client.next().await, Some(Said::Reply(stream)));
        client.bytes(&data(stream, b"hello")).await;
        assert_eq!(client.next().await, Some(Said::data(stream, "hello")));
        client.bytes(&fin(stream)).await;
        assert_eq!(client.take().await, [Said::Fin(1), Said::Fin(stream)]);
        client.bytes(&ping(1)).await;
        assert_eq!(client.next().await, Some(Said::Ping(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn streams_echo_at_once() {
    let _watchdog = Watchdog::bites_after(secs(50));
    for mut client in both(forward(echo)).await {
        let streams: Vec<u32> = (0..50).map(|n| 4 * n + 3).collect();
        for stream in &streams {
            let pair = client.pair(stream - 2, 80);
            client.bytes(&pair).await;
        }
        let payload = |stream: u32| vec![stream as u8; 1000 + stream as usize];
        let mut left = streams.len();
        let mut got = std::collections::BTreeMap::<u32, Vec<u8>>::new();
        while left > 0 {
            match client.next().await.expect("a frame") {
                Said::Reply(stream) if stream % 4 == 3 => {
                    client.bytes(&data(stream, &payload(stream))).await;
                    client.bytes(&fin(stream)).await;
                }
                Said::Data(stream, piece) => got.entry(stream).or_default().extend(piece),
                Said::Fin(stream) if stream % 4 == 3 => left -= 1,
                Said::Reply(_) | Said::Fin(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(got.iter().all(|(&stream, got)| *got == payload(stream)));
        assert_eq!(got.len(), streams.len());
    }
}

#[tokio::test(start_paused = true)]
async fn large_data_in_both_directions() {
    const MIB: usize = 1 << 20;
    let service = forward(|mut port: ForwardedPort| async move {
        let mut got = Vec::new();
        port.stream.read_to_end(&mut got).await?;
        port.stream.write_all(&got).await?;
        Ok(())
    });
    for mut client in both(service).await {
        let stream = client.connect(1, 80).await;
        assert_eq!(client.next().await, Some(Said::Reply(stream)));
        let payload: Vec<u8> = (0..MIB).map(|at| (at ^ (at >> 8)) as u8).collect();
        for piece in payload.chunks(100_000) {
            client.bytes(&data(stream, piece)).await;
        }
        client.bytes(&fin(stream)).await;
        assert_eq!(client.read_stream(stream).await, payload);
    }
}

#[tokio::test(start_paused = true)]
async fn one_side_ends_and_the_other_still_writes() {
    let (service, mut ports) = held();
    for mut client in both(service).await {
        let stream = client.connect(1, 80).await;
        let mut port = ports.recv().await.unwrap();
        port.stream.write_all(b"begun").await.unwrap();
        let begun = [Said::Reply(stream), Said::data(stream, "begun")];
        assert_eq!(client.take().await, begun);
        client.bytes(&fin(stream)).await;
        assert_eq!(soon(port.stream.read(&mut [0; 9])).await.unwrap(), 0);
        // The answer may take as long as it likes.
        tokio::time::sleep(secs(10)).await;
        port.stream.write_all(b"late").await.unwrap();
        assert_eq!(client.next().await, Some(Said::data(stream, "late")));

        let stream = client.connect(5, 80).await;
        let mut port = ports.recv().await.unwrap();
        let before = Instant::now();
        port.stream.shutdown().await.unwrap();
        assert_eq!(
            client.take().await,
            [Said::Reply(stream), Said::Fin(stream)]
        );
        assert_after(before, millis(0));
        client.bytes(&data(stream, b"more")).await;
        client.bytes(&fin(stream)).await;
        let mut got = String::new();
        soon(port.stream.read_to_string(&mut got)).await.unwrap();
        assert_eq!(got, "more");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_ends_both_directions() {
    let (service, mut ports) = held();
    for mut client in both(service).await {
        let (stream, mut port) = answered(&mut client, &mut ports).await;
        client.bytes(&data(stream, b"unread")).await;
        client.bytes(&reset(stream)).await;
        client.bytes(&ping(1)).await;
        assert_eq!(client.next().await, Some(Said::Ping(1)));
        let mut got = Vec::new();
        let error = soon(port.stream.read_to_end(&mut got)).await.unwrap_err();
        assert_eq!(
            (got, error.kind()),
            (b"unread".to_vec(), io::ErrorKind::ConnectionReset)
        );
        let error = port.stream.write_all(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        // Other connections continue.
        let stream = client.connect(5, 80).await;
        let mut port = ports.recv().await.unwrap();
        port.stream.write_all(b"y").await.unwrap();
        let rest = [client.next().await, client.next().await];
        assert!(rest.contains(&Some(Said::Reply(stream))), "{rest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_behind_an_end_ends_reads_and_writes_that_wait() {
    for half in [Half::Ours, Half::Theirs] {
        let (service, mut ports) = held();
        for mut client in both(service).await {
            let (stream, mut port) = answered(&mut client, &mut ports).await;
            client.answers = false;
            let waiting = tokio::spawn(async move {
                match half {
                    Half::Ours => {
                        port.stream.shutdown().await.unwrap();
                        port.stream.read(&mut [0; 9]).await.map(|_| ())
                    }
                    Half::Theirs => loop {
                        // The client confirms nothing, so a write has to wait at last.
                        let written = port.stream.write_all(&[0; 1024]).await;
                        if written.is_err() {
                            break written;
                        }
                    },
                }
            });
            if half == Half::Theirs {
                client.bytes(&fin(stream)).await;
            }
            tokio::time::sleep(secs(1)).await;
            assert!(!waiting.is_finished());
            client.bytes(&reset(stream)).await;
            let end = soon(waiting).await.unwrap();
            assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
    }
}

/// Returns the end of a read from a connection whose client goes in this way.
async fn read_after<Fut: Future<Output = ()>>(
    half: &[Half],
    go: impl Fn(Spdy<DuplexStream>) -> Fut,
) -> Vec<io::ErrorKind> {
    let (service, mut ports) = held();
    let mut kinds = Vec::new();
    for mut client in both(service).await {
        let (stream, mut port) = answered(&mut client, &mut ports).await;
        client.bytes(&data(stream, b"some")).await;
        if half.contains(&Half::Ours) {
            port.stream.shutdown().await.unwrap();
        }
        if half.contains(&Half::Theirs) {
            client.bytes(&fin(stream)).await;
        }
        go(client).await;
        let mut got = Vec::new();
        let end = soon(port.stream.read_to_end(&mut got)).await;
        assert_eq!(got, b"some");
        kinds.extend(end.err().map(|error| error.kind()));
    }
    kinds
}

/// A direction that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Ours,
    Theirs,
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_ends_reads() {
    let lose = |client: Spdy<DuplexStream>| async move { drop(client.into_inner()) };
    let reset = io::ErrorKind::ConnectionReset;
    for (half, expected) in [
        (&[][..], &[reset, reset][..]),
        (&[Half::Ours], &[reset, reset]),
        // They had said everything.
        (&[Half::Theirs], &[]),
    ] {
        assert_eq!(read_after(half, lose).await, expected, "{half:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn data_in_front_of_a_goaway_is_delivered() {
    let leave = |mut client: Spdy<DuplexStream>| async move {
        client.bytes(&go_away()).await;
        drop(client.into_inner());
    };
    let aborted = io::ErrorKind::ConnectionAborted;
    assert_eq!(read_after(&[], leave).await, [aborted, aborted]);
    assert_eq!(read_after(&[Half::Theirs], leave).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_goaway_is_answered_by_the_end() {
    let (service, _ports) = held();
    for (mut client, tunnel) in both(service).await.into_iter().zip([true, false]) {
        client.connect(1, 80).await;
        client.bytes(&go_away()).await;
        if tunnel {
            client.close(1000).await;
        }
        let told = client.read_to_end().await;
        match tunnel {
            true => assert_eq!(told.last(), Some(&Said::Close(Some(1000))), "{told:?}"),
            false => assert!(matches!(told.last(), Some(Said::GoAway(..))), "{told:?}"),
        }
    }
}

/// A proxy that copies bytes, and drops both connections at the first end of either.
#[tokio::test(start_paused = true)]
async fn an_end_reaches_both_sides_through_a_proxy() {
    for ours in [true, false] {
        let sessions = tower_wsstream::Sessions::default();
        let (service, mut ports) = held_in(config().sessions(sessions.clone()));
        let (near, mut left) = duplex(4096);
        let (mut right, far) = duplex(4096);
        serve(far, service);
        let proxy = tokio::spawn(async move {
            let (mut from_client, mut to_client) = tokio::io::split(&mut left);
            let (mut from_server, mut to_server) = tokio::io::split(&mut right);
            tokio::select! {
                _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
            }
        });
        let mut client = Spdy::post_over(near, "/", PORT_FORWARD).await;
        client.connect(1, 80).await;
        let mut port = ports.recv().await.unwrap();
        let start = Instant::now();
        if ours {
            port.session.close(1001, "").unwrap();
        } else {
            client.bytes(&go_away()).await;
        }
        // Go's clients drop the connection at a GOAWAY, and this end does not before that.
        while !matches!(client.next().await.expect("a GOAWAY"), Said::GoAway(..)) {}
        assert!(soon(port.stream.read(&mut [0; 9])).await.is_err());
        drop(client);
        soon(proxy).await.unwrap();
        soon(sessions.drain(Duration::ZERO)).await;
        assert!(start.elapsed() < secs(15), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_keeps_a_session_from_being_idle() {
    let idle = config().idle_timeout(Some(secs(60)));
    for tunnel in [true, false] {
        let (service, _ports) = held_in(idle.clone());
        let mut client = match tunnel {
            true => Spdy::tunnel(service).await,
            false => Spdy::post(service, "/", PORT_FORWARD).await,
        };
        for id in 0..20 {
            tokio::time::sleep(secs(50)).await;
            client.bytes(&ping(2 * id + 1)).await;
            assert_eq!(client.next().await, Some(Said::Ping(2 * id + 1)));
        }
        let before = Instant::now();
        let told = client.next().await;
        assert!(matches!(told, Some(Said::GoAway(0, 0))), "{told:?}");
        assert!(before.elapsed() >= secs(59));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_dial_takes_the_place_of_the_reply() {
    let service = forward(|_| async { Err("connection refused".into()) });
    for mut client in both(service).await {
        for error in [1, 5] {
            let stream = client.connect(error, 80).await;
            let expected = [Said::Reset(stream, REFUSED), Said::Fin(error)];
            assert_eq!(client.take().await, expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_too_many_is_refused_alone() {
    let (service, mut ports) = held();
    for mut client in both(service).await {
        let mut held = Vec::new();
        for n in 0..127 {
            client.connect(4 * n + 1, 80).await;
            held.push(ports.recv().await.unwrap());
        }
        let frames = client.pair(1001, 80);
        client.bytes(&frames).await;
        let refused = [Said::Reset(1001, REFUSED), Said::Reset(1003, REFUSED)];
        assert_eq!(client.take().await, refused);
        let mut last = held.pop().unwrap();
        last.stream.write_all(b"x").await.unwrap();
        assert_eq!(
            client.take().await,
            [Said::Reply(507), Said::data(507, "x")]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_connections_and_the_tunnel() {
    let sessions = tower_wsstream::Sessions::default();
    let layer = StreamingLayer::new(Protocols::default())
        .config(config())
        .sessions(sessions.clone());
    let service = layer.layer(PortForwardLayer::new().layer(service_fn(echo)));
    let mut client = Spdy::tunnel(service).await;
    let stream = client.connect(1, 80).await;
    assert_eq!(client.next().await, Some(Said::Reply(stream)));
    let drain = tokio::spawn(sessions.drain(secs(60)));
    let told = client.read_to_end().await;
    let expected = [
        // The service learns of the drain from its read, and fails.
        Said::Reset(stream, CANCEL),
        Said::Fin(1),
        Said::GoAway(stream, 0),
        Said::Close(Some(1000)),
    ];
    assert_eq!(told, expected);
    assert_eq!(soon(drain).await.unwrap().cut, 0);
}
