//! The reserve that all sessions share.

use super::*;

/// Opens a session whose client sends without end, and returns how much it could write until the
/// window was full.
async fn another(layer: &WsStreamLayer, total: usize) -> (Stalled, usize) {
    let wire = wire(subprotocols::V5, Messages::One, total);
    let stalled = Stalled::new(layer.clone(), subprotocols::V5, wire).await;
    stalled.beats(0).await;
    let full = stalled.taken();
    (stalled, full)
}

/// A session cannot take what others need, whatever its own share is.
#[tokio::test(start_paused = true)]
async fn a_session_gets_an_eighth_of_what_the_others_have_left() {
    let _watchdog = Watchdog::bites_after(BITE);
    let layer = chunks(64).sessions(Sessions::with_stall_reserve(24 * CHUNK + 100));
    let mut open = Vec::new();
    for (lent, left) in [(3, 24), (2, 21), (2, 19), (2, 17), (1, 15)] {
        let (session, full) = another(&layer, 2 << 20).await;
        session.beats(10).await;
        assert_taken(session.taken(), full + lent * CHUNK, left);
        open.push(session);
    }

    // A layer with another reserve is not affected, and its sessions have their own share.
    let (other, full) = another(&chunks(4), 1 << 20).await;
    other.beats(10).await;
    assert_taken(other.taken(), full + 4 * CHUNK, "another reserve");
}

#[derive(Clone, Copy, Debug)]
enum GivesBack {
    Reads,
    DropsReader,
    /// The client vanishes, and the reader is dropped.
    Ends,
    /// The client vanishes. The reader is still held, and read later.
    EndsThenReads,
    /// The client vanishes. The reader is still held, and dropped later.
    EndsThenDrops,
}

#[tokio::test(start_paused = true)]
async fn a_session_gives_back_what_it_was_lent() {
    let _watchdog = Watchdog::bites_after(BITE);
    for how in [
        GivesBack::Reads,
        GivesBack::DropsReader,
        GivesBack::Ends,
        GivesBack::EndsThenReads,
        GivesBack::EndsThenDrops,
    ] {
        let layer = chunks(4).sessions(Sessions::with_stall_reserve(32 * CHUNK));
        let total = WINDOW + 4 * CHUNK + 100;
        let (mut first, _) = another(&layer, total).await;
        first.beats(10).await;
        let (second, full) = another(&layer, 1 << 20).await;
        second.beats(10).await;
        assert_taken(second.taken(), full + 3 * CHUNK, ("less is left", how));
        let mut kept = None;
        match how {
            GivesBack::Reads => {
                first.expect(0, total).await;
                kept = first.stdin.take();
            }
            GivesBack::DropsReader => drop(first.stdin.take()),
            GivesBack::Ends => {
                first.stdin = None;
                let (_, ended) = first.vanish().await;
                within(LONG, ended).await.unwrap();
            }
            GivesBack::EndsThenReads | GivesBack::EndsThenDrops => {
                let (stdin, ended) = first.vanish().await;
                within(LONG, ended).await.unwrap();
                sleep(10 * BEAT).await;
                let lent = full + 3 * CHUNK;
                assert_taken(second.taken(), lent, ("what lies there is lent", how));
                let mut stdin = stdin.unwrap();
                if let GivesBack::EndsThenReads = how {
                    let (bytes, _) = read_out(&mut stdin).await;
                    assert_payload(&bytes, 0);
                    kept = Some(stdin);
                }
            }
        }
        sleep(10 * BEAT).await;
        assert_taken(second.taken(), full + 4 * CHUNK, how);
        drop(kept);
    }
}

/// Each loan is returned only once: afterwards, no more can be lent than before.
#[tokio::test(start_paused = true)]
async fn nothing_is_given_back_twice() {
    let _watchdog = Watchdog::bites_after(BITE);
    let sessions = Sessions::with_stall_reserve(32 * CHUNK);
    let layer = chunks(4).sessions(sessions.clone());
    for _ in 0..20 {
        let (mut first, _) = another(&layer, 1 << 20).await;
        first.beats(3).await;
        first.expect(0, CHUNK + 7).await;
        sleep(2 * BEAT).await;
        first.expect(CHUNK + 7, WINDOW).await;
        sleep(3 * BEAT).await;
        let (stdin, ended) = first.vanish().await;
        within(LONG, ended).await.unwrap();
        drop(stdin);
        sleep(AFTER).await;
    }
    let layer = chunks(64).sessions(sessions);
    let (one, full) = another(&layer, 2 << 20).await;
    one.beats(20).await;
    assert_taken(one.taken(), full + 4 * CHUNK, "an eighth of the total");
}

/// A client whose session was stalled is as well off as before.
#[tokio::test(start_paused = true)]
async fn a_session_may_stall_again_and_again() {
    let _watchdog = Watchdog::bites_after(BITE);
    let total = 2 << 20;
    let wire = wire(subprotocols::V5, Messages::Of(4001), total);
    let mut stalled = Stalled::new(chunks(3), subprotocols::V5, wire).await;
    let mut at = 0;
    for (n, len) in [1, 100_000, 16 * 1024, 3, 200_000, 150_000]
        .into_iter()
        .cycle()
        .enumerate()
    {
        sleep(BEAT * (n % 4) as u32).await;
        let len = len.min(total - at);
        stalled.expect(at, len).await;
        at += len;
        if at == total {
            break;
        }
    }
    assert!(stalled.is_alive());
}

/// Two channels that both stall share the reserve of their session.
#[tokio::test(start_paused = true)]
async fn channels_of_a_session_share_its_reserve() {
    let _watchdog = Watchdog::bites_after(BITE);
    // Channel 4 is full already, and channel 0 then takes the whole reserve.
    let mut bytes = frame(true, BINARY, &on(4, &payload(0, WINDOW)));
    bytes.extend(wire(subprotocols::V5, Messages::One, WINDOW + 5 * CHUNK));
    bytes.extend(frame(true, BINARY, &on(4, b"behind")));
    let mut stalled = Stalled::new(chunks(5), subprotocols::V5, bytes.clone()).await;
    stalled.beats(20).await;
    // Reading is now stuck at channel 4 until its reader reads.
    let resize = stalled.resize.as_mut().unwrap();
    let mut all = vec![0; WINDOW + 6];
    within(LONG, resize.read_exact(&mut all)).await.unwrap();
    assert!(all.ends_with(b"behind"));
    assert_eq!(stalled.taken(), bytes.len());
    stalled.expect(0, WINDOW + 5 * CHUNK).await;
}
