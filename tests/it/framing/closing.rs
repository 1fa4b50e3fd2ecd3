//! The closing of connections, and the codes of Close frames.

use super::*;

/// RFC 6455, 5.5.1, 7.1.1 and 7.1.2: once both ends have sent a Close, the server closes first, at once.
#[tokio::test(start_paused = true)]
async fn the_server_closes_first_once_both_closes_have_been_sent() {
    for &http in EACH {
        for by_client in [true, false] {
            let mut client = http.open(session(echo)).await;
            match by_client {
                true => client.close(Some(1000)).await.unwrap(),
                false => client.close_channel(0).await.unwrap(),
            }
            let told = within(SOON, client.read_to_close()).await;
            assert_eq!(told.close, Some(Some(1000)));
            if !by_client {
                let early = timeout(secs(20), client.next()).await;
                assert!(early.is_err(), "{http:?}: the client has sent no Close");
                client.close(Some(1000)).await.unwrap();
            }
            let start = Instant::now();
            assert_eq!(within(SOON, client.next()).await, None);
            assert!(start.elapsed() < millis(100), "{http:?}");
        }
    }
}

/// RFC 6455, 7.1.1 and 7.1.4: trailing bytes are discarded, and the end is a clean one: over TCP, a close
/// with unread bytes would be a reset.
#[tokio::test(start_paused = true)]
async fn bytes_behind_the_close_of_the_client_are_discarded() {
    for &http in EACH {
        let mut client = http.open(session(echo)).await;
        let bytes = [frame(true, CLOSE, b"\x0f\xa0"), vec![0xff; 1000]];
        client.bytes(&bytes.concat()).await.unwrap();
        let told = within(SOON, client.read_to_close()).await;
        assert_eq!(
            (told.close, told.messages),
            (Some(Some(4000)), vec![]),
            "{http:?}"
        );
        let mut rest = Vec::new();
        within(LONG, client.io.read_to_end(&mut rest))
            .await
            .unwrap();
        assert_eq!(rest, b"");
    }
}

/// RFC 6455, 7.1.7: a Close with the code comes before the end, and nothing that the client has sent
/// behind its fault is looked at, an answer to that Close included.
#[tokio::test(start_paused = true)]
async fn nothing_is_processed_behind_a_fault() {
    for &http in EACH {
        for (fault, code) in [
            (raw_frame(0xc2, &[0], Some([1; 4]), b""), 1002),
            (frame(true, TEXT, b"\0\xff"), 1007),
        ] {
            fails(http, &fault, code).await;
            // Whatever comes later either, in pieces.
            let mut client = http.open(session(echo)).await;
            client.bytes(&fault).await.unwrap();
            let told = within(SOON, client.read_to_close()).await;
            assert_eq!(told.close, Some(Some(code)));
            for later in [frame(true, PING, b"late"), frame(true, CLOSE, b"\x0f\xa0")] {
                let _ = client.bytes(&later).await;
                assert_eq!(settle(&mut client).await, [], "{http:?}");
            }
        }
    }
}

/// RFC 6455, 7.1.2, 7.1.5 and 7.1.6: the code and the reason of a Close are what the service is told.
#[tokio::test(start_paused = true)]
async fn the_code_and_the_reason_are_told_and_their_absence_is() {
    for &http in EACH {
        for (body, code, reason) in [
            (&b""[..], None, ""),
            (b"\x03\xe8", Some(1000), ""),
            (b"\x0f\xa0bye", Some(4000), "bye"),
        ] {
            let (tell, told) = oneshot::channel();
            let service = once(async move |set: ChannelSet| {
                let _ = tell.send(set.session().clone().ended().await);
                Ok(())
            });
            let mut client = http.open(service).await;
            client.bytes(&frame(true, CLOSE, body)).await.unwrap();
            let cause = within(SOON, told).await.unwrap();
            let EndCause::PeerClosed {
                code: told,
                reason: why,
                ..
            } = &cause
            else {
                panic!("{http:?}: {cause:?}");
            };
            assert_eq!((*told, &**why), (code, reason), "{http:?}");
        }
    }
}

/// RFC 6455, 7.1.5: without a Close, the connection is lost, which is not a Close without a code.
#[tokio::test(start_paused = true)]
async fn an_end_without_a_close_is_a_loss() {
    for &http in EACH {
        let (tell, told) = oneshot::channel();
        let service = once(async move |set: ChannelSet| {
            let _ = tell.send(set.session().clone().ended().await);
            Ok(())
        });
        drop(http.open(service).await);
        let cause = within(SOON, told).await.unwrap();
        assert!(
            matches!(cause, EndCause::ConnectionLost { .. }),
            "{http:?}: {cause:?}"
        );
    }
}

/// RFC 6455, 7.1.2 and 7.3: the server closes with the code and the reason that it is given.
#[tokio::test(start_paused = true)]
async fn the_server_may_close_when_it_likes() {
    for &http in EACH {
        let service = session(async |set: ChannelSet| {
            let session = set.session().clone();
            session.close(4321, "enough")?;
            Ok(())
        });
        let mut client = http.open(service).await;
        let told = within(SOON, client.read_to_end()).await;
        assert_eq!(
            (told.close, &*told.reason),
            (Some(Some(4321)), "enough"),
            "{http:?}"
        );
    }
}

/// RFC 6455, 7.4: codes that must not be on the wire, at the ends of their ranges. 1004, 1005, 1006 and
/// 1015 are reserved by 7.4.1, and the ranges are those of 7.4.2.
#[tokio::test(start_paused = true)]
async fn a_code_that_must_not_be_sent_fails_the_connection() {
    let codes = [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535_u16,
    ];
    for &http in EACH {
        for code in codes {
            fails(http, &frame(true, CLOSE, &code.to_be_bytes()), 1002).await;
        }
    }
}

/// RFC 6455, 7.4.1: none of the codes that must not be set is ever sent, whatever is asked for.
#[tokio::test(start_paused = true)]
async fn no_reserved_code_is_sent() {
    for &http in EACH {
        let service = session(async |set: ChannelSet| {
            let session = set.session().clone();
            for code in (0..1000).chain([1004, 1005, 1006, 1015]).chain(1016..3000) {
                assert!(session.close(code, "").is_err(), "{code}");
            }
            assert!(session.close(5000, "").is_err());
            session.close(4000, "")?;
            Ok(())
        });
        let mut client = http.open(service).await;
        let told = within(SOON, client.read_to_end()).await;
        assert_eq!(told.close, Some(Some(4000)), "{http:?}");
    }
}

/// RFC 6455, 7.4.1: 1011, for a condition that the server did not expect.
#[tokio::test(start_paused = true)]
async fn a_failure_of_the_service_is_1011() {
    for &http in EACH {
        let service = session(async |_: ChannelSet| {
            sleep(millis(1)).await;
            Err("failed".into())
        });
        let mut client = http.open(service).await;
        let told = within(SOON, client.read_to_end()).await;
        assert_eq!(told.close, Some(Some(1011)), "{http:?}");
    }
}
