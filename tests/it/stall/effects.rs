//! Input that was read into the reserve.

use super::*;

#[tokio::test(start_paused = true)]
async fn every_byte_arrives_in_order_once_the_reader_reads() {
    let _watchdog = Watchdog::bites_after(BITE);
    let total = WINDOW + 7 * CHUNK + 1234;
    for offer in [
        subprotocols::V5,
        subprotocols::V4,
        subprotocols::V4_BASE64,
        subprotocols::BASE64_CHANNEL,
    ] {
        for messages in [Messages::One, Messages::Of(61), Messages::Of(5003)] {
            for beats in [0, 2, 7] {
                let mut wire = wire(offer, messages, total);
                match offer {
                    subprotocols::V5 => wire.extend(frame(true, BINARY, &[255, 0])),
                    _ => wire.extend(frame(true, 8, &1000_u16.to_be_bytes())),
                }
                let mut stalled = Stalled::new(chunks(5), offer, wire).await;
                stalled.beats(beats).await;
                let mut stdin = stalled.stdin.take().unwrap();
                let (bytes, end) = within(BEAT, read_out(&mut stdin)).await;
                assert_eq!(
                    (bytes.len(), end),
                    (total, End::Eof),
                    "{offer} {messages:?}"
                );
                assert_payload(&bytes, 0);
            }
        }
    }
}

/// A reader that takes a little makes no room, because the loan is returned first.
#[tokio::test(start_paused = true)]
async fn a_reader_comes_down_to_the_window_before_there_is_room_again() {
    let _watchdog = Watchdog::bites_after(BITE);
    let total = WINDOW + 60 * CHUNK;
    let wire = wire(subprotocols::V5, Messages::One, total);
    let mut stalled = Stalled::new(chunks(8), subprotocols::V5, wire).await;
    stalled.beats(0).await;
    let full = stalled.taken();
    stalled.beats(20).await;
    assert_taken(stalled.taken(), full + 8 * CHUNK, "all is lent");
    stalled.expect(0, 3 * CHUNK).await;
    sleep(AFTER).await;
    assert_taken(stalled.taken(), full + 8 * CHUNK, "no room");
    // Chunks that came back are lent again, as slowly as before.
    sleep(3 * BEAT).await;
    assert_taken(stalled.taken(), full + 11 * CHUNK, "lent anew");
    sleep(10 * BEAT).await;
    assert_taken(stalled.taken(), full + 11 * CHUNK, "all is lent again");
    stalled.expect(3 * CHUNK, 8 * CHUNK + 1).await;
    sleep(AFTER).await;
    assert_taken(stalled.taken(), full + 11 * CHUNK, "down to the window");
    let rest = total - 11 * CHUNK - 1;
    stalled.expect(11 * CHUNK + 1, rest).await;
}

/// The trickle reaches messages behind the data: 100 KiB are seven chunks.
#[tokio::test(start_paused = true)]
async fn a_resize_and_a_ping_behind_stalled_input_are_seen() {
    let _watchdog = Watchdog::bites_after(BITE);
    for offer in [subprotocols::V5, subprotocols::V4_BASE64] {
        for messages in [Messages::Of(999), Messages::Of(32_768), Messages::One] {
            for (beyond, soonest, latest) in [
                (100 * 1024, 5 * BEAT, 8 * BEAT),
                (CHUNK, Duration::ZERO, 2 * BEAT),
                (100, Duration::ZERO, 2 * BEAT),
            ] {
                let mut wire = wire(offer, messages, WINDOW + beyond);
                let resize = br#"{"Width":80,"Height":24}"#;
                wire.extend(match offer {
                    subprotocols::V5 => frame(true, BINARY, &on(4, resize)),
                    _ => frame(true, TEXT, &base64(4, resize)),
                });
                wire.extend(frame(true, PING, b"alive?"));
                let mut stalled = Stalled::new(chunks(20), offer, wire).await;
                let mut size = [0; 24];
                let reader = stalled.resize.as_mut().unwrap();
                within(LONG, reader.read_exact(&mut size)).await.unwrap();
                assert_eq!(&size, resize);
                let at = stalled.start.elapsed();
                assert!(
                    at >= soonest && at <= latest,
                    "{offer} {messages:?}: {beyond} bytes passed after {at:?}"
                );
                let answered = async {
                    while let Some((frame, _)) = stalled.frames.recv().await {
                        if &frame.payload[..] == b"alive?" {
                            return;
                        }
                    }
                };
                within(AFTER, answered).await;
                stalled.expect(0, WINDOW + beyond).await;
            }
        }
    }
}

