//! What an operator may choose about time: the idle timeout and the keep-alive.

use std::{io, pin::pin, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::oneshot,
    time::{Instant, sleep, sleep_until, timeout},
};
use tower::{Layer, ServiceBuilder, util::BoxCloneService};
use tower_wsstream::{
    AcceptMode, BoxError, ChannelSet, ChannelWriter, EndCause, SessionConfig, WsStreamLayer,
    policy::{ByteRate, IdleTimeout, IdleTimeoutLayer, KeepAlive, Limits, PolicyLayer, TimeLimit},
    subprotocols,
};

use crate::support::{
    ALL, BINARY, BITE, EXACT, End, Frame, HttpService, LONG, PING, PONG, Raw, TEXT, Watchdog,
    base64, config, frame, layer, on, once_in, open, open_watched, open_with, protocols, read_out,
    secs, serve, within,
};

const IDLE: Duration = Duration::from_secs(10);
fn idle() -> WsStreamLayer {
    layer().idle_timeout(IDLE)
}

fn beating(every: u64, timeout: u64) -> WsStreamLayer {
    layer().config(config().keep_alive(KeepAlive::every(secs(every)).timeout(secs(timeout))))
}

/// Something happened then, and not a tick sooner.
#[track_caller]
fn assert_at(what: &str, at: Duration, expected: Duration) {
    assert!(
        at >= expected && at <= expected + EXACT,
        "{what} after {at:?}, not after {expected:?}"
    );
}

/// Why a session ended, and when.
type Ended = oneshot::Receiver<(EndCause, Instant)>;

/// A session that does nothing but to wait for its end, with its output in the
/// hands of the test.
async fn waiting(
    layer: WsStreamLayer,
    offer: &str,
    capacity: usize,
) -> (Raw<DuplexStream>, ChannelWriter, Ended) {
    let (tell, ended) = oneshot::channel();
    let (give, output) = oneshot::channel();
    let service = once_in(layer, |mut set: ChannelSet| async move {
        assert!(give.send(set.take_writer(1).unwrap()).is_ok());
        let cause = set.session().ended().await;
        let _ = tell.send((cause, Instant::now()));
        Ok(())
    });
    let client = open_with(service, offer, capacity).await;
    (client, output.await.unwrap(), ended)
}

async fn idle_end(start: Instant, ended: Ended) -> Duration {
    let (cause, at) = within(LONG, ended).await.unwrap();
    assert_eq!(cause, EndCause::IdleTimeout);
    at - start
}

// Which activity counts.

