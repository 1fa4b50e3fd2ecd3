//! The activity that moves the idle timeout.

use super::*;

#[derive(Clone, Copy, Debug)]
enum Activity {
    Message,
    LargeMessage,
    /// A channel number without payload.
    NoPayload,
    /// A message for a channel without a reader, or one that does not exist.
    ForNobody,
    Fragments,
    Write,
    LargeWrite,
    Send,
}

impl Activity {
    const ALL: [Self; 8] = [
        Self::Message,
        Self::LargeMessage,
        Self::NoPayload,
        Self::ForNobody,
        Self::Fragments,
        Self::Write,
        Self::LargeWrite,
        Self::Send,
    ];

    async fn run(self, client: &mut Raw<DuplexStream>, output: &mut ChannelWriter) {
        match self {
            Self::Message => client.send(0, b"x").await.unwrap(),
            Self::LargeMessage => client.send(0, &[7; 100_000]).await.unwrap(),
            Self::NoPayload => client.send(0, b"").await.unwrap(),
            Self::ForNobody => {
                client.send(1, b"x").await.unwrap();
                client.send(77, b"x").await.unwrap();
            }
            Self::Fragments => {
                let first = frame(false, BINARY, &on(0, b"x"));
                client.bytes(&first).await.unwrap();
                client.bytes(&frame(true, 0, b"y")).await.unwrap();
            }
            Self::Write => output.write_all(b"x").await.unwrap(),
            Self::LargeWrite => output.write_all(&[7; 60_000]).await.unwrap(),
            Self::Send => output.send(vec![7; 60_000]).await.unwrap(),
        }
    }
}

/// The test holds the writer, so no write wakes the session's own timer.
#[tokio::test(start_paused = true)]
async fn data_in_either_direction_moves_the_idle_end() {
    let _watchdog = Watchdog::bites_after(BITE);
    for activity in Activity::ALL {
        for times in [
            &[0.0][..],
            &[3.0],
            &[9.999],
            &[3.0, 9.5, 9.501],
            &[9.0, 18.0, 27.0],
        ] {
            let (mut client, mut output, ended) = waiting(idle(), subprotocols::V5, 1 << 20).await;
            let start = Instant::now();
            for at in times {
                sleep_until(start + Duration::from_secs_f64(*at)).await;
                activity.run(&mut client, &mut output).await;
            }
            let last = Duration::from_secs_f64(*times.last().unwrap());
            let at = idle_end(start, ended).await;
            assert_at(
                &format!("{activity:?} at {times:?}: the end"),
                at,
                last + IDLE,
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_of_any_kind_is_data_on_every_subprotocol() {
    let _watchdog = Watchdog::bites_after(BITE);
    for offer in ALL {
        for payload in [&b""[..], b"0", b"0eA=="] {
            for opcode in [TEXT, BINARY] {
                let (mut client, _output, ended) = waiting(idle(), offer, 1 << 20).await;
                let start = Instant::now();
                sleep(secs(5)).await;
                client.bytes(&frame(true, opcode, payload)).await.unwrap();
                let at = idle_end(start, ended).await;
                assert_at(
                    &format!("{offer:?} {opcode} {payload:?}"),
                    at,
                    secs(5) + IDLE,
                );
            }
        }
    }
}

/// For 10 s there is payload, but no message begins or ends. It counts as data throughout, or no
/// large upload would ever complete.
#[tokio::test(start_paused = true)]
async fn every_piece_of_a_message_is_data() {
    let _watchdog = Watchdog::bites_after(BITE);
    for offer in [subprotocols::V5, subprotocols::V4_BASE64] {
        for fragments in [false, true] {
            let (mut client, _output, ended) = waiting(idle(), offer, 1 << 20).await;
            let start = Instant::now();
            let message = match offer {
                subprotocols::V5 => on(0, &[7; 3000]),
                _ => base64(0, &[7; 3000]),
            };
            let whole = frame(true, TEXT, &message);
            for n in 0..20 {
                let piece = match fragments {
                    false => whole
                        .chunks(whole.len().div_ceil(20))
                        .nth(n)
                        .unwrap()
                        .to_vec(),
                    true => {
                        let piece = message.chunks(message.len().div_ceil(20)).nth(n).unwrap();
                        frame(n == 19, if n == 0 { TEXT } else { 0 }, piece)
                    }
                };
                client.bytes(&piece).await.unwrap();
                sleep(secs(1)).await;
            }
            let at = idle_end(start, ended).await;
            assert_at(
                &format!("{offer} in fragments: {fragments}"),
                at,
                secs(19) + IDLE,
            );
        }
    }
}

/// A client takes 36 s to read 1 MiB, which was accepted as one message at the start.
#[tokio::test(start_paused = true)]
async fn output_that_leaves_slowly_is_data() {
    let _watchdog = Watchdog::bites_after(BITE);
    let (mut client, mut output, ended) = waiting(idle(), subprotocols::V5, 1024).await;
    let start = Instant::now();
    output.send(vec![7; 1 << 20]).await.unwrap();
    let mut buf = vec![0; 1 << 18];
    for _ in 0..4 {
        sleep(secs(9)).await;
        client.io.read_exact(&mut buf).await.unwrap();
    }
    let at = idle_end(start, ended).await;
    assert!(
        at >= secs(36) && at <= secs(36) + IDLE + EXACT,
        "after {at:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn pings_and_pongs_do_not_move_the_idle_end() {
    let _watchdog = Watchdog::bites_after(BITE);
    let layer = idle().config(
        config()
            .idle_timeout(IDLE)
            .keep_alive(KeepAlive::every(secs(2)).timeout(secs(1))),
    );
    let (mut client, _output, ended) = waiting(layer, subprotocols::V5, 1 << 20).await;
    let start = Instant::now();
    for _ in 0..19 {
        client.bytes(&frame(true, PING, b"alive?")).await.unwrap();
        client.bytes(&frame(true, PONG, b"alive!")).await.unwrap();
        sleep(Duration::from_millis(500)).await;
    }
    assert_at("the end", idle_end(start, ended).await, IDLE);
}

#[tokio::test(start_paused = true)]
async fn the_idle_clock_starts_at_the_upgrade() {
    let _watchdog = Watchdog::bites_after(BITE);
    let (tell, ended) = oneshot::channel();
    let layer = idle().config(
        config()
            .idle_timeout(IDLE)
            .accept(AcceptMode::Explicit)
            .accept_timeout(LONG),
    );
    let service = once_in(layer, |set: ChannelSet| async move {
        sleep(secs(25)).await;
        set.session().accept().await;
        let cause = set.session().ended().await;
        let _ = tell.send((cause, Instant::now()));
        Ok(())
    });
    let _client = open(service, subprotocols::V5).await;
    let start = Instant::now();
    assert_at("the end", idle_end(start, ended).await, IDLE);
}

#[tokio::test(start_paused = true)]
async fn without_an_idle_timeout_nobody_is_ever_idle() {
    let _watchdog = Watchdog::bites_after(BITE);
    for layer in [
        layer(),
        layer().idle_timeout(None),
        idle().idle_timeout(None),
        layer().idle_timeout(Duration::MAX),
    ] {
        let (client, _output, ended) = waiting(layer, subprotocols::V5, 4096).await;
        let day = timeout(24 * LONG, ended).await;
        assert!(day.is_err(), "{day:?}");
        drop(client);
    }
}