/// A window may be full to the last byte.
#[tokio::test(start_paused = true)]
async fn what_is_directly_behind_a_full_window_is_seen_at_once() {
    let _watchdog = Watchdog::bites_after(BITE);
    for reserve in [0, 20] {
        let mut wire = wire(subprotocols::V5, Messages::Of(1024), WINDOW);
        wire.extend(frame(true, BINARY, &on(4, b"x")));
        let mut stalled = Stalled::new(chunks(reserve), subprotocols::V5, wire).await;
        let reader = stalled.resize.as_mut().unwrap();
        assert_eq!(within(AFTER, reader.read_u8()).await.unwrap(), b'x');
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_behind_stalled_input_is_seen() {
    let _watchdog = Watchdog::bites_after(BITE);
    let total = WINDOW + 3 * CHUNK;
    for (offer, code) in [
        (subprotocols::V4, Some(1000)),
        (subprotocols::V4, Some(4000)),
        (subprotocols::V4_BASE64, None),
        (subprotocols::V5, Some(1000)),
    ] {
        let mut wire = wire(offer, Messages::Of(1000), total);
        if offer == subprotocols::V5 {
            wire.extend(frame(true, BINARY, &[255, 0]));
        }
        let close = code.map(u16::to_be_bytes);
        wire.extend(frame(true, 8, close.as_ref().map_or(&[][..], |code| code)));
        let mut stalled = Stalled::new(chunks(5), offer, wire).await;
        let start = stalled.start;
        let (cause, at) = within(LONG, &mut stalled.ended).await.unwrap();
        assert!(matches!(cause, EndCause::PeerClosed { code: c, .. } if c == code));
        let at = at - start;
        assert!(at >= 2 * BEAT && at <= 4 * BEAT, "{offer} after {at:?}");
        let mut stdin = stalled.stdin.take().unwrap();
        let (bytes, end) = within(LONG, read_out(&mut stdin)).await;
        assert_eq!(bytes.len(), total);
        assert_payload(&bytes, 0);
        let expected = match code {
            Some(4000) => End::Error(io::ErrorKind::ConnectionAborted, cause),
            _ => End::Eof,
        };
        assert_eq!(end, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_arrives_before_the_loss_of_the_connection() {
    let _watchdog = Watchdog::bites_after(BITE);
    for offer in [subprotocols::V5, subprotocols::V4_BASE64] {
        for messages in [Messages::One, Messages::Of(1000)] {
            for beats in [0, 4, 12] {
                let total = WINDOW + 12 * CHUNK;
                let wire = wire(offer, messages, total);
                let cost = wire.len() as f64 / total as f64;
                let stalled = Stalled::new(chunks(6), offer, wire).await;
                stalled.beats(beats).await;
                let taken = stalled.taken();
                let (stdin, ended) = stalled.vanish().await;
                let (cause, _) = within(4 * BEAT, ended).await.unwrap();
                assert!(
                    matches!(cause, EndCause::ConnectionLost { .. }),
                    "{cause:?}"
                );
                let (bytes, end) = within(LONG, read_out(&mut stdin.unwrap())).await;
                let least = (taken - BETWEEN) as f64 / cost - 40.0;
                assert!(
                    bytes.len() as f64 >= least,
                    "{offer} {messages:?} at {beats}: {} of {least}",
                    bytes.len()
                );
                assert_payload(&bytes, 0);
                assert_eq!(end, End::Error(io::ErrorKind::ConnectionReset, cause));
            }
        }
    }
}

/// Bytes that trickle in count as data.
#[tokio::test(start_paused = true)]
async fn a_stalled_session_is_idle_once_nothing_is_taken() {
    let _watchdog = Watchdog::bites_after(BITE);
    let idle = Duration::from_secs(2);
    for messages in [Messages::Of(1000), Messages::One] {
        let wire = wire(subprotocols::V5, messages, WINDOW + 40 * CHUNK);
        let layer = chunks(20).idle_timeout(idle);
        let mut stalled = Stalled::new(layer, subprotocols::V5, wire).await;
        let (cause, at) = within(LONG, &mut stalled.ended).await.unwrap();
        assert_eq!(cause, EndCause::IdleTimeout);
        let (at, last) = (at - stalled.start, 20 * BEAT);
        assert!(
            at >= last + idle && at <= last + idle + AFTER,
            "{messages:?}: after {at:?}"
        );
        let (bytes, end) = within(LONG, read_out(stalled.stdin.as_mut().unwrap())).await;
        assert!(bytes.len() >= WINDOW + 20 * CHUNK);
        assert_payload(&bytes, 0);
        assert_eq!(end, End::Error(io::ErrorKind::TimedOut, cause));
    }
}
