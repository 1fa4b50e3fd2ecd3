//! The path from messages to the bytes of a channel.

use super::*;

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
        // Channels that only the server writes, and channels that do not exist.
        for channel in [1, 2, 3, 5, 79, 120, 254] {
            let message = match subprotocol.contains("base64") {
                true if channel > 70 => continue,
                true => frame(true, TEXT, &base64(channel, b"lost")),
                false => frame(true, BINARY, &on(channel, &[7; 300])),
            };
            client.bytes(&message).await.unwrap();
        }
        // More than any window.
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
            // Cut in the middle of a character or of a quad.
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
            // The next message starts afresh.
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
    // Half of a frame is delivered as soon as it has arrived.
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
            // Whole quads before an incomplete one are delivered. An error in the middle of a piece
            // discards the piece.
            let whole = if bad == "YWJjZGVmZ" {
                &b"beforeabcdef"[..]
            } else {
                b"before"
            };
            assert_eq!(bytes, whole, "{bad}");
        }
    }
}
