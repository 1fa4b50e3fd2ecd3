//! Frames that are cut at each byte.
//!
//! The server gets the first part and has all the time it wants before it gets the rest. What it does
//! in between shows whether it has understood the part.

use super::*;

/// Returns the cuts of a frame: all of them if it is short, and otherwise those in the head and close
/// to both ends of the payload.
fn cuts(frame: &[u8]) -> Vec<usize> {
    match frame.len() {
        len @ 0..=150 => (0..=len).collect(),
        len => (0..=20)
            .chain([4096, 16 * 1024 + 14])
            .chain(len - 3..=len)
            .collect(),
    }
}

/// Returns a message for channel 0 with this many bytes in all, whose bytes are text.
fn message(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 127) as u8).collect()
}

/// RFC 6455, 5.2 and 6.2: incoming data is parsed as frames.
#[tokio::test(start_paused = true)]
async fn a_message_may_be_cut_anywhere() {
    for &http in EACH {
        let mut client = http.open(session(echo)).await;
        for opcode in [TEXT, BINARY] {
            for len in [0, 1, 2, 125, 126, 127, 65_535, 65_536] {
                let message = message(len);
                let bytes = frame(true, opcode, &message);
                let head = bytes.len() - len;
                for cut in cuts(&bytes) {
                    client.bytes(&bytes[..cut]).await.unwrap();
                    let (first, _) = echoed(settle(&mut client).await);
                    let there = &message[..cut.saturating_sub(head)];
                    let expected = there.get(1..).unwrap_or_default();
                    assert!(first == expected, "{http:?}: {cut} of {len}");
                    client.bytes(&bytes[cut..]).await.unwrap();
                    let (rest, _) = echoed(settle(&mut client).await);
                    let all = [first, rest].concat();
                    let expected = message.get(1..).unwrap_or_default();
                    assert!(all == expected, "{http:?}: {cut} of {len}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_fragment_may_be_cut_anywhere() {
    for &http in EACH {
        let mut client = http.open(session(echo)).await;
        for len in [3, 126] {
            let message = message(len);
            let (first, rest) = message.split_at(len / 3);
            let (second, third) = rest.split_at(len / 3);
            let fragments = [
                frame(false, TEXT, first),
                frame(false, CONTINUATION, second),
                frame(true, CONTINUATION, third),
            ]
            .concat();
            for cut in 0..=fragments.len() {
                client.bytes(&fragments[..cut]).await.unwrap();
                let (mut all, _) = echoed(settle(&mut client).await);
                client.bytes(&fragments[cut..]).await.unwrap();
                let (rest, _) = echoed(settle(&mut client).await);
                all.extend(rest);
                assert!(all == message[1..], "{http:?}: {cut} of {len}");
            }
        }
    }
}

/// RFC 6455, 5.5.2 and 5.5.3.
#[tokio::test(start_paused = true)]
async fn a_ping_may_be_cut_anywhere_and_is_answered_once_it_is_whole() {
    for &http in EACH {
        let mut client = http.open(session(echo)).await;
        for len in [0, 1, 124, 125] {
            let payload = message(len);
            let bytes = frame(true, PING, &payload);
            for cut in 0..bytes.len() {
                client.bytes(&bytes[..cut]).await.unwrap();
                assert_eq!(settle(&mut client).await, [], "{http:?}: {cut} of {len}");
                client.bytes(&bytes[cut..]).await.unwrap();
                let answers = settle(&mut client).await;
                assert_eq!(answers.len(), 1, "{http:?}: {cut} of {len}");
                assert_eq!(
                    (answers[0].opcode, &answers[0].payload[..]),
                    (PONG, &payload[..])
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pong_may_be_cut_anywhere_and_is_not_answered() {
    for &http in EACH {
        let mut client = http.open(session(echo)).await;
        for len in [0, 1, 125] {
            let bytes = frame(true, PONG, &message(len));
            for cut in 0..bytes.len() {
                client.bytes(&bytes[..cut]).await.unwrap();
                assert_eq!(settle(&mut client).await, []);
                client.bytes(&bytes[cut..]).await.unwrap();
                client.send(0, b"behind").await.unwrap();
                let (bytes, others) = echoed(settle(&mut client).await);
                assert_eq!(
                    (&bytes[..], &others[..]),
                    (&b"behind"[..], &[][..]),
                    "{cut}"
                );
            }
        }
    }
}

/// RFC 6455, 5.5.1.
#[tokio::test(start_paused = true)]
async fn a_close_may_be_cut_anywhere_and_is_answered_once_it_is_whole() {
    for &http in EACH {
        for len in [0, 2, 3, 125] {
            let mut payload = message(len);
            if len > 0 {
                payload[..2].copy_from_slice(&4000_u16.to_be_bytes());
            }
            let bytes = frame(true, CLOSE, &payload);
            for cut in 0..bytes.len() {
                let mut client = http.open(session(echo)).await;
                client.bytes(&bytes[..cut]).await.unwrap();
                assert_eq!(settle(&mut client).await, [], "{http:?}: {cut} of {len}");
                client.bytes(&bytes[cut..]).await.unwrap();
                let answer = within(SOON, client.next()).await.unwrap();
                let code = (len > 0).then_some(4000);
                assert_eq!(answer.close_code(), code, "{http:?}: {cut} of {len}");
                assert_eq!(within(LONG, client.next()).await, None, "behind the Close");
            }
        }
    }
}
