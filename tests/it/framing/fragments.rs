//! Messages in fragments, and what comes between these.

use super::*;

/// Text with a character of each length, cut into pieces that end anywhere.
const MESSAGE: &str = "\0größer \u{20ac} \u{1f600}";

/// Cuts a message into fragments of this size, each with its opcode and whether it is the last.
fn fragments(opcode: u8, message: &[u8], size: usize) -> Vec<Vec<u8>> {
    let count = message.len().div_ceil(size);
    let one = |(at, piece)| {
        let opcode = if at == 0 { opcode } else { CONTINUATION };
        frame(at + 1 == count, opcode, piece)
    };
    message.chunks(size).enumerate().map(one).collect()
}

/// RFC 6455, 5.4 and 6.2: both are received, in order, and the type is that of the first fragment.
#[tokio::test(start_paused = true)]
async fn a_message_is_the_same_in_any_number_of_fragments() {
    let message = MESSAGE.as_bytes();
    for &http in EACH {
        let mut client = http.open(session(echo)).await;
        for opcode in [TEXT, BINARY] {
            for size in 1..=message.len() {
                let bytes = fragments(opcode, message, size).concat();
                client.bytes(&bytes).await.unwrap();
                let (got, _) = echoed(settle(&mut client).await);
                assert_eq!(got, message[1..], "{http:?}: {size}");
            }
            // Empty fragments are fragments.
            let bytes = [
                frame(false, opcode, b""),
                frame(false, CONTINUATION, message),
                frame(false, CONTINUATION, b""),
                frame(true, CONTINUATION, b""),
            ];
            client.bytes(&bytes.concat()).await.unwrap();
            let (got, _) = echoed(settle(&mut client).await);
            assert_eq!(got, message[1..]);
        }
    }
}

/// RFC 6455, 5.4 and 5.5.2: control frames are handled in the middle of a message, and at once.
#[tokio::test(start_paused = true)]
async fn a_ping_between_two_fragments_is_answered_between_them() {
    let message = MESSAGE.as_bytes();
    for &http in EACH {
        let mut client = http.open(session(echo)).await;
        for size in [1, 2, 3, 5] {
            let fragments = fragments(TEXT, message, size);
            for gap in 1..fragments.len() {
                client.bytes(&fragments[..gap].concat()).await.unwrap();
                let (mut got, _) = echoed(settle(&mut client).await);
                assert_eq!(got, message[1..gap * size], "what has arrived");
                let controls = [
                    frame(true, PONG, b"unasked"),
                    frame(true, PING, &[gap as u8]),
                ];
                client.bytes(&controls.concat()).await.unwrap();
                let answer = settle(&mut client).await;
                assert_eq!(answer.len(), 1);
                assert_eq!(
                    (answer[0].opcode, &answer[0].payload[..]),
                    (PONG, &[gap as u8][..])
                );
                client.bytes(&fragments[gap..].concat()).await.unwrap();
                got.extend(echoed(settle(&mut client).await).0);
                assert_eq!(got, message[1..], "{http:?}: {size}, {gap}");
            }
        }
    }
}

/// RFC 6455, 5.4: a control frame in each gap at once, cut anywhere.
#[tokio::test(start_paused = true)]
async fn control_frames_in_each_gap_may_be_cut_anywhere() {
    let message = MESSAGE.as_bytes();
    let mut bytes = Vec::new();
    let mut pings = 0;
    for fragment in fragments(TEXT, message, 5) {
        bytes.extend(fragment);
        bytes.extend(frame(true, PING, b"gap"));
        pings += 1;
    }
    for &http in EACH {
        let mut client = http.open(session(echo)).await;
        for cut in 0..=bytes.len() {
            client.bytes(&bytes[..cut]).await.unwrap();
            let mut frames = settle(&mut client).await;
            client.bytes(&bytes[cut..]).await.unwrap();
            frames.extend(settle(&mut client).await);
            let (got, pongs) = echoed(frames);
            assert_eq!(got, message[1..], "{http:?}: {cut}");
            // Pings that arrive together may be answered together (5.5.3).
            assert!((1..=pings).contains(&pongs.len()), "{http:?}: {cut}");
            assert!(pongs.iter().all(|pong| pong.payload == "gap"));
        }
    }
}

/// RFC 6455, 5.4 and 5.5.1: a Close may come in the middle of a message, of which no more comes then.
#[tokio::test(start_paused = true)]
async fn a_close_between_two_fragments_is_answered() {
    let message = MESSAGE.as_bytes();
    for &http in EACH {
        for gap in 1..message.len() {
            let mut client = http.open(session(echo)).await;
            let mut bytes = fragments(TEXT, message, 1);
            bytes.insert(gap, frame(true, CLOSE, &4000_u16.to_be_bytes()));
            client.bytes(&bytes.concat()).await.unwrap();
            let told = within(SOON, client.read_to_close()).await;
            assert_eq!(told.close, Some(Some(4000)), "{http:?}: {gap}");
            assert!(message[1..gap].starts_with(&told.channel(1)));
        }
    }
}

/// RFC 6455, 5.4: fragments of two messages are not interleaved.
#[tokio::test(start_paused = true)]
async fn a_new_message_inside_another_fails_the_connection() {
    for &http in EACH {
        for (first, second) in [
            (TEXT, TEXT),
            (TEXT, BINARY),
            (BINARY, TEXT),
            (BINARY, BINARY),
        ] {
            for fin in [false, true] {
                // The first message has no byte that could be echoed.
                let bytes = [frame(false, first, b"\0"), frame(fin, second, b"\0inside")];
                fails(http, &bytes.concat(), 1002).await;
            }
        }
    }
}

/// RFC 6455, 5.4.
#[tokio::test(start_paused = true)]
async fn a_continuation_of_nothing_fails_the_connection() {
    for &http in EACH {
        for fin in [false, true] {
            for payload in [&b""[..], b"\0x"] {
                fails(http, &frame(fin, CONTINUATION, payload), 1002).await;
            }
        }
        // A message that is over is not continued.
        let bytes = [frame(true, BINARY, b""), frame(true, CONTINUATION, b"\0x")];
        fails(http, &bytes.concat(), 1002).await;
    }
}

/// RFC 6455, 5.4 and 5.5.
#[tokio::test(start_paused = true)]
async fn a_fragmented_control_frame_fails_the_connection() {
    for &http in EACH {
        for opcode in [CLOSE, PING, PONG] {
            fails(http, &frame(false, opcode, b""), 1002).await;
            let in_a_message = [frame(false, TEXT, b"\0"), frame(false, opcode, b"")];
            fails(http, &in_a_message.concat(), 1002).await;
        }
    }
}
