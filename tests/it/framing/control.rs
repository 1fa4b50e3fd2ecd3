//! Control frames: Close, Ping and Pong.

use super::*;

/// RFC 6455, 5.5.
#[tokio::test(start_paused = true)]
async fn a_control_frame_above_125_bytes_fails_the_connection() {
    for &http in EACH {
        for opcode in [CLOSE, PING, PONG] {
            for len in [126, 65_535, 65_536] {
                fails(http, &frame(true, opcode, &vec![b'x'; len]), 1002).await;
            }
        }
    }
}

/// RFC 6455, 5.5.1: "the first two bytes of the body MUST be a 2-byte unsigned integer".
#[tokio::test(start_paused = true)]
async fn a_close_with_half_a_code_fails_the_connection() {
    for &http in EACH {
        fails(http, &frame(true, CLOSE, b"\x03"), 1002).await;
    }
}

/// RFC 6455, 5.5.1 and 8.1.
#[tokio::test(start_paused = true)]
async fn a_reason_that_is_not_utf_8_fails_the_connection() {
    for &http in EACH {
        for reason in [&b"\xff"[..], b"\xe2\x82", b"\xed\xa0\x80", b"bye\xc0\xaf"] {
            let body = [b"\x03\xe8", reason].concat();
            fails(http, &frame(true, CLOSE, &body), 1007).await;
        }
    }
}

/// RFC 6455, 5.5.1: a Close is answered, with the code that it had, as soon as practical.
#[tokio::test(start_paused = true)]
async fn a_close_is_answered_with_its_code() {
    for &http in EACH {
        for code in [
            None,
            Some(1000),
            Some(1001),
            Some(1011),
            Some(3000),
            Some(4999),
        ] {
            let mut client = http.open(session(echo)).await;
            client.close(code).await.unwrap();
            let told = within(SOON, client.read_to_close()).await;
            assert_eq!(told.close, Some(code), "{http:?}");
            assert_eq!(told.reason, "");
        }
    }
}

/// RFC 6455, 5.5.1: no data follows a Close of this end, and nothing else does.
#[tokio::test(start_paused = true)]
async fn nothing_follows_our_close() {
    for &http in EACH {
        for by_client in [true, false] {
            let service = session(move |mut set: ChannelSet| async move {
                let session = set.session().clone();
                let mut writer = set.take_writer(1).ok_or("no channel 1")?;
                // Writes for as long as it may.
                tokio::spawn(async move {
                    while writer.write_all(&[7; 1000]).await.is_ok() {
                        sleep(millis(1)).await;
                    }
                });
                sleep(millis(2)).await;
                if !by_client {
                    session.close(4000, "enough")?;
                }
                session.ended().await;
                Ok(())
            });
            let mut client = http.open(service).await;
            if by_client {
                client.close(Some(4000)).await.unwrap();
            }
            let told = within(SOON, client.read_to_close()).await;
            assert_eq!(told.close, Some(Some(4000)), "{http:?}");
            // A Ping behind it is not answered either.
            let _ = client.bytes(&frame(true, PING, b"late")).await;
            assert_eq!(settle(&mut client).await, []);
            let _ = client.close(Some(4000)).await;
            assert_eq!(within(LONG, client.next()).await, None, "behind the Close");
        }
    }
}

/// RFC 6455, 5.5.1: two Closes at the same time are an answer to each other.
#[tokio::test(start_paused = true)]
async fn closes_that_cross_end_the_connection() {
    for &http in EACH {
        let mut client = http.open(session(echo)).await;
        let both = [
            frame(true, BINARY, &[255, 0]),
            frame(true, CLOSE, b"\x03\xe8"),
        ];
        client.bytes(&both.concat()).await.unwrap();
        let start = Instant::now();
        let told = within(SOON, client.read_to_close()).await;
        assert_eq!(told.close, Some(Some(1000)), "{http:?}");
        assert_eq!(within(SOON, client.next()).await, None, "one Close");
        assert!(start.elapsed() < millis(100), "nothing is waited for");
    }
}

/// RFC 6455, 5.5.2 and 5.5.3: a Pong has the payload of its Ping.
#[tokio::test(start_paused = true)]
async fn a_ping_is_answered_with_its_payload() {
    for &http in EACH {
        let mut client = http.open(session(echo)).await;
        for len in 0..=125 {
            let payload: Vec<u8> = (0..len).map(|at| at ^ 0xa5).collect();
            client.bytes(&frame(true, PING, &payload)).await.unwrap();
            let pong = within(SOON, client.next()).await.unwrap();
            assert_eq!((pong.fin, pong.opcode), (true, PONG));
            assert_eq!(pong.payload, payload);
        }
        assert_eq!(settle(&mut client).await, []);
    }
}

/// RFC 6455, 5.5.3: of Pings that arrive together, the most recent one is answered, and the answers
/// keep their order.
#[tokio::test(start_paused = true)]
async fn the_last_of_many_pings_is_answered() {
    for &http in EACH {
        let mut client = http.open(session(echo)).await;
        let pings: Vec<u8> = (0..100).flat_map(|n| frame(true, PING, &[n])).collect();
        client.bytes(&pings).await.unwrap();
        let pongs = settle(&mut client).await;
        let numbers: Vec<u8> = pongs.iter().map(|pong| pong.payload[0]).collect();
        assert_eq!(numbers.last(), Some(&99), "{http:?}");
        assert!(numbers.is_sorted());
        assert!(pongs.iter().all(|pong| pong.opcode == PONG));
    }
}

/// RFC 6455, 5.5.2: a Ping behind a Close is not answered.
#[tokio::test(start_paused = true)]
async fn a_ping_behind_a_close_is_not_answered() {
    for &http in EACH {
        let mut client = http.open(session(echo)).await;
        let bytes = [frame(true, CLOSE, b"\x0f\xa0"), frame(true, PING, b"late")];
        client.bytes(&bytes.concat()).await.unwrap();
        let told = within(SOON, client.read_to_close()).await;
        assert_eq!((told.close, told.controls), (Some(Some(4000)), vec![]));
        assert_eq!(within(LONG, client.next()).await, None);
    }
}

/// RFC 6455, 5.5.3.
#[tokio::test(start_paused = true)]
async fn a_pong_that_was_not_asked_for_is_not_answered() {
    for &http in EACH {
        let mut client = http.open(session(echo)).await;
        for len in [0, 1, 8, 125] {
            client
                .bytes(&frame(true, PONG, &vec![0; len]))
                .await
                .unwrap();
            assert_eq!(settle(&mut client).await, [], "{http:?}");
        }
        client.send(0, b"still here").await.unwrap();
        assert_eq!(echoed(settle(&mut client).await).0, b"still here");
    }
}
