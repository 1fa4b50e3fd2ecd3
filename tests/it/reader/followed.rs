//! A body that is followed.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_a_followed_body_says_arrives_when_it_says_it() {
    let (mut client, say, alive) =
        follow(WsReaderLayer::new().config(SessionConfig::default().keep_alive(None))).await;
    for line in ["first\n", "second\n"] {
        tokio::time::sleep(SOON).await;
        say.send(line.into()).unwrap();
        let frame = within(Duration::from_millis(10), client.next()).await;
        assert_eq!(frame.unwrap().payload, line);
    }
    drop(say);
    let (_, close) = read_out(&mut client).await;
    assert_eq!(close, Some(Some(1000)));
    assert_eq!(Arc::strong_count(&alive), 1, "the body is gone");
}

#[tokio::test(start_paused = true)]
async fn what_the_client_sends_is_ignored_and_its_close_answered_at_once() {
    let (mut client, say, alive) =
        follow(WsReaderLayer::new().config(SessionConfig::default().keep_alive(None))).await;
    for payload in [&b""[..], b"\0hello", &[255, 0], &[7; 100_000]] {
        client.bytes(&frame(true, BINARY, payload)).await.unwrap();
    }
    client
        .bytes(&frame(true, TEXT, b"no base64!"))
        .await
        .unwrap();
    say.send("still there".into()).unwrap();
    let frame = within(SOON, client.next()).await.unwrap();
    assert_eq!(frame.payload, "still there");
    client.close(Some(1000)).await.unwrap();
    let answered = within(Duration::from_millis(10), client.next())
        .await
        .unwrap();
    assert_eq!(answered.close_code(), Some(1000));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(Arc::strong_count(&alive), 1, "a body that waits is dropped");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_vanishes_ends_a_body_that_waits() {
    let (client, _say, alive) = follow(WsReaderLayer::new()).await;
    drop(client);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_was_cut_off_never_looks_complete() {
    let layer = WsReaderLayer::new().config(SessionConfig::default().keep_alive(None));
    // Idle.
    let (mut client, say, alive) = follow(layer.clone().idle_timeout(SOON)).await;
    say.send("x".into()).unwrap();
    let mut codes = Vec::new();
    while let Some(frame) = within(LONG, client.next()).await {
        if frame.opcode == CLOSE {
            codes.push(frame.close_code());
        }
    }
    assert_eq!(codes, [Some(1001)]);
    drop(client);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(Arc::strong_count(&alive), 1);
    // Drained.
    let sessions = Sessions::default();
    let (mut client, _say, _alive) = follow(layer.sessions(sessions.clone())).await;
    let drain = sessions.drain(LONG);
    let (_, close) = read_out(&mut client).await;
    assert_eq!(close, Some(Some(1001)));
    drop(client);
    within(SOON, drain).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_gets_a_prefix_and_no_more_is_asked_for() {
    let taken = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&taken);
    let body = move || {
        let counted = Arc::clone(&counted);
        StreamBody::new(futures_util::stream::repeat_with(move || {
            *counted.lock().unwrap() += 1;
            Ok::<_, Infallible>(Frame::data(Bytes::from(vec![7; 32 * 1024])))
        }))
    };
    let mut client = open(WsReaderLayer::new(), "", body).await.unwrap();
    tokio::time::sleep(SOON).await;
    let before = *taken.lock().unwrap();
    assert!(
        before < 20,
        "{before} pieces of 32 KiB are held for a client that reads none"
    );
    let mut got = 0;
    while got < 1 << 20 {
        got += within(SOON, client.next()).await.unwrap().payload.len();
    }
    drop(client);
    tokio::time::sleep(SOON).await;
    let after = *taken.lock().unwrap();
    tokio::time::sleep(LONG).await;
    assert_eq!(
        *taken.lock().unwrap(),
        after,
        "the body is not read any more"
    );
}

#[tokio::test(start_paused = true)]
async fn large_pieces_leave_as_messages_of_the_size_that_was_set() {
    let body = || Full::new(Bytes::from(vec![7; 100_000]));
    for (layer, size) in [
        (WsReaderLayer::new(), 32 * 1024),
        (WsReaderLayer::new().message_size(1000), 1000),
        (WsReaderLayer::new().message_size(0), 1),
    ] {
        let mut client = open(layer, "", body).await.unwrap();
        let (frames, close) = read_out(&mut client).await;
        let largest = frames.iter().map(|frame| frame.payload.len()).max();
        assert_eq!((joined(&frames).len(), largest), (100_000, Some(size)));
        assert_eq!(close, Some(Some(1000)));
        assert!(
            frames.iter().all(|frame| frame.fin),
            "messages, not fragments"
        );
    }
}