#[derive(Clone, Copy, Debug)]
enum Activity {
    Message,
    LargeMessage,
    /// A channel, and nothing for it.
    NoPayload,
    /// For a channel that nobody reads, or that does not exist.
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

/// The writer is the test's: no write of it wakes the session's own timer.
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

/// 10 s of payload, and not one message that begins or ends: it is data all the
/// time, or no large upload ever came through.
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

/// A client reads 1 MiB for 40 s, accepted as one message at the start.
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

// What follows from it.

#[tokio::test(start_paused = true)]
async fn an_idle_service_learns_it_and_may_still_speak() {
    let _watchdog = Watchdog::bites_after(BITE);
    for offer in ALL {
        for well in [true, false] {
            let (tell, read) = oneshot::channel();
            let service = once_in(idle(), move |mut set: ChannelSet| async move {
                let mut stdin = set.take_reader(0).unwrap();
                let mut stdout = set.take_writer(1).unwrap();
                let _ = tell.send(read_out(&mut stdin).await);
                assert_eq!(set.session().ended().await, EndCause::IdleTimeout);
                sleep(Duration::from_millis(900)).await;
                stdout.write_all(b"you are idle").await?;
                well.then_some(()).ok_or_else(|| "idle".into())
            });
            let mut client = open(service, offer).await;
            let start = Instant::now();
            client.send(0, b"first").await.unwrap();
            let told = within(LONG, client.read_to_end()).await;
            assert_at(
                "the Close",
                start.elapsed(),
                IDLE + Duration::from_millis(900),
            );
            assert_eq!(told.text(1), "you are idle");
            // The error of a service in its grace makes the cause no other.
            let close = (told.close, &*told.reason);
            let expected = if well {
                (1000, "")
            } else {
                (1001, "idle timeout")
            };
            assert_eq!(close, (Some(Some(expected.0)), expected.1), "{offer:?}");
            let end = End::Error(io::ErrorKind::TimedOut, EndCause::IdleTimeout);
            assert_eq!(read.await.unwrap(), (b"first".to_vec(), end));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_service_that_ignores_it_is_dropped_after_its_grace() {
    let _watchdog = Watchdog::bites_after(BITE);
    let service = once_in(
        idle().config(config().idle_timeout(IDLE).grace(secs(3))),
        |mut set: ChannelSet| async move {
            let mut stdout = set.take_writer(1).unwrap();
            let mut ended = pin!(set.session().ended());
            (&mut ended).await;
            loop {
                stdout.write_all(b".").await?;
                sleep(secs(1)).await;
            }
        },
    );
    let client = open(service, subprotocols::V5).await;
    let start = Instant::now();
    let (mut client, _write) = client.into_halves();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1001)));
    assert_eq!(told.reason, "idle timeout");
    assert!(told.text(1).starts_with("..."), "{told:?}");
    // The client says nothing any more, so the socket is let go later.
    assert!(start.elapsed() >= IDLE + secs(3));
}

/// The service has returned, and somebody still holds a writer.
#[tokio::test(start_paused = true)]
async fn a_session_whose_writer_is_forgotten_ends_when_idle() {
    let _watchdog = Watchdog::bites_after(BITE);
    let (give, output) = oneshot::channel();
    let service = once_in(idle(), |mut set: ChannelSet| async move {
        assert!(give.send(set.take_writer(1)).is_ok());
        Ok(())
    });
    let mut client = open(service, subprotocols::V5).await;
    let start = Instant::now();
    let mut output = output.await.unwrap().unwrap();
    let close = within(LONG, client.next()).await.unwrap();
    assert_at("the Close", start.elapsed(), IDLE + secs(1));
    assert_eq!(close.close_code(), Some(1000), "the service has told it");
    let error = output.write_all(b"x").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_is_not_idle() {
    let _watchdog = Watchdog::bites_after(BITE);
    // In its grace after a Close that ended its input.
    let service = once_in(idle(), |mut set: ChannelSet| async move {
        let mut stdin = set.take_reader(0).unwrap();
        let mut stdout = set.take_writer(1).unwrap();
        let (all, end) = read_out(&mut stdin).await;
        assert_eq!((all.len(), end), (5, End::Eof));
        sleep(secs(25)).await;
        let code = Some(1000);
        assert!(
            matches!(set.session().ended().await, EndCause::PeerClosed { code: c, .. } if c == code)
        );
        stdout.write_all(b"done").await?;
        Ok(())
    });
    let mut client = open(service, subprotocols::V4).await;
    client.send(0, b"input").await.unwrap();
    client.close(Some(1000)).await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!((&*told.text(1), told.close), ("done", Some(Some(1000))));

    // While its last output waits for the peer.
    let service = once_in(idle(), |mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(1).unwrap();
        stdout.send(vec![7; 300_000]).await?;
        Ok(())
    });
    let mut client = open_with(service, subprotocols::V5, 1000).await;
    sleep(6 * IDLE).await;
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(
        (told.channel(1).len(), told.close),
        (300_000, Some(Some(1000)))
    );
}

#[cfg(feature = "remotecommand")]
mod command {
    use tower_wsstream::remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer};

    use super::*;

