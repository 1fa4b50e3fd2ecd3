//! Output is held until the client is seen to read.

use super::*;

fn until_read() -> Hold {
    Hold::until_peer_reads(millis(20), millis(250))
}

/// Writes, and returns at once. Everything is held, including the last words.
async fn hold(mut set: ChannelSet) -> Result<(), BoxError> {
    set.session().hold_output(until_read());
    set.session()
        .say_last(|_| Some(LastWords::new(3, "status")));
    let mut stdout = set.take_writer(1).unwrap();
    stdout.write_all(b"out").await?;
    Ok(())
}

fn assert_held_output(told: &Told) {
    assert_eq!(
        told.messages,
        [(1, b"out".to_vec()), (3, b"status".to_vec())]
    );
    assert_eq!(told.close, Some(Some(1000)));
}

async fn expect_ping(client: &mut Raw<DuplexStream>) {
    let first = within(LONG, client.next()).await.unwrap();
    assert_eq!(first.opcode, PING, "{first:?} came before the Ping");
}

#[tokio::test(start_paused = true)]
async fn held_output_leaves_after_the_longest_time() {
    for subprotocol in ALL {
        let mut client = open(session(hold), subprotocol).await;
        let start = Instant::now();
        expect_ping(&mut client).await;
        assert_after(start, Duration::ZERO);
        let first = within(LONG, client.next()).await.unwrap();
        assert_after(start, millis(250));
        assert_eq!(client.split(&first.payload), (1, b"out".to_vec()));
        let told = within(LONG, client.read_to_end()).await;
        assert_eq!(
            (told.text(3).as_str(), told.close),
            ("status", Some(Some(1000)))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn held_output_leaves_when_the_peer_is_seen_to_read() {
    for subprotocol in ALL {
        let mut client = open(session(hold), subprotocol).await;
        expect_ping(&mut client).await;
        sleep(millis(100)).await;
        let start = Instant::now();
        client.bytes(&frame(true, PONG, b"")).await.unwrap();
        let told = within(LONG, client.read_to_end()).await;
        assert_after(start, millis(20));
        assert_held_output(&told);
    }
}

#[tokio::test(start_paused = true)]
async fn held_output_leaves_with_the_first_data_of_the_peer() {
    for (subprotocol, closes) in [
        (subprotocols::V5, false),
        (subprotocols::V5, true),
        (subprotocols::V4_BASE64, false),
    ] {
        let mut client = open(session(hold), subprotocol).await;
        expect_ping(&mut client).await;
        sleep(millis(100)).await;
        let start = Instant::now();
        match closes {
            true => client.close_channel(0).await.unwrap(),
            false => client.send(0, b"x").await.unwrap(),
        }
        let told = within(LONG, client.read_to_end()).await;
        assert_after(start, Duration::ZERO);
        assert_held_output(&told);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pong_late_in_the_hold_does_not_prolong_it() {
    let mut client = open(session(hold), subprotocols::V5).await;
    let start = Instant::now();
    expect_ping(&mut client).await;
    sleep(millis(240)).await;
    client.bytes(&frame(true, PONG, b"")).await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_after(start, millis(250));
    assert_held_output(&told);
}

#[tokio::test(start_paused = true)]
async fn while_output_is_held_writes_fill_their_budget_and_flush_waits() {
    let _watchdog = Watchdog::bites_after(secs(50));
    let (notes, mut note) = mpsc::unbounded_channel();
    let service = once(move |mut set: ChannelSet| async move {
        set.session().hold_output(until_read());
        let mut stdout = set.take_writer(1).unwrap();
        let mut stderr = set.take_writer(2).unwrap();
        drop(set);
        let start = Instant::now();
        stderr.write_all(b"e").await?;
        // Two writes of 32 KiB make the budget of a channel, not counting their heads.
        let (mut accepted, buf) = (0, [b'o'; 32 * 1024]);
        while accepted < 64 * 1024 {
            accepted += stdout.write(&buf).await?;
        }
        notes.send(("filled", start.elapsed())).unwrap();
        let more = async {
            stdout.write_all(b"more").await.unwrap();
            notes.send(("more", start.elapsed())).unwrap();
        };
        let flush = async {
            stderr.flush().await.unwrap();
            notes.send(("flushed", start.elapsed())).unwrap();
        };
        tokio::join!(more, flush);
        Ok(())
    });
    let mut client = open(service, subprotocols::V5).await;
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.channel(1).len(), 64 * 1024 + 4);
    assert_eq!(note.recv().await.unwrap(), ("filled", Duration::ZERO));
    for _ in 0..2 {
        let (what, time) = note.recv().await.unwrap();
        assert!(
            time >= millis(250) && time < millis(260),
            "{what} after {time:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_the_peer_ends_the_hold() {
    let service = once(|mut set: ChannelSet| async move {
        set.session().hold_output(until_read());
        set.take_writer(1).unwrap().write_all(b"out").await?;
        std::future::pending().await
    });
    let mut client = open(service, subprotocols::V5).await;
    expect_ping(&mut client).await;
    let start = Instant::now();
    let mut client = act(Act::ReservedBit, client).await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_after(start, Duration::ZERO);
    assert_eq!((told.messages.len(), told.close), (0, Some(Some(1002))));
}
