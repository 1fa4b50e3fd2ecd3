//! What goes through a channel, and what a channel does to its siblings.

use std::{
    io,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tower_wsstream::{
    BoxError, ChannelReader, ChannelSet, Session, channel::ChannelStream, policy::Limits,
    subprotocols,
};

use crate::support::{
    ALL, BINARY, BITE, End, Frame, Head, LONG, PING, PONG, Raw, TEXT, Watchdog, base64, frame,
    layer, on, once, once_in, open, open_with, read_out, serve, within,
};

const WINDOW: usize = 256 * 1024;
const CHUNK: usize = 16 * 1024;
const CONTINUATION: u8 = 0;

/// Both readers of a session, which stays open until the test is over.
struct Readers {
    stdin: ChannelReader,
    resize: ChannelReader,
    session: Session,
}

/// A session whose readers the test has in its hands.
async fn readers(subprotocol: &str) -> (Raw<DuplexStream>, Readers) {
    readers_in(layer(), subprotocol).await
}

async fn readers_in(
    layer: tower_wsstream::WsStreamLayer,
    subprotocol: &str,
) -> (Raw<DuplexStream>, Readers) {
    let (sender, receiver) = oneshot::channel();
    let service = once_in(layer, move |mut set: ChannelSet| async move {
        let readers = Readers {
            stdin: set.take_reader(0).unwrap(),
            resize: set.take_reader(4).unwrap(),
            session: set.session().clone(),
        };
        let ended = set.session().ended();
        assert!(sender.send(readers).is_ok());
        ended.await;
        Ok(())
    });
    let client = open_with(service, subprotocol, 16 * WINDOW).await;
    (client, receiver.await.unwrap())
}

async fn expect(reader: &mut ChannelReader, bytes: &[u8]) {
    let mut came = vec![0; bytes.len()];
    let reading = within(LONG, reader.read_exact(&mut came)).await;
    reading.unwrap();
    assert!(came == bytes, "{} other bytes", bytes.len());
}

/// Time passes, and nothing comes.
async fn expect_nothing(reader: &mut ChannelReader) {
    let read = timeout(Duration::from_secs(5), reader.fill_buf()).await;
    assert!(read.is_err(), "{:?}", read.unwrap().map(<[u8]>::len));
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

#[tokio::test(start_paused = true)]
async fn bytes_come_in_the_order_in_which_they_were_sent() {
    for subprotocol in ALL {
        let (mut client, mut readers) = readers(subprotocol).await;
        for len in [
            1, 2, 3, 124, 125, 126, 127, 4095, 4096, 65_534, 65_535, 65_536,
        ] {
            let sent = pattern(len);
            client.send(0, &sent).await.unwrap();
            client.send(4, &sent[..1]).await.unwrap();
            expect(&mut readers.stdin, &sent).await;
            expect(&mut readers.resize, &sent[..1]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_message_carries_nothing_and_is_no_end() {
    for subprotocol in ALL {
        let (mut client, mut readers) = readers(subprotocol).await;
        for opcode in [TEXT, BINARY] {
            client.bytes(&frame(true, opcode, b"")).await.unwrap();
            client.bytes(&frame(false, opcode, b"")).await.unwrap();
            client.bytes(&frame(true, CONTINUATION, b"")).await.unwrap();
        }
        client.send(0, b"").await.unwrap();
        expect_nothing(&mut readers.stdin).await;
        client.send(0, b"more").await.unwrap();
        expect(&mut readers.stdin, b"more").await;
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_channels_are_ignored() {
    for subprotocol in ALL {
        let (mut client, mut readers) = readers(subprotocol).await;
        // Those that only the server writes, and those that are not there.
        for channel in [1, 2, 3, 5, 79, 120, 254] {
            let message = match subprotocol.contains("base64") {
                true if channel > 70 => continue,
                true => frame(true, TEXT, &base64(channel, b"lost")),
                false => frame(true, BINARY, &on(channel, &[7; 300])),
            };
            client.bytes(&message).await.unwrap();
        }
        // More of it than any window.
        for _ in 0..8 {
            client.send(1, &[7; 100_000]).await.unwrap();
        }
        client.send(0, b"more").await.unwrap();
        expect(&mut readers.stdin, b"more").await;
        expect_nothing(&mut readers.resize).await;
    }
}

#[tokio::test(start_paused = true)]
async fn text_on_binary_subprotocols_and_the_reverse() {
    for subprotocol in ALL {
        let (mut client, mut readers) = readers(subprotocol).await;
        let message = match subprotocol.contains("base64") {
            true => base64(0, "größer".as_bytes()),
            false => on(0, "größer".as_bytes()),
        };
        for opcode in [TEXT, BINARY] {
            client.bytes(&frame(true, opcode, &message)).await.unwrap();
            // Cut in the middle of a character, and of a quad.
            for cut in 0..message.len() {
                client
                    .bytes(&frame(false, opcode, &message[..cut]))
                    .await
                    .unwrap();
                client
                    .bytes(&frame(true, CONTINUATION, &message[cut..]))
                    .await
                    .unwrap();
            }
        }
        let expected = "größer".repeat(2 * (1 + message.len()));
        expect(&mut readers.stdin, expected.as_bytes()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn fragments_are_one_stream_with_control_frames_between() {
    for subprotocol in ALL {
        for size in [1, 2, 3, 7, 1000] {
            let (mut client, mut readers) = readers(subprotocol).await;
            let sent = pattern(size.min(30) * 100);
            let (opcode, message) = match subprotocol.contains("base64") {
                true => (TEXT, base64(0, &sent)),
                false => (BINARY, on(0, &sent)),
            };
            let pieces: Vec<_> = message.chunks(size).collect();
            for (n, piece) in pieces.iter().enumerate() {
                let opcode = if n == 0 { opcode } else { CONTINUATION };
                let fin = n + 1 == pieces.len();
                client.bytes(&frame(fin, opcode, piece)).await.unwrap();
                if !fin && n % 100 == 0 {
                    client.bytes(&frame(true, PING, &[n as u8])).await.unwrap();
                    let pong = within(LONG, client.next()).await.unwrap();
                    assert_eq!((pong.opcode, &pong.payload[..]), (PONG, &[n as u8][..]));
                    client.bytes(&frame(true, PONG, b"unasked")).await.unwrap();
                }
            }
            expect(&mut readers.stdin, &sent).await;
            // And the next message begins anew.
            client.send(4, b"x").await.unwrap();
            expect(&mut readers.resize, b"x").await;
            expect_nothing(&mut readers.stdin).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fragments_are_handed_on_before_their_message_is_whole() {
    let (mut client, mut readers) = readers(subprotocols::V5).await;
    client
        .bytes(&frame(false, BINARY, &on(0, b"first")))
        .await
        .unwrap();
    expect(&mut readers.stdin, b"first").await;
    // A frame too: half of it is here.
    let second = frame(true, CONTINUATION, &[7; 1000]);
    client.bytes(&second[..508]).await.unwrap();
    expect(&mut readers.stdin, &[7; 500]).await;
    client.bytes(&second[508..]).await.unwrap();
    expect(&mut readers.stdin, &[7; 500]).await;
}

#[tokio::test(start_paused = true)]
async fn of_invalid_base64_nothing_is_delivered() {
    for subprotocol in [subprotocols::V4_BASE64, subprotocols::BASE64_CHANNEL] {
        for bad in [
            "!",
            "YWJj!",
            "YWJjZGVm*GVm",
            "YWJj=",
            "YW=j",
            "YWJjZGVmZ",
            "YWJjZGVmZR==",
            "YWJjZA==YWJj",
            "YWJj-GVm",
        ] {
            let (mut client, mut readers) = readers(subprotocol).await;
            client.send(0, b"before").await.unwrap();
            client
                .bytes(&frame(true, TEXT, format!("0{bad}").as_bytes()))
                .await
                .unwrap();
            client.send(0, b"behind").await.unwrap();
            let told = within(LONG, client.read_to_end()).await;
            assert_eq!(told.close, Some(Some(1007)), "{bad}");
            let (bytes, end) = read_out(&mut readers.stdin).await;
            assert!(
                matches!(end, End::Error(io::ErrorKind::InvalidData, _)),
                "{end:?}"
            );
            // Whole quads before an incomplete one were right; what was wrong
            // in the midst of a piece takes the piece with it.
            let whole = if bad == "YWJjZGVmZ" {
                &b"beforeabcdef"[..]
            } else {
                b"before"
            };
            assert_eq!(bytes, whole, "{bad}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_ends_its_channel_after_all_earlier_bytes_and_nothing_else() {
    for cut in [0, 1, 2] {
        let (mut client, mut readers) = readers(subprotocols::V5).await;
        let sent = pattern(100_000);
        client.send(0, &sent).await.unwrap();
        match cut {
            0 => client.close_channel(0).await.unwrap(),
            // A message like any other: it may come in fragments, or as text
            // where that can be.
            cut => {
                client
                    .bytes(&frame(false, BINARY, &[255, 0][..cut]))
                    .await
                    .unwrap();
                client
                    .bytes(&frame(false, CONTINUATION, b""))
                    .await
                    .unwrap();
                client
                    .bytes(&frame(true, CONTINUATION, &[255, 0][cut..]))
                    .await
                    .unwrap();
            }
        }
        // Data behind it is ignored, more of it than any window.
        for _ in 0..8 {
            client.send(0, &[7; 100_000]).await.unwrap();
        }
        client.close_channel(0).await.unwrap();
        assert!(within(LONG, read_out(&mut readers.stdin)).await == (sent, End::Eof));
        client.send(4, b"still here").await.unwrap();
        expect(&mut readers.resize, b"still here").await;
        assert!(readers.session.ended().now_or_never().is_none());
        client.close_channel(4).await.unwrap();
        assert_eq!(
            within(LONG, read_out(&mut readers.resize)).await,
            (vec![], End::Eof)
        );
        // Also not when the session ends in another way.
        drop(client);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(read_out(&mut readers.stdin).await, (vec![], End::Eof));
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_of_a_channel_that_the_server_only_writes_has_no_effect() {
    let service = once(|mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(1).unwrap();
        let mut stdin = set.take_reader(0).unwrap();
        drop(set);
        let mut line = [0; 2];
        stdin.read_exact(&mut line).await?;
        stdout.write_all(b"out").await?;
        Ok(())
    });
    let mut client = open(service, subprotocols::V5).await;
    for channel in [1, 2, 3] {
        client.close_channel(channel).await.unwrap();
    }
    client.send(0, b"go").await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(
        (told.text(1).as_str(), told.close),
        ("out", Some(Some(1000)))
    );
}

#[tokio::test(start_paused = true)]
async fn a_malformed_close_ends_the_session_with_1002() {
    for bad in [
        &[255][..],
        &[255, 0, 0],
        &[255, 5],
        &[255, 254],
        &[255, 255],
        &[255; 200],
    ] {
        for fragments in [false, true] {
            let (mut client, mut readers) = readers(subprotocols::V5).await;
            client.send(0, b"before").await.unwrap();
            if fragments {
                client
                    .bytes(&frame(false, BINARY, &bad[..1]))
                    .await
                    .unwrap();
                client
                    .bytes(&frame(true, CONTINUATION, &bad[1..]))
                    .await
                    .unwrap();
            } else {
                client.bytes(&frame(true, BINARY, bad)).await.unwrap();
            }
            let told = within(LONG, client.read_to_end()).await;
            assert_eq!(told.close, Some(Some(1002)), "{bad:?}");
            let (bytes, end) = read_out(&mut readers.stdin).await;
            assert_eq!(bytes, b"before");
            assert!(
                matches!(end, End::Error(io::ErrorKind::InvalidData, _)),
                "{end:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_half_close_a_close_is_an_unknown_channel() {
    for subprotocol in ["", subprotocols::CHANNEL, subprotocols::V4] {
        let (mut client, mut readers) = readers(subprotocol).await;
        for close in [&[255, 0][..], &[255], &[255, 0, 0], &[255, 9]] {
            client.bytes(&frame(true, BINARY, close)).await.unwrap();
        }
        expect_nothing(&mut readers.stdin).await;
        client.send(0, b"more").await.unwrap();
        expect(&mut readers.stdin, b"more").await;
    }
}

#[tokio::test(start_paused = true)]
async fn reader_drop_does_not_block_siblings() {
    let _watchdog = Watchdog::bites_after(BITE);
    for subprotocol in ALL {
        for full in [false, true] {
            let (mut client, mut readers) = readers(subprotocol).await;
            if full {
                // It is what reading waits for when it goes.
                client.send(0, &[7; WINDOW]).await.unwrap();
                client.send(0, &[7; WINDOW]).await.unwrap();
                client.send(4, b"behind").await.unwrap();
                expect_nothing(&mut readers.resize).await;
            }
            // Also with a piece in its hands.
            if full {
                readers.stdin.fill_buf().await.unwrap();
            }
            drop(readers.stdin);
            if full {
                expect(&mut readers.resize, b"behind").await;
            }
            for n in 0..20_u8 {
                client.send(0, &[7; 100_000]).await.unwrap();
                client.send(4, &[n]).await.unwrap();
                expect(&mut readers.resize, &[n]).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_was_not_taken_blocks_nobody() {
    let service = once(|mut set: ChannelSet| async move {
        let mut resize = set.take_reader(4).unwrap();
        drop(set);
        let mut one = [0];
        resize.read_exact(&mut one).await?;
        Ok(())
    });
    let mut client = open(service, subprotocols::V5).await;
    for _ in 0..20 {
        within(LONG, client.send(0, &[7; 100_000])).await.unwrap();
    }
    client.send(4, b"x").await.unwrap();
    assert_eq!(
        within(LONG, client.read_to_end()).await.close,
        Some(Some(1000))
    );
}

/// Fills channel 0 with messages of so many bytes, and proves by a message of
/// its sibling behind them that all of it was taken.
async fn fill(client: &mut Raw<DuplexStream>, readers: &mut Readers, bytes: usize, size: usize) {
    let mut left = bytes;
    let mut batch = Vec::new();
    while left > 0 {
        let now = left.min(size);
        batch.extend(frame(true, BINARY, &on(0, &vec![7; now])));
        left -= now;
        if batch.len() > 100_000 || left == 0 {
            client.bytes(&std::mem::take(&mut batch)).await.unwrap();
            // Not more than the transport holds.
            sleep(Duration::from_millis(1)).await;
        }
    }
    client.send(4, b"sibling").await.unwrap();
    expect(&mut readers.resize, b"sibling").await;
}

/// One byte more stalls the sibling.
async fn assert_full(client: &mut Raw<DuplexStream>, readers: &mut Readers) {
    client.send(0, b"!").await.unwrap();
    client.send(4, b"behind").await.unwrap();
    expect_nothing(&mut readers.resize).await;
}

#[tokio::test(start_paused = true)]
async fn exactly_the_window_fits_whatever_the_size_of_the_messages() {
    let _watchdog = Watchdog::bites_after(BITE);
    for size in [
        1,
        3,
        64,
        124,
        125,
        1000,
        CHUNK - 1,
        CHUNK,
        CHUNK + 1,
        100_000,
        WINDOW,
    ] {
        let (mut client, mut readers) = readers(subprotocols::V5).await;
        fill(&mut client, &mut readers, WINDOW, size).await;
        assert_full(&mut client, &mut readers).await;
        // It costs one chunk, to its last byte, to go on.
        expect(&mut readers.stdin, &[7; CHUNK - 1]).await;
        expect_nothing(&mut readers.resize).await;
        expect(&mut readers.stdin, &[7; 1]).await;
        expect(&mut readers.resize, b"behind").await;
        expect(&mut readers.stdin, &[7; WINDOW - CHUNK]).await;
        expect(&mut readers.stdin, b"!").await;
    }
}

/// A quad is never split, so up to two bytes may stay unused.
#[tokio::test(start_paused = true)]
async fn the_window_fits_in_base64_but_for_a_part_of_a_quad() {
    for size in [1, 2, 3, 1000, CHUNK, CHUNK + 1, 100_000] {
        let (mut client, mut readers) = readers(subprotocols::V4_BASE64).await;
        let mut left = WINDOW - 2;
        let mut batch = Vec::new();
        while left > 0 {
            let now = left.min(size);
            batch.extend(frame(true, TEXT, &base64(0, &vec![7; now])));
            left -= now;
            if batch.len() > 100_000 || left == 0 {
                client.bytes(&std::mem::take(&mut batch)).await.unwrap();
                sleep(Duration::from_millis(1)).await;
            }
        }
        client.send(4, b"sibling").await.unwrap();
        expect(&mut readers.resize, b"sibling").await;
        client.send(0, b"!!!").await.unwrap();
        client.send(4, b"behind").await.unwrap();
        expect_nothing(&mut readers.resize).await;
        expect(&mut readers.stdin, &[7; WINDOW - 2]).await;
        expect(&mut readers.stdin, b"!!!").await;
        expect(&mut readers.resize, b"behind").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_is_what_was_configured_in_whole_chunks() {
    for (configured, window) in [(1, CHUNK), (CHUNK, CHUNK), (CHUNK + 1, 2 * CHUNK)] {
        let layer = layer().limits(
            Limits::default()
                .receive_window(configured)
                .stall_reserve(0),
        );
        let (mut client, mut readers) = readers_in(layer, subprotocols::V5).await;
        fill(&mut client, &mut readers, window, 1000).await;
        assert_full(&mut client, &mut readers).await;
        expect(&mut readers.stdin, &vec![7; window]).await;
        expect(&mut readers.stdin, b"!").await;
        expect(&mut readers.resize, b"behind").await;
    }
}

/// A chunk counts until its last byte was handed out, however few are in it.
#[tokio::test(start_paused = true)]
async fn a_window_counts_capacity_and_not_bytes() {
    let (mut client, mut readers) = readers(subprotocols::V5).await;
    client.send(0, b"x").await.unwrap();
    assert_eq!(within(LONG, readers.stdin.fill_buf()).await.unwrap(), b"x");
    // The reader has the chunk; what comes now lies in others.
    fill(&mut client, &mut readers, WINDOW - CHUNK, 1000).await;
    assert_full(&mut client, &mut readers).await;
    readers.stdin.consume(1);
    expect(&mut readers.resize, b"behind").await;
    expect(&mut readers.stdin, &[7; WINDOW - CHUNK]).await;
    expect(&mut readers.stdin, b"!").await;
}

/// Reads what comes of a stream until it waits.
async fn collect(stream: &mut ChannelStream, held: &mut Vec<Bytes>) -> usize {
    use futures_util::StreamExt;
    let mut len = 0;
    while let Ok(piece) = timeout(Duration::from_millis(10), stream.next()).await {
        let piece = piece.unwrap().unwrap();
        assert!(!piece.is_empty() && piece.len() <= CHUNK);
        len += piece.len();
        held.push(piece);
    }
    len
}

#[tokio::test(start_paused = true)]
async fn bytes_that_the_user_holds_do_not_count() {
    let (mut client, readers) = readers(subprotocols::V5).await;
    let mut stream = readers.stdin.into_stream();
    let mut held = Vec::new();
    let sent = pattern(10 * WINDOW);
    for piece in sent.chunks(WINDOW) {
        client.send(0, piece).await.unwrap();
        assert_eq!(collect(&mut stream, &mut held).await, piece.len());
    }
    assert!(held.concat() == sent);
    // And exactly a window fits beside them.
    let mut readers = Some(readers.resize);
    client.send(0, &[7; WINDOW]).await.unwrap();
    client.send(4, b"sibling").await.unwrap();
    let resize = readers.as_mut().unwrap();
    expect(resize, b"sibling").await;
    client.send(0, b"!").await.unwrap();
    client.send(4, b"behind").await.unwrap();
    expect_nothing(resize).await;
    assert_eq!(collect(&mut stream, &mut held).await, WINDOW + 1);
    expect(resize, b"behind").await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_once_with_what_ended_the_channel() {
    use futures_util::StreamExt;
    for (code, eof) in [(Some(1000), true), (Some(1001), false)] {
        let (mut client, readers) = readers(subprotocols::V4).await;
        let mut stream = readers.stdin.into_stream();
        client.send(0, b"all").await.unwrap();
        client.close(code).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "all");
        match stream.next().await {
            None => assert!(eof),
            Some(Err(error)) => {
                assert!(!eof);
                assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
            }
            Some(Ok(more)) => panic!("{more:?}"),
        }
        assert!(stream.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_becomes_a_reader_again_and_loses_nothing() {
    use futures_util::StreamExt;
    for subprotocol in [subprotocols::V4, subprotocols::V4_BASE64] {
        let (mut client, readers) = readers(subprotocol).await;
        let mut reader = readers.stdin;
        client.send(0, b"head and ").await.unwrap();
        let mut head = [0; 5];
        reader.read_exact(&mut head).await.unwrap();
        let mut stream = reader.into_stream();
        assert_eq!(stream.next().await.unwrap().unwrap(), "and ");
        client.send(0, b"body").await.unwrap();
        client.close(Some(1000)).await.unwrap();
        let mut reader = stream.into_inner();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"body");
        // As it does behind its end.
        let mut stream = reader.into_stream();
        assert!(stream.next().await.is_none());
        assert_eq!(stream.into_inner().read(&mut head).await.unwrap(), 0);
    }
}

/// What comes of one message is one message, whatever its size; above 32 KiB it
/// is cut in frames that a Pong fits between.
#[tokio::test(start_paused = true)]
async fn send_is_one_message() {
    for subprotocol in ALL {
        for len in [
            0,
            1,
            2047,
            2048,
            24 * 1024,
            32 * 1024,
            32 * 1024 + 1,
            100_000,
            1 << 20,
        ] {
            let sent = pattern(len);
            let expected = sent.clone();
            let service = once(move |mut set: ChannelSet| async move {
                let mut stdout = set.take_writer(1).unwrap();
                stdout.write_all(b"before").await?;
                stdout.send(sent).await?;
                stdout.write_all(b"behind").await?;
                Ok(())
            });
            let mut client = open_with(service, subprotocol, 10_000).await;
            let told = within(LONG, client.read_to_end()).await;
            let expected = [
                (1, b"before".to_vec()),
                (1, expected),
                (1, b"behind".to_vec()),
            ];
            assert!(told.messages == expected, "{len} bytes on {subprotocol:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_sends_messages_and_its_close_is_the_shutdown() {
    let service = once(|mut set: ChannelSet| async move {
        let mut sink = set.take_writer(1).unwrap().into_sink();
        drop(set);
        sink.send(Bytes::from_static(b"one")).await?;
        sink.feed(Bytes::from_static(b"")).await?;
        sink.feed(Bytes::from(vec![7; 70_000])).await?;
        sink.close().await?;
        let mut writer = sink.into_inner();
        let error = writer.send("more").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        Ok(())
    });
    let mut client = open_with(service, subprotocols::V5, 3000).await;
    let told = within(LONG, client.read_to_end()).await;
    let expected = [(1, b"one".to_vec()), (1, vec![]), (1, vec![7; 70_000])];
    assert!(told.messages == expected);
    assert_eq!(told.close, Some(Some(1000)));
}

async fn frames_of_one_message(client: &mut Raw<DuplexStream>) -> Vec<Frame> {
    let mut frames = Vec::new();
    loop {
        let frame = within(LONG, client.next()).await.unwrap();
        let last = frame.fin && matches!(frame.opcode, CONTINUATION | BINARY | TEXT);
        frames.push(frame);
        if last {
            return frames;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_message_leaves_in_fragments_and_a_ping_is_answered_between_them() {
    for (subprotocol, payload) in [
        (subprotocols::V5, 32 * 1024),
        (subprotocols::V4_BASE64, 32 * 1024),
    ] {
        let service = once(|mut set: ChannelSet| async move {
            let mut stdout = set.take_writer(1).unwrap();
            stdout.send(vec![7; 1 << 20]).await?;
            std::future::pending().await
        });
        let mut client = open_with(service, subprotocol, 10_000).await;
        // The first fragment is on its way when the Ping comes.
        sleep(Duration::from_millis(10)).await;
        client.bytes(&frame(true, PING, b"now")).await.unwrap();
        let frames = frames_of_one_message(&mut client).await;
        let at = frames.iter().position(|frame| frame.opcode == PONG);
        let at = at.expect("an answer between the fragments");
        assert!(at <= 2, "behind {at} fragments");
        assert_eq!(&frames[at].payload[..], b"now");
        for (n, frame) in frames
            .iter()
            .filter(|frame| frame.opcode != PONG)
            .enumerate()
        {
            assert!(
                frame.payload.len() <= 1 + payload,
                "{}",
                frame.payload.len()
            );
            assert_eq!(frame.opcode == CONTINUATION, n > 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_takes_32_kib_at_most_and_makes_one_message_of_it() {
    for subprotocol in ALL {
        let (sizes, mut size) = mpsc::unbounded_channel();
        let service = once(move |mut set: ChannelSet| async move {
            let mut stdout = set.take_writer(1).unwrap();
            for len in [0, 1, 32 * 1024, 32 * 1024 + 1, 1 << 20] {
                sizes.send(stdout.write(&pattern(len)).await?)?;
            }
            Ok(())
        });
        let mut client = open(service, subprotocol).await;
        let told = within(LONG, client.read_to_end()).await;
        let lens: Vec<_> = told
            .messages
            .iter()
            .map(|(_, payload)| payload.len())
            .collect();
        const CUT: usize = 32 * 1024;
        // A write of nothing sends nothing.
        assert_eq!(lens, [1, CUT, CUT, CUT]);
        for expected in [0, 1, CUT, CUT, CUT] {
            assert_eq!(size.recv().await, Some(expected));
        }
    }
}

/// Drops futures wherever they wait: what was accepted is what is counted, and
/// what is read is what was sent.
#[tokio::test(start_paused = true)]
async fn dropped_writes_and_sends_have_done_nothing() {
    let _watchdog = Watchdog::bites_after(BITE);
    for spawned in [false, true] {
        for capacity in [1, 700, 20_000] {
            let (logs, log) = oneshot::channel();
            let service = once(move |mut set: ChannelSet| async move {
                let mut stdout = set.take_writer(1).unwrap();
                drop(set);
                let writing = async move {
                    let mut log = Vec::new();
                    let mut dropped = 0;
                    for n in 0..150_u32 {
                        let payload = vec![n as u8; 1500 + 10 * n as usize];
                        if n % 2 == 0 {
                            match stdout.write(&payload).now_or_never() {
                                Some(accepted) => log.push(payload[..accepted?].to_vec()),
                                None => dropped += 1,
                            }
                        } else if let Some(sent) = stdout.send(payload.clone()).now_or_never() {
                            sent?;
                            log.push(payload);
                        } else {
                            dropped += 1;
                        }
                        // A flush changes nothing either.
                        let _ = stdout.flush().now_or_never();
                        if n % 16 == 0 {
                            sleep(Duration::from_millis(1)).await;
                        }
                    }
                    assert!(dropped > 0, "nothing was dropped");
                    logs.send(log).unwrap();
                    Ok::<_, BoxError>(())
                };
                match spawned {
                    true => tokio::spawn(writing).await?,
                    false => writing.await,
                }
            });
            let mut client = open_with(service, subprotocols::V5, capacity).await;
            sleep(Duration::from_millis(5)).await;
            let told = within(LONG, client.read_to_end()).await;
            let log = within(LONG, log).await.unwrap();
            let came: Vec<_> = told
                .messages
                .into_iter()
                .map(|(_, payload)| payload)
                .collect();
            assert!(
                came == log,
                "{} messages instead of {}",
                came.len(),
                log.len()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_reads_have_lost_nothing() {
    for subprotocol in ALL {
        let (mut client, mut readers) = readers(subprotocol).await;
        let mut all = Vec::new();
        let sent = pattern(300_000);
        for piece in sent.chunks(777) {
            // Pending: there is nothing yet.
            let mut buf = [0; 100];
            assert!(readers.stdin.read(&mut buf).now_or_never().is_none());
            {
                let mut filling = pin!(readers.stdin.fill_buf());
                let pending =
                    std::future::poll_fn(|cx| Poll::Ready(filling.as_mut().poll(cx).is_pending()));
                assert!(pending.await);
            }
            client.send(0, piece).await.unwrap();
            // Seen and not consumed: it is there again.
            let seen = within(LONG, readers.stdin.fill_buf()).await.unwrap().len();
            assert_eq!(readers.stdin.fill_buf().await.unwrap().len(), seen);
            let mut left = piece.len();
            while left > 0 {
                let n = within(LONG, readers.stdin.read(&mut buf)).await.unwrap();
                all.extend_from_slice(&buf[..n]);
                left -= n;
            }
        }
        assert!(all == sent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_into_no_room_is_no_end() {
    let (mut client, mut readers) = readers(subprotocols::V5).await;
    client.send(0, b"more").await.unwrap();
    readers.stdin.fill_buf().await.unwrap();
    assert_eq!(readers.stdin.read(&mut []).await.unwrap(), 0);
    expect(&mut readers.stdin, b"more").await;
}

/// Bytes that came in the same segment as the request belong to the session.
#[tokio::test(start_paused = true)]
async fn early_bytes_are_not_lost() {
    let (sender, receiver) = oneshot::channel();
    let service = once(move |mut set: ChannelSet| async move {
        let mut stdin = set.take_reader(0).unwrap();
        drop(set);
        let _ = sender.send(read_out(&mut stdin).await);
        Ok(())
    });
    let (mut near, far) = tokio::io::duplex(WINDOW);
    let mut early = Vec::new();
    for n in 0..100 {
        early.extend(frame(true, BINARY, &on(0, &[n])));
    }
    early.extend(frame(true, BINARY, &[255, 0]));
    let head = Head::to("/").offer(subprotocols::V5);
    near.write_all(&[head.bytes(), early].concat())
        .await
        .unwrap();
    serve(far, service);
    let (bytes, end) = within(LONG, receiver).await.unwrap();
    assert_eq!((bytes, end), ((0..100).collect(), End::Eof));
}

#[tokio::test(start_paused = true)]
async fn channels_like_those_of_go() {
    let service = once(|set: ChannelSet| async move {
        let mut channels = set.into_channels();
        assert_eq!(channels.len(), 5);
        // Read on one that is only written: at its end. Write on one that is
        // only read: nothing is sent, and nothing blocks.
        let mut buf = [0; 8];
        assert_eq!(channels[1].read(&mut buf).await?, 0);
        for _ in 0..100 {
            channels[0].write_all(&[7; 10_000]).await?;
        }
        channels[0].flush().await?;
        let n = channels[0].read(&mut buf).await?;
        channels[1].write_all(&buf[..n]).await?;
        Pin::new(&mut channels[1]).shutdown().await?;
        Ok(())
    });
    let mut client = open(service, subprotocols::CHANNEL).await;
    client.send(0, b"echo").await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.messages, [(1, b"echo".to_vec())]);
    assert_eq!(told.close, Some(Some(1000)));
}
