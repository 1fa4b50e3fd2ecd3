//! The CLOSE of a channel.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_close_ends_its_channel_after_all_earlier_bytes_and_nothing_else() {
    for cut in [0, 1, 2] {
        let (mut client, mut readers) = readers(subprotocols::V5).await;
        let sent = pattern(100_000);
        client.send(0, &sent).await.unwrap();
        match cut {
            0 => client.close_channel(0).await.unwrap(),
            // A CLOSE is a message like any other: it may arrive in fragments, or as text on some
            // subprotocols.
            cut => {
                client
                    .bytes(&frame(false, BINARY, &[255, 0][..cut]))
                    .await
                    .unwrap();
                client
                    .bytes(&frame(false, CONTINUATION, b""))
                    .await
                    .unwrap();
                client
                    .bytes(&frame(true, CONTINUATION, &[255, 0][cut..]))
                    .await
                    .unwrap();
            }
        }
        // Data behind the CLOSE is ignored, even if it is more than any window.
        for _ in 0..8 {
            client.send(0, &[7; 100_000]).await.unwrap();
        }
        client.close_channel(0).await.unwrap();
        assert!(within(LONG, read_out(&mut readers.stdin)).await == (sent, End::Eof));
        client.send(4, b"still here").await.unwrap();
        expect(&mut readers.resize, b"still here").await;
        assert!(readers.session.ended().now_or_never().is_none());
        client.close_channel(4).await.unwrap();
        assert_eq!(
            within(LONG, read_out(&mut readers.resize)).await,
            (vec![], End::Eof)
        );
        // It stays so when the session ends in another way.
        drop(client);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(read_out(&mut readers.stdin).await, (vec![], End::Eof));
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_of_a_channel_that_the_server_only_writes_has_no_effect() {
    let service = once(|mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(1).unwrap();
        let mut stdin = set.take_reader(0).unwrap();
        drop(set);
        let mut line = [0; 2];
        stdin.read_exact(&mut line).await?;
        stdout.write_all(b"out").await?;
        Ok(())
    });
    let mut client = open(service, subprotocols::V5).await;
    for channel in [1, 2, 3] {
        client.close_channel(channel).await.unwrap();
    }
    client.send(0, b"go").await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(
        (told.text(1).as_str(), told.close),
        ("out", Some(Some(1000)))
    );
}

#[tokio::test(start_paused = true)]
async fn a_malformed_close_ends_the_session_with_1002() {
    for bad in [
        &[255][..],
        &[255, 0, 0],
        &[255, 5],
        &[255, 254],
        &[255, 255],
        &[255; 200],
    ] {
        for fragments in [false, true] {
            let (mut client, mut readers) = readers(subprotocols::V5).await;
            client.send(0, b"before").await.unwrap();
            if fragments {
                client
                    .bytes(&frame(false, BINARY, &bad[..1]))
                    .await
                    .unwrap();
                client
                    .bytes(&frame(true, CONTINUATION, &bad[1..]))
                    .await
                    .unwrap();
            } else {
                client.bytes(&frame(true, BINARY, bad)).await.unwrap();
            }
            let told = within(LONG, client.read_to_end()).await;
            assert_eq!(told.close, Some(Some(1002)), "{bad:?}");
            let (bytes, end) = read_out(&mut readers.stdin).await;
            assert_eq!(bytes, b"before");
            assert!(
                matches!(end, End::Error(io::ErrorKind::InvalidData, _)),
                "{end:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_half_close_a_close_is_an_unknown_channel() {
    for subprotocol in ["", subprotocols::CHANNEL, subprotocols::V4] {
        let (mut client, mut readers) = readers(subprotocol).await;
        for close in [&[255, 0][..], &[255], &[255, 0, 0], &[255, 9]] {
            client.bytes(&frame(true, BINARY, close)).await.unwrap();
        }
        expect_nothing(&mut readers.stdin).await;
        client.send(0, b"more").await.unwrap();
        expect(&mut readers.stdin, b"more").await;
    }
}
