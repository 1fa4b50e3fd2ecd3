//! Connections through a tunnel, and by POST.

use tower::load_shed::LoadShedLayer;
use tower_wsstream::{
    StreamingLayer,
    channel::tap::{Direction, Overflow, Payload, Record, Tap, TapLayer},
    policy::Limits,
    portforward::{ForwardError, Stall},
};

use super::*;
use crate::support::{
    HttpService, millis,
    spdy::{CANCEL, REFUSED, Said, Spdy, data, fin, ping, reset},
};

const POST: &str = "portforward.k8s.io";

fn streaming() -> StreamingLayer {
    StreamingLayer::new(Protocols::default()).config(SessionConfig::default().keep_alive(None))
}

/// Returns a service whose connections run a function.
fn connections<F, Fut>(function: F) -> impl HttpService
where
    F: FnMut(ForwardedPort) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    streaming().layer(PortForwardLayer::new().layer(service_fn(function)))
}

/// Opens a session in each way.
async fn both(service: impl HttpService) -> [Spdy<DuplexStream>; 2] {
    [
        Spdy::tunnel(service.clone()).await,
        Spdy::post(service, "/", POST).await,
    ]
}

/// Receives the next frame that belongs to a connection. PINGs are answered, and frames that only
/// show whether the client is still there are skipped.
async fn hear(client: &mut Spdy<DuplexStream>) -> Said {
    loop {
        match client.next().await.expect("another frame") {
            Said::Ping(id) => client.bytes(&ping(id)).await,
            Said::Reset(0x7fff_fff0.., CANCEL) => {}
            said => return said,
        }
    }
}

/// Receives frames that may come in any order.
async fn any_order<const N: usize>(client: &mut Spdy<DuplexStream>, mut expected: [Said; N]) {
    let mut said = client.take::<N>().await;
    let key = |said: &Said| format!("{said:?}");
    said.sort_by_key(key);
    expected.sort_by_key(key);
    assert_eq!(said, expected);
}

