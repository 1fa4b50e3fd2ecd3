//! PINGs of both ends.

use tower_wsstream::policy::KeepAlive;

use super::*;

#[tokio::test(start_paused = true)]
async fn pings_of_both_ends_do_not_disturb_data() {
    let config = config().keep_alive(KeepAlive::every(millis(10)));
    let mut client = Spdy::post(forward_in(config, echo), "/", PORT_FORWARD).await;
    client.answers = false;
    let stream = client.connect(1, 80).await;
    let (mut theirs, mut echoes) = (0, 0);
    for n in 0..100_u32 {
        client.bytes(&ping(2 * n + 1)).await;
        client.bytes(&data(stream, &n.to_be_bytes())).await;
        let mut waits = 2;
        while waits > 0 {
            match client.next().await.expect("a frame") {
                Said::Reply(of) => assert_eq!((of, n), (stream, 0)),
                Said::Ping(id) if id.is_multiple_of(2) => {
                    theirs += 1;
                    client.bytes(&ping(id)).await;
                }
                // Of no stream, while no answer can be expected at once.
                Said::Reset(0x7fff_fff0.., _) => {}
                Said::Ping(id) => {
                    assert_eq!(id, 2 * n + 1);
                    echoes += 1;
                    waits -= 1;
                }
                said => {
                    let payload = n.to_be_bytes().to_vec();
                    assert_eq!(said, Said::Data(stream, payload.into()));
                    waits -= 1;
                }
            }
        }
        tokio::time::sleep(millis(30)).await;
    }
    assert_eq!(echoes, 100);
    // One in each interval, and those that pace the data.
    assert!(theirs >= 290, "{theirs}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_no_ping_is_gone() {
    let keep_alive = KeepAlive::every(secs(20)).timeout(secs(10));
    for answers in [true, false] {
        let (service, mut ports) = held_in(config().keep_alive(keep_alive));
        let mut client = Spdy::post(service, "/", PORT_FORWARD).await;
        client.answers = answers;
        let stream = client.connect(1, 80).await;
        let mut port = ports.recv().await.unwrap();
        port.stream.write_all(b"x").await.unwrap();
        let client =
            tokio::spawn(async move { while client.next().await != Some(Said::Fin(stream)) {} });
        let mut rest = Vec::new();
        let read = timeout(secs(600), port.stream.read_to_end(&mut rest)).await;
        match answers {
            true => assert!(read.is_err(), "{read:?}"),
            false => {
                let error = read.expect("it was noticed").unwrap_err();
                let cause = EndCause::from_error(&error);
                assert_eq!(cause, Some(&EndCause::PeerUnresponsive));
            }
        }
        client.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_with_a_local_reader_that_stands_still_is_alive() {
    /// spdystream answers a PING behind the data in one of this many queues, in turn.
    const QUEUES: u32 = 5;
    let keep_alive = KeepAlive::every(secs(20)).timeout(secs(10));
    for (stands_still, lives) in [(true, true), (false, false)] {
        let (service, mut ports) = held_in(config().keep_alive(keep_alive));
        let mut client = Spdy::post(service, "/", PORT_FORWARD).await;
        client.answers = false;
        let stream = client.connect(1, 80).await;
        let mut port = ports.recv().await.unwrap();
        port.stream.write_all(b"x").await.unwrap();
        let still = stream % QUEUES;
        let client = tokio::spawn(async move {
            for queue in (0..QUEUES).cycle() {
                let id = loop {
                    match client.next().await {
                        Some(Said::Ping(id)) => break id,
                        None => return,
                        _ => {}
                    }
                };
                if stands_still && queue != still {
                    client.bytes(&ping(id)).await;
                }
            }
        });
        let mut rest = Vec::new();
        let read = timeout(secs(600), port.stream.read_to_end(&mut rest)).await;
        assert_eq!(read.is_err(), lives, "{read:?}");
        client.abort();
    }
}
