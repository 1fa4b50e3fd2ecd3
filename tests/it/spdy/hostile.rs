//! Peers that flood, lie or stall. Each costs its own session at most.

use super::*;

/// Checks that the session ends because the peer broke the protocol.
async fn told_off(client: &mut Spdy<DuplexStream>, tunnel: bool) {
    let told = client.read_to_end().await;
    let mut end = told
        .into_iter()
        .skip_while(|said| !matches!(said, Said::GoAway(..)));
    assert!(
        matches!(end.next(), Some(Said::GoAway(_, 1))),
        "a GOAWAY with a fault"
    );
    let close = tunnel.then_some(Said::Close(Some(1002)));
    assert_eq!(end.next(), close);
    assert_eq!(end.next(), None);
}

/// Opens a session in each way, with the frames that break its protocol.
async fn breaks(what: &str, frames: &[u8]) {
    let clients = both(forward(echo)).await;
    for (mut client, tunnel) in clients.into_iter().zip([true, false]) {
        client.bytes(frames).await;
        told_off(&mut client, tunnel).await;
    }
    assert!(!what.is_empty());
}

const NO_HEADERS: &[u8] = &[0; 4];

#[tokio::test(start_paused = true)]
async fn frames_that_break_the_protocol_end_the_session() {
    let none = stored(NO_HEADERS, true);
    let later = stored(NO_HEADERS, false);
    let mut version = ping(1);
    version[1] = 2;
    breaks("version 2", &version).await;
    breaks("stream 0", &syn(0, &none)).await;
    breaks("an even stream", &syn(2, &none)).await;
    breaks("data of stream 0", &data(0, b"x")).await;
    breaks("a reset of stream 0", &reset(0)).await;
    breaks("PING 0", &ping(0)).await;
    breaks("a short PING", &control(6, &[1])).await;
    breaks("a long GOAWAY", &control(7, &[0; 9])).await;
    breaks("a short SYN_STREAM", &control(1, &[0; 9])).await;
    breaks("a large SYN_STREAM", &[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]).await;
    breaks("a lower stream", &[syn(5, &none), syn(3, &later)].concat()).await;
    breaks("the same stream", &[syn(5, &none), syn(5, &later)].concat()).await;
    breaks("no zlib", &syn(1, b"plain text\0\0\xff\xff")).await;
    // Every block is unpacked, also one that means nothing here.
    for (what, kind) in [("a reply without zlib", 2), ("headers without zlib", 8)] {
        let body = [&[0, 0, 0, 1], &b"plain text\0\0\xff\xff"[..]].concat();
        breaks(what, &control(kind, &body)).await;
    }
    breaks("no flush", &syn(1, &none[..none.len() - 1])).await;
    breaks("a short block", &syn(1, &stored(&[0, 0, 0, 1], true))).await;
    let upper = headers(&[("Port", "80")]);
    breaks("upper case", &syn(1, &stored(&upper, true))).await;
    let many = vec![("a", "b"); 17];
    breaks("many headers", &syn(1, &stored(&headers(&many), true))).await;
}

#[tokio::test(start_paused = true)]
async fn a_text_message_is_no_part_of_a_tunnel() {
    let mut client = Spdy::tunnel(forward(echo)).await;
    client.raw(&frame(true, TEXT, b"hello")).await.unwrap();
    told_off(&mut client, true).await;
}

/// Returns the resident memory of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn header_bomb() {
    in_own_process(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let frames = syn(1, &bomb(16 * 1024));
            assert!(frames.len() > 15 * 1024);
            let run = async || {
                let mut client = Spdy::tunnel(forward(echo)).await;
                client.bytes(&frames).await;
                told_off(&mut client, true).await;
            };
            run().await;
            let before = resident();
            for _ in 0..100 {
                run().await;
            }
            // Unpacked, each would have 16 MiB.
            let grown = resident().saturating_sub(before);
            assert!(grown < 4 << 20, "{grown} bytes for 100 bombs");
        });
    });
}

#[tokio::test(start_paused = true)]
async fn half_pairs() {
    for mut client in both(forward(echo)).await {
        let before = tasks();
        for n in 0..1000 {
            let request = n.to_string();
            let fields = [
                ("streamtype", "error"),
                ("port", "80"),
                ("requestid", &request),
            ];
            let syn = client.syn(2 * n + 1, &fields);
            client.bytes(&syn).await;
            let expected = match n {
                0..127 => Said::Reply(2 * n + 1),
                _ => Said::Reset(2 * n + 1, REFUSED),
            };
            assert_eq!(client.next().await, Some(expected));
        }
        let start = Instant::now();
        let mut ended = Vec::new();
        while ended.len() < 127 {
            // Pacing may put them in another order.
            match client.next().await.expect("the ends of all halves") {
                Said::Reset(stream, CANCEL) => ended.push(stream),
                other => panic!("{other:?}"),
            }
        }
        ended.sort();
        assert_eq!(ended, (0..127).map(|n| 2 * n + 1).collect::<Vec<u32>>());
        assert_after(start, secs(10));
        assert!(tasks() <= before, "no task for a half");
        let stream = client.connect(3001, 80).await;
        assert_eq!(client.next().await, Some(Said::Reply(stream)));
    }
}

