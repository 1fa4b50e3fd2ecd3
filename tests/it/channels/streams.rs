//! Channels as streams and sinks of messages.

use super::*;

/// Reads from a stream until it is pending.
async fn collect(stream: &mut ChannelStream, held: &mut Vec<Bytes>) -> usize {
    use futures_util::StreamExt;
    let mut len = 0;
    while let Ok(piece) = timeout(Duration::from_millis(10), stream.next()).await {
        let piece = piece.unwrap().unwrap();
        assert!(!piece.is_empty() && piece.len() <= CHUNK);
        len += piece.len();
        held.push(piece);
    }
    len
}

#[tokio::test(start_paused = true)]
async fn bytes_that_the_user_holds_do_not_count() {
    let (mut client, readers) = readers(subprotocols::V5).await;
    let mut stream = readers.stdin.into_stream();
    let mut held = Vec::new();
    let sent = pattern(10 * WINDOW);
    for piece in sent.chunks(WINDOW) {
        client.send(0, piece).await.unwrap();
        assert_eq!(collect(&mut stream, &mut held).await, piece.len());
    }
    assert!(held.concat() == sent);
    // Exactly one window fits beside them.
    let mut readers = Some(readers.resize);
    client.send(0, &[7; WINDOW]).await.unwrap();
    client.send(4, b"sibling").await.unwrap();
    let resize = readers.as_mut().unwrap();
    expect(resize, b"sibling").await;
    client.send(0, b"!").await.unwrap();
    client.send(4, b"behind").await.unwrap();
    expect_nothing(resize).await;
    assert_eq!(collect(&mut stream, &mut held).await, WINDOW + 1);
    expect(resize, b"behind").await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_once_with_what_ended_the_channel() {
    use futures_util::StreamExt;
    for (code, eof) in [(Some(1000), true), (Some(1001), false)] {
        let (mut client, readers) = readers(subprotocols::V4).await;
        let mut stream = readers.stdin.into_stream();
        client.send(0, b"all").await.unwrap();
        client.close(code).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "all");
        match stream.next().await {
            None => assert!(eof),
            Some(Err(error)) => {
                assert!(!eof);
                assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
            }
            Some(Ok(more)) => panic!("{more:?}"),
        }
        assert!(stream.next().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_becomes_a_reader_again_and_loses_nothing() {
    use futures_util::StreamExt;
    for subprotocol in [subprotocols::V4, subprotocols::V4_BASE64] {
        let (mut client, readers) = readers(subprotocol).await;
        let mut reader = readers.stdin;
        client.send(0, b"head and ").await.unwrap();
        let mut head = [0; 5];
        reader.read_exact(&mut head).await.unwrap();
        let mut stream = reader.into_stream();
        assert_eq!(stream.next().await.unwrap().unwrap(), "and ");
        client.send(0, b"body").await.unwrap();
        client.close(Some(1000)).await.unwrap();
        let mut reader = stream.into_inner();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"body");
        // As it does after its end.
        let mut stream = reader.into_stream();
        assert!(stream.next().await.is_none());
        assert_eq!(stream.into_inner().read(&mut head).await.unwrap(), 0);
    }
}

/// A message of any size stays one message. Above 32 KiB it is cut into fragments, so that a Pong
/// fits between them.
#[tokio::test(start_paused = true)]
async fn send_is_one_message() {
    for subprotocol in ALL {
        for len in [
            0,
            1,
            2047,
            2048,
            24 * 1024,
            32 * 1024,
            32 * 1024 + 1,
            100_000,
            1 << 20,
        ] {
            let sent = pattern(len);
            let expected = sent.clone();
            let service = once(move |mut set: ChannelSet| async move {
                let mut stdout = set.take_writer(1).unwrap();
                stdout.write_all(b"before").await?;
                stdout.send(sent).await?;
                stdout.write_all(b"behind").await?;
                Ok(())
            });
            let mut client = open_with(service, subprotocol, 10_000).await;
            let told = within(LONG, client.read_to_end()).await;
            let expected = [
                (1, b"before".to_vec()),
                (1, expected),
                (1, b"behind".to_vec()),
            ];
            assert!(told.messages == expected, "{len} bytes on {subprotocol:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_sends_messages_and_its_close_is_the_shutdown() {
    let service = once(|mut set: ChannelSet| async move {
        let mut sink = set.take_writer(1).unwrap().into_sink();
        drop(set);
        sink.send(Bytes::from_static(b"one")).await?;
        sink.feed(Bytes::from_static(b"")).await?;
        sink.feed(Bytes::from(vec![7; 70_000])).await?;
        sink.close().await?;
        let mut writer = sink.into_inner();
        let error = writer.send("more").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        Ok(())
    });
    let mut client = open_with(service, subprotocols::V5, 3000).await;
    let told = within(LONG, client.read_to_end()).await;
    let expected = [(1, b"one".to_vec()), (1, vec![]), (1, vec![7; 70_000])];
    assert!(told.messages == expected);
    assert_eq!(told.close, Some(Some(1000)));
}
