//! Ends that come from the peer, seen from both sides.

use super::*;

/// The service's view: its input and how that ended, the cause of the session's end, and the result
/// of a write after it.
struct Saw {
    input: (Vec<u8>, End),
    cause: EndCause,
    write: io::Result<()>,
}

/// Reads to the end, waits for the end of the session, and writes.
async fn look(mut set: ChannelSet, saw: oneshot::Sender<Saw>) -> Result<(), BoxError> {
    let mut stdin = set.take_reader(0).unwrap();
    let mut stdout = set.take_writer(1).unwrap();
    let ended = set.session().ended();
    drop(set);
    let input = read_out(&mut stdin).await;
    let cause = ended.await;
    let write = match stdout.write_all(b"late").await {
        Ok(()) => stdout.flush().await,
        Err(error) => Err(error),
    };
    let _ = saw.send(Saw {
        input,
        cause,
        write,
    });
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn how_each_end_of_the_peer_looks_from_both_sides() {
    use Act::*;
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, InvalidData};
    let _watchdog = Watchdog::bites_after(secs(50));
    // The act, the reader's end without half-close and with it, the text of the cause, and the code
    // of our Close.
    type Row = (
        Act,
        Option<io::ErrorKind>,
        io::ErrorKind,
        &'static str,
        Option<Option<u16>>,
    );
    let rows: [Row; 13] = [
        (
            Close(Some(1000)),
            None,
            ConnectionAborted,
            "the peer closed with code 1000",
            Some(Some(1000)),
        ),
        (
            Close(None),
            None,
            ConnectionAborted,
            "the peer closed without a code",
            Some(None),
        ),
        (
            Close(Some(1001)),
            Some(ConnectionAborted),
            ConnectionAborted,
            "the peer closed with code 1001",
            Some(Some(1001)),
        ),
        (
            Close(Some(1011)),
            Some(ConnectionAborted),
            ConnectionAborted,
            "the peer closed with code 1011",
            Some(Some(1011)),
        ),
        (
            Close(Some(4999)),
            Some(ConnectionAborted),
            ConnectionAborted,
            "the peer closed with code 4999",
            Some(Some(4999)),
        ),
        (
            Drop,
            Some(ConnectionReset),
            ConnectionReset,
            "the connection is lost",
            None,
        ),
        (
            ReservedBit,
            Some(InvalidData),
            InvalidData,
            "the peer broke the protocol",
            Some(Some(1002)),
        ),
        (
            Unmasked,
            Some(InvalidData),
            InvalidData,
            "the peer broke the protocol",
            Some(Some(1002)),
        ),
        (
            TooLarge,
            Some(InvalidData),
            InvalidData,
            "the peer sent more than the limits allow",
            Some(Some(1009)),
        ),
        (
            NotUtf8,
            Some(InvalidData),
            InvalidData,
            "the peer sent invalid text",
            Some(Some(1007)),
        ),
        (
            NotBase64,
            Some(InvalidData),
            InvalidData,
            "the peer sent invalid text",
            Some(Some(1007)),
        ),
        (
            ShortClose,
            Some(InvalidData),
            InvalidData,
            "the peer broke the protocol",
            Some(Some(1002)),
        ),
        (
            BadCloseCode,
            Some(InvalidData),
            InvalidData,
            "the peer broke the protocol",
            Some(Some(1002)),
        ),
    ];
    for subprotocol in ALL {
        let half_close = subprotocol == subprotocols::V5;
        for (what, whole, half, words, code) in rows {
            if what == NotBase64 && !subprotocol.contains("base64") {
                continue;
            }
            let context = format!("{what:?} on {subprotocol:?}");
            let (saw, seen) = oneshot::channel();
            let layer = layer().limits(Limits::default().max_frame(LARGEST));
            let service = once_in(layer, |set| look(set, saw));
            let mut client = open(service, subprotocol).await;
            client.send(0, b"before").await.unwrap();
            let client = act(what, client).await;
            let told = match client {
                Some(mut client) => Some(within(LONG, client.read_to_end()).await),
                None => None,
            };
            let seen = within(LONG, seen).await.expect(&context);

            let kind = if half_close { Some(half) } else { whole };
            let end = match kind {
                None => End::Eof,
                Some(kind) => End::Error(kind, seen.cause.clone()),
            };
            assert_eq!(seen.input, (b"before".to_vec(), end), "{context}");
            let said = seen.cause.to_string();
            assert!(said.starts_with(words), "{context}: {said}");
            // A Close from the peer is followed by a grace period, but a fault is not.
            if matches!(what, Close(_)) {
                seen.write.expect(&context);
            } else {
                let error = seen.write.expect_err(&context);
                let expected = End::Error(io::ErrorKind::BrokenPipe, seen.cause);
                assert_eq!(End::of(&error), expected, "{context}");
            }
            let Some(told) = told else { continue };
            assert_eq!(told.close, code, "{context}");
            let late = if matches!(what, Close(_)) { "late" } else { "" };
            assert_eq!(told.text(1), late, "{context}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_malformed_close_of_a_channel_is_a_protocol_error_where_the_subprotocol_has_it() {
    for (subprotocol, code) in [
        (subprotocols::V5, Some(Some(1002))),
        (subprotocols::V4, None),
    ] {
        let (saw, seen) = oneshot::channel();
        let mut client = open(once(|set| look(set, saw)), subprotocol).await;
        client.send(0, b"before").await.unwrap();
        let mut client = act(Act::MalformedChannelClose, client).await.unwrap();
        if code.is_some() {
            assert_eq!(within(LONG, client.read_to_end()).await.close, code);
            let (input, end) = within(LONG, seen).await.unwrap().input;
            assert_eq!(input, b"before");
            assert!(
                matches!(end, End::Error(io::ErrorKind::InvalidData, _)),
                "{end:?}"
            );
        } else {
            client.close(None).await.unwrap();
            assert_eq!(
                within(LONG, seen).await.unwrap().input,
                (b"before".to_vec(), End::Eof)
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_bytes_come_before_the_loss_of_the_connection() {
    for subprotocol in ALL {
        for fin_only in [false, true] {
            let (saw, seen) = oneshot::channel();
            let mut client = open(once(|set| look(set, saw)), subprotocol).await;
            let sent: Vec<u8> = (0..150_000_u32).map(|n| (n % 251) as u8).collect();
            for piece in sent.chunks(10_000) {
                client.send(0, piece).await.unwrap();
            }
            if fin_only {
                client.io.shutdown().await.unwrap();
            }
            let client = fin_only.then_some(client);
            let seen = within(LONG, seen).await.unwrap();
            assert!(
                seen.input.0 == sent,
                "{} of {}",
                seen.input.0.len(),
                sent.len()
            );
            let cause = seen.cause;
            assert_eq!(
                seen.input.1,
                End::Error(io::ErrorKind::ConnectionReset, cause)
            );
            drop(client);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_bytes_come_before_the_loss_also_where_a_write_finds_it_first() {
    let (done, result) = oneshot::channel();
    let service = once(|mut set: ChannelSet| async move {
        let (mut stdin, mut stdout) = (set.take_reader(0).unwrap(), set.take_writer(1).unwrap());
        drop(set);
        let mut total = 0;
        let mut buf = [0; 1000];
        let end = loop {
            match stdin.read(&mut buf).await {
                Ok(0) => break End::Eof,
                Ok(n) => {
                    total += n;
                    // The result of the write does not matter here.
                    let _ = stdout.write_all(&buf[..n]).await;
                }
                Err(error) => break End::of(&error),
            }
        };
        let _ = done.send((total, end));
        Ok(())
    });
    let mut client = open(service, subprotocols::V5).await;
    let mut bytes = Vec::new();
    for _ in 0..100 {
        bytes.extend(frame(true, BINARY, &on(0, &[7; 1000])));
    }
    client.bytes(&bytes).await.unwrap();
    drop(client);
    let (total, end) = within(LONG, result).await.unwrap();
    assert!(
        matches!(end, End::Error(io::ErrorKind::ConnectionReset, _)),
        "{end:?}"
    );
    assert_eq!(total, 100_000);
}

#[tokio::test(start_paused = true)]
async fn a_loss_in_the_middle_of_a_message_leaves_what_came_of_it() {
    let (saw, seen) = oneshot::channel();
    let mut client = open(once(|set| look(set, saw)), subprotocols::V4).await;
    let whole = frame(true, BINARY, &on(0, &[7; 1000]));
    client.bytes(&whole[..500]).await.unwrap();
    drop(client);
    let (input, end) = within(LONG, seen).await.unwrap().input;
    let head = 4 + 4 + 1;
    assert_eq!(input, [7; 500][..500 - head]);
    assert!(
        matches!(end, End::Error(io::ErrorKind::ConnectionReset, _)),
        "{end:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_close_after_the_close_of_the_peer_is_the_only_one() {
    // Both sides close at once: we send one Close, and ignore everything after theirs.
    let service = once(|set: ChannelSet| async move {
        set.session().ended().await;
        set.session().close(4000, "mine")?;
        Ok(())
    });
    let mut client = open(service, subprotocols::V5).await;
    client.close(Some(1000)).await.unwrap();
    client.bytes(&frame(true, CLOSE, &[])).await.unwrap();
    client.bytes(b"anything at all").await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert!(told.close.is_some());
}

#[tokio::test(start_paused = true)]
async fn base64_carries_the_ends_of_its_messages() {
    let (saw, seen) = oneshot::channel();
    let mut client = open(once(|set| look(set, saw)), subprotocols::V4_BASE64).await;
    client
        .bytes(&frame(true, BINARY, &base64(0, b"binary")))
        .await
        .unwrap();
    client
        .bytes(&frame(true, TEXT, b"0YWJj\r\nZGVm"))
        .await
        .unwrap();
    // The message ends with an incomplete quad.
    client.bytes(&frame(true, TEXT, b"0YWJjZG")).await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1007)));
    let (input, end) = within(LONG, seen).await.unwrap().input;
    assert_eq!(input, b"binaryabcdefabc");
    assert!(
        matches!(end, End::Error(io::ErrorKind::InvalidData, _)),
        "{end:?}"
    );
}

/// The reason is the peer's text, and is escaped in logs.
#[tokio::test(start_paused = true)]
async fn the_reason_of_a_close_is_told() {
    let longest = "r".repeat(123);
    for (code, reason, text) in [
        (
            4001_u16,
            "going\nhome",
            r#"the peer closed with code 4001: "going\nhome""#,
        ),
        (1000, "", "the peer closed with code 1000"),
        (
            1001,
            &longest,
            &format!("the peer closed with code 1001: {longest:?}"),
        ),
    ] {
        let (tell, saw) = oneshot::channel();
        let service = once(|set: ChannelSet| look(set, tell));
        let mut client = open(service, subprotocols::V4).await;
        let payload = [&code.to_be_bytes()[..], reason.as_bytes()].concat();
        let close = frame(true, CLOSE, &payload);
        client.bytes(&close).await.unwrap();
        let told = within(LONG, client.read_to_end()).await;
        // Our answer has the peer's code, but not its reason.
        assert_eq!((told.close, told.reason.as_str()), (Some(Some(code)), ""));
        let cause = saw.await.unwrap().cause;
        assert_eq!(cause.to_string(), text);
        match cause {
            EndCause::PeerClosed {
                code: c, reason: r, ..
            } => {
                assert_eq!((c, &*r), (Some(code), reason));
            }
            cause => panic!("{cause:?}"),
        }
    }
}

/// Another task is in the middle of a read.
#[tokio::test(start_paused = true)]
async fn a_read_that_is_pending_when_receives_are_ignored_ends_with_the_session() {
    let _watchdog = Watchdog::bites_after(secs(50));
    for lost in [false, true] {
        let (tell, read) = oneshot::channel();
        let service = once(|mut set: ChannelSet| async move {
            let mut stdin = set.take_reader(0).unwrap();
            tokio::spawn(async move { tell.send(read_out(&mut stdin).await) });
            sleep(secs(1)).await;
            set.session().ignore_receives();
            set.session().ended().await;
            Ok(())
        });
        let mut client = open(service, subprotocols::V5).await;
        sleep(secs(2)).await;
        client.send(0, &[7; 1000]).await.unwrap();
        match lost {
            true => drop(client),
            false => client.close(Some(1000)).await.unwrap(),
        }
        let (bytes, end) = within(LONG, read).await.unwrap();
        assert_eq!(bytes, b"");
        assert!(matches!(end, End::Error(..)), "{end:?}");
    }
}