    /// Waits for nothing, and never ends.
    async fn never(_command: RemoteCommand) -> Result<ExitStatus, BoxError> {
        std::future::pending().await
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_command_is_told_by_a_status() {
        let _watchdog = Watchdog::bites_after(BITE);
        for offer in ALL {
            let service = ServiceBuilder::new()
                .layer(WsStreamLayer::new(Protocols::default()).idle_timeout(IDLE))
                .layer(RemoteCommandLayer::new())
                .service_fn(never);
            let (near, far) = tokio::io::duplex(4096);
            serve(far, service);
            let path = "/exec?stdin=1&stdout=1&command=sleep";
            let mut client = Raw::handshake_at(near, path, offer).await.unwrap();
            let start = Instant::now();
            let told = within(LONG, client.read_to_end()).await;
            assert!(start.elapsed() >= IDLE + secs(1), "its grace was kept");
            let said = told.text(3);
            assert!(said.contains("idle for too long"), "{offer:?}: {said}");
            if offer.contains("v4") || offer.contains("v5") {
                let status: serde_json::Value = serde_json::from_str(&said).unwrap();
                assert_eq!(status["status"], "Failure");
                assert_eq!(status["reason"], "Timeout");
                assert_eq!(status["code"], 504);
            }
            assert_eq!(told.messages.last().unwrap().0, 3, "it is the last word");
            assert_eq!(told.close, Some(Some(1000)), "{offer:?}: it was told");
        }
    }
}

// Overrides.

async fn never(_set: ChannelSet) -> Result<(), BoxError> {
    std::future::pending().await
}

/// When a session at a path of a router ends, if it does within an hour.
async fn end_at(router: impl HttpService, path: &str) -> Option<Duration> {
    let (near, far) = tokio::io::duplex(4096);
    serve(far, router);
    let mut client = Raw::handshake_at(near, path, subprotocols::V5)
        .await
        .unwrap();
    let start = Instant::now();
    let told = timeout(LONG, client.next()).await.ok()?.unwrap();
    assert_eq!(told.close_code(), Some(1001));
    Some(start.elapsed() - secs(1))
}

#[tokio::test(start_paused = true)]
async fn each_route_has_the_idle_timeout_it_was_given_last() {
    let _watchdog = Watchdog::bites_after(BITE);
    let stack = idle().layer(tower::service_fn(never));
    let by_request = ServiceBuilder::new()
        .map_request(|mut request: http::Request<axum::body::Body>| {
            let asked = request.uri().query().and_then(|query| query.parse().ok());
            if let Some(asked) = asked {
                let timeout = IdleTimeout(Some(secs(asked)));
                request.extensions_mut().insert(timeout);
            }
            request
        })
        .service(stack.clone());
    let of = |timeout: Option<u64>| IdleTimeoutLayer::new(timeout.map(secs));
    let router = axum::Router::new()
        .route_service("/layer", stack.clone())
        .route_service("/longer", of(Some(60)).layer(stack.clone()))
        .route_service("/never", of(None).layer(stack.clone()))
        .route_service("/request", by_request.clone())
        .route_service("/both", of(Some(60)).layer(by_request.clone()))
        .route_service(
            "/inner",
            of(Some(60)).layer(of(Some(20)).layer(stack.clone())),
        )
        .route_service("/inner-none", of(Some(60)).layer(of(None).layer(stack)))
        .route_service(
            "/without",
            of(Some(30)).layer(layer().layer(tower::service_fn(never))),
        );
    let end = |path| end_at(router.clone(), path);
    // All at the same time: none of them touches another.
    let ends = futures_util::future::join_all([
        end("/layer"),
        end("/longer"),
        end("/never"),
        end("/request"),
        end("/request?5"),
        end("/both"),
        end("/both?7"),
        end("/inner"),
        end("/inner-none"),
        end("/without"),
        end("/layer"),
    ]);
    let expected = [
        Some(10),
        Some(60),
        None,
        Some(10),
        Some(5),
        Some(60),
        Some(7),
        Some(20),
        None,
        Some(30),
        Some(10),
    ];
    for (n, (end, expected)) in ends.await.into_iter().zip(expected).enumerate() {
        assert_eq!(end.is_some(), expected.is_some(), "session {n}");
        if let (Some(end), Some(expected)) = (end, expected) {
            assert_at(&format!("session {n}"), end, secs(expected));
        }
    }
}

// Keep-alive.

/// The control frames of a time, with the second in which each came.
async fn pings(client: &mut Raw<DuplexStream>, time: Duration) -> Vec<Duration> {
    let start = Instant::now();
    let mut seen = Vec::new();
    while let Ok(next) = timeout(time.saturating_sub(start.elapsed()), client.next()).await {
        let frame: Frame = next.expect("the session goes on");
        assert_eq!((frame.opcode, frame.payload.len()), (PING, 8));
        seen.push(start.elapsed());
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn a_ping_leaves_in_each_interval_and_none_where_there_is_none() {
    let _watchdog = Watchdog::bites_after(BITE);
    let default = || WsStreamLayer::new(protocols());
    for (layer, interval) in [
        (default(), Some(30)),
        (
            default().config(SessionConfig::default().keep_alive(KeepAlive::default())),
            Some(30),
        ),
        (
            default().config(SessionConfig::default().keep_alive(KeepAlive::every(secs(7)))),
            Some(7),
        ),
        (
            default().config(SessionConfig::default().keep_alive(None)),
            None,
        ),
        (
            default().config(SessionConfig::default().keep_alive(KeepAlive::every(Duration::MAX))),
            None,
        ),
    ] {
        let (mut client, _output, _ended) = waiting(layer, subprotocols::V5, 4096).await;
        let seen = pings(&mut client, secs(605)).await;
        assert_eq!(
            seen.len() as u64,
            interval.map_or(0, |interval| 605 / interval)
        );
        for (n, at) in (1..).zip(seen) {
            assert_at("a Ping", at, secs(n * interval.unwrap()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pings_leave_between_data() {
    let _watchdog = Watchdog::bites_after(BITE);
    let layer = layer().config(config().keep_alive(KeepAlive::every(secs(10))));
    let (mut client, mut output, _ended) = waiting(layer, subprotocols::V5, 4096).await;
    tokio::spawn(async move {
        while output.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(300)).await;
        }
    });
    let start = Instant::now();
    let mut seen = 0;
    while start.elapsed() < secs(61) {
        client.send(0, b"").await.unwrap();
        let frame = within(secs(1), client.next()).await.unwrap();
        if frame.opcode == PING {
            seen += 1;
            assert_at("a Ping", start.elapsed(), secs(10 * seen));
        }
    }
    assert_eq!(seen, 6);
}

#[tokio::test(start_paused = true)]
async fn no_byte_after_a_ping_is_the_end() {
    let _watchdog = Watchdog::bites_after(BITE);
    let (tell, read) = oneshot::channel();
    let (told, cause) = oneshot::channel();
    let service = once_in(beating(30, 10), |mut set: ChannelSet| async move {
        let mut stdin = set.take_reader(0).unwrap();
        let mut stdout = set.take_writer(1).unwrap();
        let _ = tell.send(read_out(&mut stdin).await);
        let _ = told.send((set.session().ended().await, Instant::now()));
        let error = stdout.write_all(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        Ok(())
    });
    let (mut client, dropped) = open_watched(service, subprotocols::V5, 4096).await;
    let start = Instant::now();
    // What came before the Ping is no answer to it.
    sleep(Duration::from_millis(29_999)).await;
    client.send(0, b"early").await.unwrap();
    assert_eq!(pings(&mut client, secs(1)).await.len(), 1);
    let (cause, at) = within(LONG, cause).await.unwrap();
    assert_eq!(cause, EndCause::PeerUnresponsive);
    assert!(cause.is_remote() && cause.is_timeout() && cause.is_lost());
    assert_at("the end", at - start, secs(40));
    let end = End::Error(io::ErrorKind::TimedOut, EndCause::PeerUnresponsive);
    assert_eq!(read.await.unwrap(), (b"early".to_vec(), end));
    // Nobody is there to be told: the socket is let go.
    within(EXACT, dropped).await.unwrap_err();
    assert_eq!(client.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn any_byte_after_a_ping_is_a_sign_of_life() {
    let _watchdog = Watchdog::bites_after(BITE);
    let half = frame(true, BINARY, &on(0, &[7; 100]));
    for sign in [
        frame(true, PONG, b""),
        frame(true, PONG, b"not what was asked"),
        frame(true, PING, b""),
        frame(true, BINARY, b""),
        frame(true, BINARY, &on(0, b"x")),
        frame(true, BINARY, &on(77, b"x")),
        half[..1].to_vec(),
        half[..50].to_vec(),
    ] {
        let (mut client, _output, ended) = waiting(beating(30, 10), subprotocols::V5, 4096).await;
        let start = Instant::now();
        sleep(Duration::from_millis(39_990)).await;
        client.bytes(&sign).await.unwrap();
        let (cause, at) = within(LONG, ended).await.unwrap();
        assert_eq!(cause, EndCause::PeerUnresponsive);
        assert_at(&format!("{sign:?}: the end"), at - start, secs(70));
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_lives() {
    let _watchdog = Watchdog::bites_after(BITE);
    let (mut client, _output, mut ended) = waiting(beating(5, 2), subprotocols::V5, 4096).await;
    for _ in 0..200 {
        let ping = within(LONG, client.next()).await.unwrap();
        assert_eq!(ping.opcode, PING);
        sleep(Duration::from_millis(1990)).await;
        client
            .bytes(&frame(true, PONG, &ping.payload))
            .await
            .unwrap();
    }
    assert!(ended.try_recv().is_err());
}

/// Fills a channel that nobody reads, and some more.
async fn fill(client: &mut Raw<DuplexStream>, more: usize) {
    for _ in 0..16 {
        client.send(0, &[7; 16 * 1024]).await.unwrap();
    }
    client.send(0, &vec![7; more]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn time_in_which_nothing_is_read_does_not_count() {
    let _watchdog = Watchdog::bites_after(BITE);
    // The pause begins before a Ping, or after it, and ends between two of
    // them, or right before the answer to one is due.
    for begins in [0, 5_000, 31_000, 39_990] {
        for (lasts, more) in [
            (600_000, 65_536),
            (604_000, 100),
            (598_000, 100),
            (1000, 100),
        ] {
            let (tell, stdin) = oneshot::channel();
            let (told, cause) = oneshot::channel();
            let service = once_in(beating(30, 10), |mut set: ChannelSet| async move {
                assert!(tell.send(set.take_reader(0).unwrap()).is_ok());
                let _open = set.take_writer(1);
                let _ = told.send((set.session().ended().await, Instant::now()));
                Ok(())
            });
            let mut client = open_with(service, subprotocols::V5, 1 << 20).await;
            let mut stdin = stdin.await.unwrap();
            let start = Instant::now();
            sleep(Duration::from_millis(begins)).await;
            fill(&mut client, more).await;
            sleep(Duration::from_millis(lasts)).await;
            let mut all = vec![0; 16 * 16 * 1024 + more];
            within(LONG, stdin.read_exact(&mut all)).await.unwrap();
            let resumed = start.elapsed();
            let (cause, at) = within(LONG, cause).await.unwrap();
            assert_eq!(cause, EndCause::PeerUnresponsive);
            let waited = at - start - resumed;
            assert!(
                waited >= secs(10) && waited <= secs(60) + EXACT,
                "a pause from {begins} for {lasts} ms: {waited:?} after it"
            );
        }
    }
}

/// Peers that read in no time: output that has left is as good as read.
fn prompt() -> WsStreamLayer {
    let limits = Limits::default().min_read_rate(u64::MAX);
    beating(30, 10).limits(limits)
}

#[tokio::test(start_paused = true)]
async fn time_in_which_output_waits_does_not_count() {
    let _watchdog = Watchdog::bites_after(BITE);
    let size = 300_000;
    // The peer reads again between two Pings, right after one, or right
    // before its answer is due.
    for reads_at in [600_000, 601_000, 609_900, 615_000] {
        let (mut client, mut output, ended) = waiting(prompt(), subprotocols::V5, 1000).await;
        let start = Instant::now();
        output.send(vec![7; size]).await.unwrap();
        sleep(Duration::from_millis(reads_at)).await;
        let mut read = 0;
        while read < size {
            let frame = within(secs(1), client.next()).await.unwrap();
            if frame.opcode != PING {
                read += frame.payload.len();
            }
        }
        let (cause, at) = within(LONG, ended).await.unwrap();
        assert_eq!(cause, EndCause::PeerUnresponsive);
        let waited = at - start - Duration::from_millis(reads_at);
        assert!(
            waited >= secs(10) && waited <= secs(60) + EXACT,
            "output waited for {reads_at} ms: {waited:?} after it"
        );
    }
}

/// The kernel takes 4 MiB, and a Ping lies behind all of it: a slow reader answers when it
/// gets there.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_has_time_for_the_output_in_front_of_the_ping() {
    let _watchdog = Watchdog::bites_after(BITE);
    const RATE: usize = 300_000;
    let size = 3 << 20;
    // The second goes on typing meanwhile: what it sends says nothing of what it has read.
    for types in [false, true] {
        let (mut client, mut output, mut ended) =
            waiting(beating(1, 2), subprotocols::V5, 4 << 20).await;
        output.send(vec![7; size]).await.unwrap();
        let (mut read, mut answered) = (0, 0);
        while answered < 20 {
            let next = within(LONG, client.next())
                .await
                .expect("the session goes on");
            if next.opcode == PING {
                let pong = frame(true, PONG, &next.payload);
                client.bytes(&pong).await.unwrap();
                answered += 1;
                continue;
            }
            let late = next.payload.len() as u64 * 1_000_000 / RATE as u64;
            sleep(Duration::from_micros(late)).await;
            read += next.payload.len();
            if types && read < size / 2 {
                client.send(0, b"x").await.unwrap();
            }
        }
        assert_eq!(read, size + 1);
        assert!(ended.try_recv().is_err());
        // From now on nothing is in front of a Ping.
        let start = Instant::now();
        let (cause, at) = within(LONG, ended).await.unwrap();
        assert_eq!(cause, EndCause::PeerUnresponsive);
        assert_at("the end", at - start, secs(3));
    }
}

/// The write that makes it wait, and all that is left of it then, are no turns
/// in which the session would look.
#[tokio::test(start_paused = true)]
async fn time_in_which_a_little_output_waits_does_not_count() {
    let _watchdog = Watchdog::bites_after(BITE);
    let (mut client, mut output, ended) = waiting(prompt(), subprotocols::V5, 55_000).await;
    let start = Instant::now();
    sleep(secs(31)).await;
    // More than what is left to the session's own turn, so it leaves at once.
    output.send(vec![7; 60_000]).await.unwrap();
    sleep(Duration::from_millis(8900)).await;
    for _ in 0..3 {
        within(EXACT, client.next()).await.unwrap();
    }
    let (cause, at) = within(LONG, ended).await.unwrap();
    assert_eq!(cause, EndCause::PeerUnresponsive);
    assert_at("the end", at - start, secs(70));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_after_our_close() {
    let _watchdog = Watchdog::bites_after(BITE);
    let service = once_in(beating(5, 2), |mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(1).unwrap();
        sleep(secs(1)).await;
        stdout.write_all(b"done").await?;
        Ok(())
    });
    let (mut read, mut write) = open(service, subprotocols::V5).await.into_halves();
    // It sends on for as long as the server listens, and longer than that.
    let sending = tokio::spawn(async move {
        let start = Instant::now();
        while write
            .write_all(&frame(true, BINARY, &on(0, b"x")))
            .await
            .is_ok()
        {
            sleep(secs(10)).await;
        }
        start.elapsed()
    });
    let told = within(LONG, read.read_to_end()).await;
    assert_eq!((&*told.text(1), told.close), ("done", Some(Some(1000))));
    assert_eq!(told.controls, []);
    assert!(
        within(LONG, sending).await.unwrap() >= secs(60),
        "it lingered"
    );
}

// Configuration.

#[tokio::test(start_paused = true)]
async fn a_time_of_nothing_is_a_mistake() {
    let _watchdog = Watchdog::bites_after(BITE);
    let zero = Duration::ZERO;
    for (layer, knob) in [
        (layer().idle_timeout(zero), "idle_timeout"),
        (layer().config(config().time_limit(zero)), "time_limit"),
        (
            layer().config(config().keep_alive(KeepAlive::every(zero))),
            "KeepAlive",
        ),
        (
            layer().config(config().keep_alive(KeepAlive::every(secs(1)).timeout(zero))),
            "KeepAlive",
        ),
    ] {
        let error = layer.check().unwrap_err().to_string();
        assert!(error.contains(knob), "{error}");
        let (near, far) = tokio::io::duplex(4096);
        serve(far, layer.layer(tower::service_fn(never)));
        let answer = Raw::handshake(near, subprotocols::V5).await.unwrap_err();
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    }
    for layer in [
        layer(),
        idle(),
        beating(1, 1),
        layer().idle_timeout(Duration::MAX),
        layer().config(config().keep_alive(KeepAlive::every(Duration::MAX).timeout(Duration::MAX))),
    ] {
        layer.check().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_asks_for_no_time_is_told_so() {
    let zero = Some(Duration::ZERO);
    let session = idle().layer(tower::service_fn(never));
    macro_rules! asking {
        ($policy:expr) => {
            BoxCloneService::new(PolicyLayer::new($policy).layer(session.clone()))
        };
    }
    for (service, knob) in [
        (asking!(IdleTimeout(zero)), "IdleTimeout"),
        (asking!(TimeLimit(zero)), "TimeLimit"),
        (asking!(KeepAlive::every(Duration::ZERO)), "KeepAlive"),
        (asking!(ByteRate::default().inbound(0)), "ByteRate"),
        (asking!(Limits::default().send_budget(0)), "Limits"),
    ] {
        let (near, far) = tokio::io::duplex(4096);
        serve(far, service);
        let answer = Raw::handshake(near, subprotocols::V5).await.unwrap_err();
        assert!(answer.starts_with("HTTP/1.1 500 "), "{knob}: {answer}");
    }
}
