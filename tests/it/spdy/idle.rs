//! The idle timeout, which each frame that moves data pushes back, and so does each PING.

use tower_wsstream::policy::KeepAlive;

use super::*;

const IDLE: Duration = secs(60);

/// Opens a session whose connections are passed on to the test.
async fn open(
    tunnel: bool,
    idle: Option<Duration>,
) -> (Spdy<DuplexStream>, mpsc::UnboundedReceiver<ForwardedPort>) {
    let (service, ports) = held_in(config().idle_timeout(idle));
    let client = match tunnel {
        true => Spdy::tunnel(service).await,
        false => Spdy::post(service, "/", PORT_FORWARD).await,
    };
    (client, ports)
}

/// Checks that the session ends after its idle timeout, and in order.
async fn ends_idle(client: &mut Spdy<DuplexStream>, since: Instant) {
    let told = within(5 * IDLE, client.read_to_end()).await;
    let end = told.iter().find(|said| matches!(said, Said::GoAway(..)));
    assert!(matches!(end, Some(Said::GoAway(_, 0))), "{told:?}");
    let after = since.elapsed();
    // The service had its grace, and ignored it.
    assert!((IDLE..IDLE + secs(60)).contains(&after), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_timeout_a_session_lives_on() {
    for tunnel in [true, false] {
        let (mut client, mut ports) = open(tunnel, None).await;
        let (stream, mut port) = answered(&mut client, &mut ports).await;
        tokio::time::sleep(secs(7 * 24 * 3600)).await;
        port.stream.write_all(b"late").await.unwrap();
        assert_eq!(client.next().await, Some(Said::data(stream, "late")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_without_streams_is_idle() {
    for tunnel in [true, false] {
        let (mut client, _ports) = open(tunnel, Some(IDLE)).await;
        ends_idle(&mut client, Instant::now()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn pings_of_this_end_keep_no_session_from_being_idle() {
    for tunnel in [true, false] {
        for answers in [true, false] {
            let keep_alive = KeepAlive::every(secs(10));
            let config = config().keep_alive(keep_alive).idle_timeout(Some(IDLE));
            let (service, _ports) = held_in(config);
            let mut client = match tunnel {
                true => Spdy::tunnel(service).await,
                false => Spdy::post(service, "/", PORT_FORWARD).await,
            };
            client.answers = answers;
            let since = Instant::now();
            ends_idle(&mut client, since).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn data_in_either_direction_keeps_a_session_from_being_idle() {
    for from_client in [true, false] {
        for tunnel in [true, false] {
            let (mut client, mut ports) = open(tunnel, Some(IDLE)).await;
            let (stream, mut port) = answered(&mut client, &mut ports).await;
            let mut last = Instant::now();
            for _ in 0..20 {
                tokio::time::sleep(IDLE - secs(1)).await;
                last = Instant::now();
                if from_client {
                    client.bytes(&data(stream, b"y")).await;
                    assert_eq!(soon(port.stream.read_u8()).await.unwrap(), b'y');
                } else {
                    port.stream.write_all(b"y").await.unwrap();
                    assert_eq!(client.next().await, Some(Said::data(stream, "y")));
                }
            }
            ends_idle(&mut client, last).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_half_closed_may_be_idle() {
    for from_client in [true, false] {
        for tunnel in [true, false] {
            let (mut client, mut ports) = open(tunnel, Some(IDLE)).await;
            let (stream, mut port) = answered(&mut client, &mut ports).await;
            if from_client {
                client.bytes(&fin(stream)).await;
                assert_eq!(soon(port.stream.read(&mut [0; 9])).await.unwrap(), 0);
            } else {
                port.stream.shutdown().await.unwrap();
                assert_eq!(client.next().await, Some(Said::Fin(stream)));
            }
            ends_idle(&mut client, Instant::now()).await;
            // Its other direction has ended as well.
            let mut rest = Vec::new();
            let end = soon(port.stream.read_to_end(&mut rest)).await;
            assert_eq!(end.is_ok(), from_client, "{end:?}");
            assert!(port.stream.write_all(b"x").await.is_err());
        }
    }
}

/// Frames that arrive with the end of the time, a moment earlier or a moment later.
#[tokio::test(start_paused = true)]
async fn frames_at_the_end_of_the_time_hang_nothing() {
    for moment in [-2_i64, -1, 0, 1, 2] {
        let time = IDLE.as_millis() as i64 + moment;
        for opens in [true, false] {
            for tunnel in [true, false] {
                let (mut client, mut ports) = open(tunnel, Some(IDLE)).await;
                let (stream, mut port) = answered(&mut client, &mut ports).await;
                let since = Instant::now();
                tokio::time::sleep(millis(time as u64)).await;
                let frames = match opens {
                    true => client.pair(5, 80),
                    false => reset(stream),
                };
                // The session may have ended.
                let _ = client.try_bytes(&frames).await;
                let mut rest = Vec::new();
                assert!(soon(port.stream.read_to_end(&mut rest)).await.is_err());
                client.read_to_end().await;
                assert!(
                    since.elapsed() < 3 * IDLE,
                    "{moment}: {:?}",
                    since.elapsed()
                );
            }
        }
    }
}
