//! The size and the pace of loans.

use super::*;

/// There is one message, so every byte is payload, and the sums are exact.
#[tokio::test(start_paused = true)]
async fn a_chunk_is_taken_in_each_period_until_the_reserve_is_used_up() {
    let _watchdog = Watchdog::bites_after(BITE);
    // Less than a chunk is not lent.
    for (reserve, lent) in [
        (0, 0),
        (CHUNK - 1, 0),
        (CHUNK, 1),
        (2 * CHUNK - 1, 1),
        (10 * CHUNK, 10),
    ] {
        let wire = wire(subprotocols::V5, Messages::One, WINDOW + 40 * CHUNK);
        let mut stalled = Stalled::new(layer(reserve), subprotocols::V5, wire).await;
        stalled.beats(0).await;
        let full = stalled.taken();
        let most = WINDOW + CHUNK + BETWEEN + 20;
        assert!((WINDOW..=most).contains(&full), "{full} at first");
        for beat in 1..30 {
            stalled.beats(beat).await;
            let expected = full + CHUNK * lent.min(beat as usize);
            assert_taken(stalled.taken(), expected, (reserve, beat));
        }
        // Only Pongs from here on.
        stalled.beats(2000).await;
        assert_taken(stalled.taken(), full + lent * CHUNK, reserve);
        assert!(stalled.is_alive());
        let mut pongs = 0;
        while let Ok((frame, at)) = stalled.frames.try_recv() {
            assert_eq!((frame.opcode, frame.payload.len()), (PONG, 0));
            pongs += 1;
            let late = (at - stalled.start).checked_sub(pongs * 3 * BEAT).unwrap();
            // Each may be three ticks late.
            assert!(late < 11 * BEAT, "Pong {pongs} is late by {late:?}");
        }
        assert!(pongs >= 660, "{pongs} Pongs");
        stalled.expect(0, WINDOW + 40 * CHUNK).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_default_reserve_lasts_for_ten_minutes() {
    let _watchdog = Watchdog::bites_after(BITE);
    const WINDOW: usize = 256 * 1024;
    const RESERVE: usize = 48 << 20;
    let layer = WsStreamLayer::new(protocols()).config(SessionConfig::default().keep_alive(None));
    let mut wire = wire(subprotocols::V5, Messages::One, 8);
    // The same holds for an endless message.
    wire.truncate(1);
    wire.extend([0xff, 0, 0, 0, 0, 0x7f, 0, 0, 0, 0, 0, 0, 0]);
    wire.resize(RESERVE + 4 * WINDOW, 0);
    let stalled = Stalled::new(layer, subprotocols::V5, wire).await;
    stalled.beats(0).await;
    let full = stalled.taken();
    // In a minute 4.7 MiB: a kubectl behind two proxies gives up below 3 MiB.
    const MINUTE: usize = 300;
    for minute in 1..=10 {
        stalled.beats((minute * MINUTE) as u32).await;
        let grown = stalled.taken() - full;
        let chunks = minute * MINUTE;
        assert!(
            ((chunks - 3) * CHUNK..(chunks + 1) * CHUNK).contains(&grown),
            "{grown}"
        );
    }
    stalled.beats(3150).await;
    assert_taken(stalled.taken(), full + RESERVE, "all of it");
    stalled.beats(3600).await;
    assert_taken(stalled.taken(), full + RESERVE, "and no more");
}

/// With messages of any size, a client can write the window, the reserve, and one read.
#[tokio::test(start_paused = true)]
async fn what_a_session_holds_is_bounded_by_window_and_reserve() {
    let _watchdog = Watchdog::bites_after(BITE);
    let total = WINDOW + 8 * CHUNK;
    for offer in [subprotocols::V5, subprotocols::V4_BASE64] {
        for (messages, len) in [
            (Messages::Of(1), 1),
            (Messages::Of(1000), 1000),
            (Messages::Of(32 * 1024), 32 * 1024),
            (Messages::One, total),
        ] {
            let bytes = wire(offer, messages, total);
            // The bytes on the wire for each byte of payload.
            let cost = bytes.len() as f64 / total as f64;
            let mut stalled = Stalled::new(chunks(5), offer, bytes).await;
            stalled.beats(40).await;
            let taken = stalled.taken();
            let least = (WINDOW + 5 * CHUNK - 8).min(total);
            let read = (CHUNK + BETWEEN) as f64 / cost + 64.0;
            let held = taken as f64 / cost;
            assert!(
                held >= least as f64 - 64.0 && held <= (WINDOW + 5 * CHUNK) as f64 + read,
                "{offer}: {held} bytes in messages of {len}"
            );
            assert!(stalled.is_alive());
            stalled.expect(0, total).await;
        }
    }
}