#[tokio::test(start_paused = true)]
async fn all_connections_share_the_request_and_the_session() {
    let service = connections(async |mut port: ForwardedPort| {
        let head = port.request.as_ref().expect("the head of the request");
        let seen = format!(
            "{} {} {} {} {} {:?}",
            head.uri,
            head.headers["host"].to_str()?,
            port.port,
            port.index,
            port.has_half_close(),
            port.request_id(),
        );
        port.stream.write_all(seen.as_bytes()).await?;
        let ended = port.session.ended().await;
        Err(ended.into())
    });
    for mut client in both(service).await {
        for (error, port, index) in [(1, 80, 0), (5, 443, 1)] {
            let stream = client.connect(error, port).await;
            let [reply, Said::Data(from, seen)] = client.take().await else {
                panic!("a reply and data");
            };
            assert_eq!((reply, from), (Said::Reply(stream), stream));
            let seen = String::from_utf8(seen.to_vec()).unwrap();
            let request = error.to_string();
            let end = format!(" {port} {index} true Some({request:?})");
            assert!(seen.starts_with('/') && seen.ends_with(&end), "{seen}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_one_second_cut() {
    let service = connections(async |mut port: ForwardedPort| {
        let mut all = Vec::new();
        port.stream.read_to_end(&mut all).await?;
        sleep(secs(10)).await;
        port.stream.write_all(&all).await?;
        Ok(())
    });
    for mut client in both(service).await {
        let stream = client.connect(1, 80).await;
        assert_eq!(client.next().await, Some(Said::Reply(stream)));
        client.bytes(&data(stream, b"question")).await;
        client.bytes(&fin(stream)).await;
        let start = Instant::now();
        // `next` waits for five seconds only.
        sleep(secs(9)).await;
        assert_eq!(client.next().await, Some(Said::data(stream, "question")));
        assert_eq!(start.elapsed().as_secs(), 10);
        any_order(&mut client, [Said::Fin(1), Said::Fin(stream)]).await;
    }
}

#[tokio::test]
async fn a_pods_eof_is_passed_on_at_once() {
    let _watchdog = Watchdog::bites_after(BITE);
    let target = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = target.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut pod, _) = target.accept().await.unwrap();
            pod.write_all(b"bye").await.unwrap();
        }
    });
    let service = connections(move |mut port: ForwardedPort| async move {
        let mut target = TcpStream::connect(address).await?;
        copy_bidirectional(&mut port.stream, &mut target).await?;
        Ok(())
    });
    for mut client in both(service).await {
        for error in [1, 5, 9] {
            let stream = client.connect(error, 80).await;
            let start = std::time::Instant::now();
            let expected = [
                Said::Reply(stream),
                Said::data(stream, "bye"),
                Said::Fin(stream),
                // kubectl up to 1.31 closes the local connection only after this.
                Said::Fin(error),
            ];
            assert_eq!(client.take().await, expected);
            // It was a second with containerd. The bound is generous for a busy machine.
            assert!(start.elapsed() < millis(500), "{:?}", start.elapsed());
            client.bytes(&fin(stream)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_in_flight_delays_the_fin() {
    let service = connections(async |mut port: ForwardedPort| {
        port.stream.read_u8().await?;
        port.stream.shutdown().await?;
        let mut rest = Vec::new();
        port.stream.read_to_end(&mut rest).await?;
        match rest.len() {
            10 => Ok(()),
            _ => Err("the upload was cut".into()),
        }
    });
    for mut client in both(service).await {
        let stream = client.connect(1, 80).await;
        assert_eq!(client.next().await, Some(Said::Reply(stream)));
        let start = Instant::now();
        for _ in 0..11 {
            client.bytes(&data(stream, b"x")).await;
            sleep(millis(30)).await;
        }
        assert_eq!(client.take().await, [Said::Fin(stream), Said::Fin(1)]);
        let after = start.elapsed().as_millis();
        assert!((350..360).contains(&after), "50 ms of quiet: {after}");
        client.bytes(&fin(stream)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn error_stream_ends_with_its_data_stream() {
    let service = connections(async |mut port: ForwardedPort| {
        let mut all = Vec::new();
        port.stream.read_to_end(&mut all).await?;
        drop(port.stream);
        pending().await
    });
    for mut client in both(service).await {
        let stream = client.connect(1, 80).await;
        assert_eq!(client.next().await, Some(Said::Reply(stream)));
        client.bytes(&fin(stream)).await;
        let start = Instant::now();
        assert_eq!(client.take().await, [Said::Fin(stream), Said::Fin(1)]);
        // The service may take that long to return.
        assert_eq!(start.elapsed().as_millis(), 50);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_fails_ends_alone() {
    let service = connections(async |port: ForwardedPort| match port.port {
        1 => Err(io::Error::from(io::ErrorKind::ConnectionRefused).into()),
        2 => {
            sleep(secs(1)).await;
            Err("late".into())
        }
        3 => panic!("panicked on purpose"),
        _ => echo(port).await,
    });
    for mut client in both(service).await {
        let good = client.connect(1, 80).await;
        assert_eq!(client.next().await, Some(Said::Reply(good)));
        for (error, port) in [(5, 1), (9, 2), (13, 3)] {
            let stream = client.connect(error, port).await;
            let refused = [Said::Reset(stream, REFUSED), Said::Fin(error)];
            any_order(&mut client, refused).await;
            client.bytes(&data(good, b"alive")).await;
            assert_eq!(client.next().await, Some(Said::data(good, "alive")));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_text_is_for_the_target_alone_unless_go_is_followed() {
    let fail = async |mut port: ForwardedPort| {
        if port.port == 80 {
            return Err(ForwardError::target("pod \"web\" has terminated").into());
        }
        port.stream.write_all(b"some").await?;
        Err(BoxError::from("the pod has reset it"))
    };
    for go_errors in [false, true] {
        let layer = PortForwardLayer::new().go_errors(go_errors);
        let service = streaming().layer(layer.layer(service_fn(fail)));
        for mut client in both(service).await {
            let stream = client.connect(1, 80).await;
            let text = "error forwarding port 80: pod \"web\" has terminated";
            assert_eq!(
                client.take().await,
                [Said::Reply(stream), Said::data(1, text)]
            );
            any_order(&mut client, [Said::Fin(1), Said::Reset(stream, CANCEL)]).await;

            let stream = client.connect(5, 443).await;
            let begin = [Said::Reply(stream), Said::data(stream, "some")];
            assert_eq!(client.take().await, begin);
            if go_errors {
                let text = "error forwarding port 443: the pod has reset it";
                assert_eq!(client.next().await, Some(Said::data(5, text)));
            }
            any_order(&mut client, [Said::Fin(5), Said::Reset(stream, CANCEL)]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_inside_counts_connections() {
    let service = streaming().layer(
        ServiceBuilder::new()
            .layer(PortForwardLayer::new())
            .layer(LoadShedLayer::new())
            .concurrency_limit(1)
            .service_fn(echo),
    );
    // The first tunnel holds no permit as long as it has no connection.
    let mut idle = Spdy::tunnel(service.clone()).await;
    for mut client in both(service).await {
        let first = client.connect(1, 80).await;
        assert_eq!(client.next().await, Some(Said::Reply(first)));
        let second = client.connect(5, 80).await;
        let refused = [Said::Reset(second, REFUSED), Said::Fin(5)];
        any_order(&mut client, refused).await;
        client.bytes(&fin(first)).await;
        any_order(&mut client, [Said::Fin(1), Said::Fin(first)]).await;
        let third = client.connect(9, 80).await;
        assert_eq!(client.next().await, Some(Said::Reply(third)));
        client.bytes(&reset(third)).await;
        assert_eq!(client.next().await, Some(Said::Fin(9)));
    }
    let last = idle.connect(1, 80).await;
    assert_eq!(idle.next().await, Some(Said::Reply(last)));
}

#[tokio::test(start_paused = true)]
async fn a_wake_of_one_connection_polls_no_other() {
    const CONNECTIONS: usize = 100;
    let polls: Arc<[AtomicUsize; CONNECTIONS]> =
        Arc::new([const { AtomicUsize::new(0) }; CONNECTIONS]);
    let counts = Arc::clone(&polls);
    let service = connections(move |port: ForwardedPort| {
        let (counts, index) = (Arc::clone(&counts), port.index);
        let mut running = Box::pin(echo(port));
        poll_fn(move |cx| {
            counts[index].fetch_add(1, Ordering::Relaxed);
            running.as_mut().poll(cx)
        })
    });
    let mut client = Spdy::tunnel(service).await;
    let mut streams = Vec::new();
    for n in 0..CONNECTIONS as u32 {
        let pair = client.pair(4 * n + 1, 80);
        client.bytes(&pair).await;
        for stream in [4 * n + 1, 4 * n + 3] {
            assert_eq!(hear(&mut client).await, Said::Reply(stream));
        }
        streams.push(4 * n + 3);
    }
    let seen = || {
        let seen = polls.iter().map(|polls| polls.load(Ordering::Relaxed));
        seen.collect::<Vec<_>>()
    };
    for talking in [0, 63, 64, 99] {
        let before = seen();
        for _ in 0..10 {
            client.bytes(&data(streams[talking], b"hello")).await;
            let heard = hear(&mut client).await;
            assert_eq!(heard, Said::data(streams[talking], "hello"));
        }
        for (index, (before, after)) in before.into_iter().zip(seen()).enumerate() {
            assert_eq!(after > before, index == talking, "connection {index}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_explicit_acceptance_the_tunnel_itself_accepts() {
    let config = SessionConfig::default()
        .keep_alive(None)
        .accept(AcceptMode::Explicit);
    let service = StreamingLayer::new(Protocols::default())
        .config(config)
        .layer(PortForwardLayer::new().layer(service_fn(echo)));
    for mut client in both(service).await {
        let stream = client.connect(1, 80).await;
        assert_eq!(client.next().await, Some(Said::Reply(stream)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_tap_records_connections_that_come_later() {
    let (tap, mut records) = Tap::new(Overflow::Backpressure);
    let tap = Arc::new(Mutex::new(Some(tap)));
    let service = ServiceBuilder::new()
        .layer(streaming())
        .layer(TapLayer::new(move |_: &_| tap.lock().unwrap().take()))
        .layer(PortForwardLayer::new())
        .service_fn(async |port: ForwardedPort| match port.port {
            81 => Err(ForwardError::target("gone").into()),
            _ => echo(port).await,
        });
    let mut client = Spdy::tunnel(service).await;
    for error in [1, 5] {
        let stream = client.connect(error, 80).await;
        assert_eq!(client.next().await, Some(Said::Reply(stream)));
        client.bytes(&data(stream, b"hello")).await;
        assert_eq!(client.next().await, Some(Said::data(stream, "hello")));
        client.bytes(&fin(stream)).await;
        any_order(&mut client, [Said::Fin(error), Said::Fin(stream)]).await;
        for expected in [Direction::Inbound, Direction::Outbound] {
            let record = within(LONG, records.next()).await.expect("a record");
            let Record::Payload(Payload {
                channel,
                direction,
                bytes,
                ..
            }) = record
            else {
                panic!("a payload: {record:?}");
            };
            assert_eq!((channel, direction, &*bytes), (0, expected, &b"hello"[..]));
        }
    }
    // The text of an error, on the error stream of the second connection at the same time.
    let stream = client.connect(9, 80).await;
    assert_eq!(client.next().await, Some(Said::Reply(stream)));
    client.connect(13, 81).await;
    let record = within(LONG, records.next()).await.expect("a record");
    let Record::Payload(text) = record else {
        panic!("a payload: {record:?}");
    };
    assert_eq!((text.channel, text.direction), (3, Direction::Outbound));
    assert_eq!(text.bytes, "error forwarding port 81: gone");
    client.close(1000).await;
    let end = within(LONG, records.next()).await;
    assert!(matches!(end, Some(Record::End(_))), "{end:?}");
}

/// SPDY has no flow control, so a connection that is not read can hold up all others.
#[tokio::test(start_paused = true)]
async fn an_upload_that_is_not_read_is_reset_if_it_holds_up_the_session() {
    let service = |stall| {
        let limits = Limits::default().receive_window(64 * 1024).stall_reserve(0);
        let protocols = Protocols::default().on_stall(stall);
        StreamingLayer::new(protocols)
            .config(SessionConfig::default().keep_alive(None))
            .limits(limits)
            .layer(
                PortForwardLayer::new().layer(service_fn(async |mut port: ForwardedPort| {
                    if port.port == 80 {
                        port.stream.flush().await?;
                        sleep(LONG).await;
                    }
                    echo(port).await
                })),
            )
    };
    let stall_and_connect = async |client: &mut Spdy<DuplexStream>| {
        let stalled = client.connect(1, 80).await;
        assert_eq!(client.next().await, Some(Said::Reply(stalled)));
        client.bytes(&data(stalled, &[0; 128 * 1024])).await;
        sleep(millis(1)).await;
        let pair = client.pair(5, 443);
        client.bytes(&pair).await;
        stalled
    };
    for mut client in both(service(Stall::ResetAfter(secs(30)))).await {
        let start = Instant::now();
        let stalled = stall_and_connect(&mut client).await;
        sleep(secs(29)).await;
        let reset = Said::Reset(stalled, CANCEL);
        for expected in [reset, Said::Reply(5), Said::Reply(7)] {
            assert_eq!(hear(&mut client).await, expected);
        }
        assert_eq!(start.elapsed().as_secs(), 30);
        client.bytes(&data(7, b"alive")).await;
        assert_eq!(hear(&mut client).await, Said::data(7, "alive"));
    }
    for mut client in both(service(Stall::Wait)).await {
        stall_and_connect(&mut client).await;
        sleep(secs(600)).await;
        let silence = tokio::time::timeout(secs(1), hear(&mut client)).await;
        assert!(silence.is_err(), "{silence:?}");
    }
}