#[tokio::test(start_paused = true)]
async fn rapid_reset() {
    let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let count = (Arc::clone(&begun), Arc::clone(&ended));
    let service = forward(move |mut port: ForwardedPort| {
        let (begun, ended) = count.clone();
        async move {
            begun.fetch_add(1, Ordering::Relaxed);
            let end = port.stream.read_to_end(&mut Vec::new()).await;
            assert!(end.is_err(), "it was reset");
            ended.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    });
    let mut client = Spdy::tunnel(service).await;
    let sent = soon(flood(&mut client, |client, n| {
        let mut frames = client.pair(4 * n + 1, 80);
        // In a later read, so that the service is called.
        if let Some(earlier) = n.checked_sub(10) {
            frames.extend(reset(4 * earlier + 3));
        }
        frames
    }))
    .await;
    assert!((1000..1200).contains(&sent), "{sent}");
    let begun = begun.load(Ordering::Relaxed);
    assert!((1000..1200).contains(&begun), "{begun} calls");
    assert_eq!(ended.load(Ordering::Relaxed), begun, "all have ended");
}

/// Sends frames until the session ends because of them, and returns how many were sent.
async fn flood(
    client: &mut Spdy<DuplexStream>,
    mut next: impl FnMut(&mut Spdy<DuplexStream>, u32) -> Vec<u8>,
) -> u32 {
    let mut sent = 0;
    loop {
        let mut frames = Vec::new();
        for n in sent..sent + 10 {
            frames.extend(next(client, n));
        }
        client.bytes(&frames).await;
        sent += 10;
        // The answers are read, so that only these frames are at fault.
        while let Ok(said) = timeout(millis(1), client.next()).await {
            if let Said::GoAway(_, status) = said.expect("a GOAWAY in front of the end") {
                assert_eq!(status, 1);
                return sent;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn floods_end_the_session() {
    type Flood<'a> = (&'a str, &'a dyn Fn(u32) -> Vec<u8>);
    let floods: [Flood<'_>; 4] = [
        ("PING", &|n| ping(2 * n + 1)),
        ("SETTINGS", &|_| control(4, &[0; 4])),
        ("empty DATA", &|_| data(1, b"")),
        ("resets of nothing", &|_| reset(9)),
    ];
    for (what, next) in floods {
        let mut client = Spdy::tunnel(forward(echo)).await;
        let sent = soon(flood(&mut client, |_, n| next(n))).await;
        assert!((10_000..11_500).contains(&sent), "{what}: {sent}");
    }
}

/// A client that does not read the answers to its PINGs is not read any more.
#[tokio::test(start_paused = true)]
async fn ping_flood_without_reading() {
    let mut client = Spdy::tunnel_with(forward(echo), 4096).await;
    // The last PING is cut off.
    client.answers = false;
    let mut sent = 0;
    loop {
        let piece = frame(true, 2, &ping(2 * sent + 1));
        if timeout(secs(10), client.raw(&piece)).await.is_err() {
            break;
        }
        sent += 1;
    }
    // The two buffers of the connection, one read, and the answers that may be queued.
    assert!(sent < 5_000, "{sent}");
    let mut answered = 0;
    while answered < sent {
        match client.next().await {
            Some(Said::Ping(id)) if id % 2 == 0 => {}
            said => {
                assert_eq!(said, Some(Said::Ping(2 * answered + 1)));
                answered += 1;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn headers_do_not_wedge() {
    for mut client in both(forward(echo)).await {
        let stream = client.connect(1, 80).await;
        client.next().await;
        for _ in 0..100 {
            let block = stored(&headers(&[("x", "y")]), false);
            let body = [&stream.to_be_bytes()[..], &block].concat();
            client.bytes(&control(8, &body)).await;
        }
        client.bytes(&data(stream, b"still there")).await;
        assert_eq!(client.next().await, Some(Said::data(stream, "still there")));
        let stream = client.connect(5, 80).await;
        assert_eq!(client.next().await, Some(Said::Reply(stream)));
    }
}

#[tokio::test(start_paused = true)]
async fn ids_used_up() {
    let clients = both(forward(echo)).await;
    for (mut client, tunnel) in clients.into_iter().zip([true, false]) {
        let stream = client.connect(0x7fff_fffd, 80).await;
        assert_eq!(client.next().await, Some(Said::Reply(stream)));
        client.bytes(&data(stream, b"the last one")).await;
        assert_eq!(
            client.next().await,
            Some(Said::data(stream, "the last one"))
        );
        client.bytes(&fin(stream)).await;
        let mut expected = vec![
            Said::Fin(stream - 2),
            Said::Fin(stream),
            Said::GoAway(stream, 0),
        ];
        expected.extend(tunnel.then_some(Said::Close(Some(1000))));
        for said in expected {
            assert_eq!(client.next().await, Some(said));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_byte_messages() {
    let mut client = Spdy::tunnel(forward(echo)).await;
    let mut frames = client.pair(1, 80);
    frames.extend(data(3, b"one by one"));
    frames.extend(fin(3));
    for byte in frames {
        // Messages without anything mean nothing. kubectl sends some.
        client.bytes(&[]).await;
        client.bytes(&[byte]).await;
    }
    assert_eq!(client.take().await, [Said::Reply(1), Said::Reply(3)]);
    assert_eq!(client.read_stream(3).await, b"one by one");
}

#[tokio::test(start_paused = true)]
async fn frames_in_fragments() {
    let mut client = Spdy::tunnel(forward(echo)).await;
    let mut frames = client.pair(1, 80);
    frames.extend(data(3, b"in pieces"));
    frames.extend(fin(3));
    let last = frames.len() - 1;
    for (at, byte) in frames.into_iter().enumerate() {
        let opcode = if at == 0 { 2 } else { 0 };
        client
            .raw(&frame(at == last, opcode, &[byte]))
            .await
            .unwrap();
    }
    assert_eq!(client.take().await, [Said::Reply(1), Said::Reply(3)]);
    assert_eq!(client.read_stream(3).await, b"in pieces");
}

/// A frame of 16 MiB is announced, and never comes.
#[tokio::test(start_paused = true)]
async fn an_announced_frame_costs_nothing() {
    for mut client in both(forward(echo)).await {
        let stream = client.connect(1, 80).await;
        client.next().await;
        let mut head = stream.to_be_bytes().to_vec();
        head.extend(0x00ff_ffff_u32.to_be_bytes());
        head.extend(b"begun");
        client.bytes(&head).await;
        assert_eq!(client.next().await, Some(Said::data(stream, "begun")));
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_not_read_pauses_and_loses_nothing() {
    const LEN: usize = 1 << 20;
    let _watchdog = Watchdog::bites_after(secs(50));
    let limits = tower_wsstream::policy::Limits::default().stall_reserve(0);
    for tunnel in [true, false] {
        let (service, mut ports) = held_in(config().limits(limits));
        let mut client = match tunnel {
            true => Spdy::tunnel(service).await,
            false => Spdy::post(service, "/", PORT_FORWARD).await,
        };
        let stream = client.connect(1, 80).await;
        let mut port = ports.recv().await.unwrap();
        let upload = tokio::spawn(async move {
            for _ in 0..LEN / 4096 {
                client.bytes(&data(stream, &[7; 4096])).await;
            }
            client.bytes(&fin(stream)).await;
            client
        });
        tokio::time::sleep(secs(600)).await;
        assert!(!upload.is_finished());
        let mut got = Vec::new();
        soon(port.stream.read_to_end(&mut got)).await.unwrap();
        assert_eq!(got.len(), LEN);
        assert!(got.iter().all(|byte| *byte == 7));
        let mut client = soon(upload).await.unwrap();
        client.bytes(&ping(1)).await;
        while client.next().await != Some(Said::Ping(1)) {}
    }
}

/// The window of a stream is 256 KiB, and a session gets 24 MiB of the reserve at once.
#[tokio::test(start_paused = true)]
async fn a_stalled_reader_does_not_hold_up_others_while_there_is_room() {
    const MIB: usize = 1 << 20;
    let (service, mut ports) = held();
    for mut client in both(service).await {
        let stalled = client.connect(1, 80).await;
        let mut unread = ports.recv().await.unwrap();
        let start = Instant::now();
        for _ in 0..24 {
            client.bytes(&data(stalled, &[7; MIB])).await;
        }
        let stream = client.connect(5, 80).await;
        let mut port = ports.recv().await.unwrap();
        port.stream.write_all(b"fine").await.unwrap();
        assert_eq!(
            client.take().await,
            [Said::Reply(stream), Said::data(stream, "fine")]
        );
        assert_eq!(start.elapsed(), millis(0), "reading never paused");
        // As much beyond it as the transport holds, and no more is lost.
        client.bytes(&data(stalled, &[7; MIB / 2])).await;
        client.bytes(&fin(stalled)).await;
        let mut got = Vec::new();
        soon(unread.stream.read_to_end(&mut got)).await.unwrap();
        assert_eq!(got.len(), 24 * MIB + MIB / 2);
    }
}
