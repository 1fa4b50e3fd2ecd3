//! A queue that is full.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_write_waits_for_room_with_nothing_accepted() {
    let (tap, mut records) = Tap::with_capacity(Overflow::Backpressure, 1);
    let (waits, mut waited) = mpsc::channel(1);
    let mut client = tapped(tap, move |mut channels| async move {
        let mut output = channels.take_writer(1).unwrap();
        drop(channels);
        output.write_all(b"a").await?;
        for _ in 0..3 {
            assert!(timeout(LONG, output.write(b"no")).await.is_err());
            assert!(timeout(LONG, output.send("no")).await.is_err());
            output.flush().await?;
        }
        waits.send(()).await?;
        output.write_all(b"b").await?;
        output.send("c").await?;
        Ok(())
    })
    .await;
    timeout(LONG * 10, waited.recv()).await.unwrap().unwrap();
    let first = within(client.receive()).await;
    assert_eq!(first, Received::Message(1, Bytes::from_static(b"a")));
    assert!(timeout(LONG, client.receive()).await.is_err());

    assert_eq!(seen(&payload(&mut records).await), is(Outbound, 1, b"a"));
    let next = within(client.receive()).await;
    assert_eq!(next, Received::Message(1, Bytes::from_static(b"b")));
    assert!(timeout(LONG, client.receive()).await.is_err());
    let (all, cause) = rest_seen(&mut records).await;
    assert_eq!(all, [is(Outbound, 1, b"b"), is(Outbound, 1, b"c")]);
    assert_eq!(cause, EndCause::Completed);
    assert_eq!(read_to_end(client).await.channel(1), b"c");
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_for_room_with_nothing_taken() {
    let (tap, mut records) = Tap::with_capacity(Overflow::Backpressure, 1);
    let (waits, mut waited) = mpsc::channel(1);
    let mut client = tapped(tap, move |mut channels| async move {
        let mut input = channels.take_reader(0).unwrap();
        drop(channels);
        assert_eq!(read(&mut input, 1).await?, b"a");
        for _ in 0..3 {
            assert!(timeout(LONG, input.read_u8()).await.is_err());
            assert!(timeout(LONG, input.fill_buf()).await.is_err());
        }
        waits.send(()).await?;
        assert_eq!(read(&mut input, 1).await?, b"b");
        let mut stream = input.into_stream();
        assert!(timeout(LONG, stream.next()).await.is_err());
        waits.send(()).await?;
        assert_eq!(&stream.next().await.unwrap()?[..], b"cd");
        Ok(())
    })
    .await;
    client.send(0, b"abcd").await.unwrap();
    timeout(LONG * 10, waited.recv()).await.unwrap().unwrap();
    assert_eq!(seen(&payload(&mut records).await), is(Inbound, 0, b"a"));
    timeout(LONG * 10, waited.recv()).await.unwrap().unwrap();
    let (all, cause) = rest_seen(&mut records).await;
    assert_eq!(all, [is(Inbound, 0, b"b"), is(Inbound, 0, b"cd")]);
    assert_eq!(cause, EndCause::Completed);
    read_to_end(client).await;
}

/// A copy passes on everything it holds before it reads more, although the queue holds less.
#[tokio::test(start_paused = true)]
async fn a_copy_needs_no_room_for_both_of_its_sides() {
    let (tap, mut records) = Tap::with_capacity(Overflow::Backpressure, 1);
    let mut client = tapped(tap, async |mut channels: ChannelSet| {
        let mut input = channels.take_reader(0).unwrap();
        let mut output = channels.take_writer(1).unwrap();
        drop(channels);
        tokio::io::copy_buf(&mut input, &mut output).await?;
        Ok(())
    })
    .await;
    let sent = vec![7; 50_000];
    client.send(0, &sent).await.unwrap();
    client.close_channel(0).await.unwrap();
    let recording = tokio::spawn(async move { rest_seen(&mut records).await });
    assert!(read_to_end(client).await.channel(1) == sent);
    let (all, _) = recording.await.unwrap();
    for direction in [Inbound, Outbound] {
        let passed = all.iter().filter(|(it, ..)| *it == direction);
        assert!(passed.flat_map(|(.., bytes)| bytes).eq(&sent));
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_holds_its_capacity_and_one_record_at_most() {
    for (size, capacity) in [(1, 100 * (RECORD + 1)), (1, 5000), (5000, 50_000)] {
        let (tap, mut records) = Tap::with_capacity(Overflow::Lossy, capacity);
        let client = tapped(tap, move |mut channels| async move {
            let mut output = channels.take_writer(1).unwrap();
            for _ in 0..1000 {
                output.write_all(&vec![0; size]).await?;
            }
            Ok(())
        })
        .await;
        read_to_end(client).await;
        let (all, _, lost) = rest(&mut records).await;
        assert_eq!(all.len(), capacity.div_ceil(RECORD + size), "{size}");
        assert_eq!(all.len() as u64 + lost.payloads, 1000);
    }
}

#[tokio::test(start_paused = true)]
async fn loss_is_counted_in_the_next_record_and_at_the_end() {
    let (tap, mut records) = Tap::with_capacity(Overflow::Lossy, 3 * (RECORD + 2));
    let (more, mut go_on) = mpsc::channel(1);
    let mut client = tapped(tap, move |mut channels| async move {
        let mut input = channels.take_reader(0).unwrap();
        let mut output = channels.take_writer(1).unwrap();
        for _ in 0..3 {
            output.write_all(b"ok").await?;
        }
        read(&mut input, 10).await?;
        for _ in 0..6 {
            output.write_all(b"lost").await?;
        }
        go_on.recv().await;
        output.write_all(b"on").await?;
        output.write_all(b"end").await?;
        Ok(())
    })
    .await;
    client.send(0, &[0; 10]).await.unwrap();
    for _ in 0..9 {
        within(client.receive()).await;
    }
    assert_eq!(payload(&mut records).await.lost, Lost::default());
    more.send(()).await.unwrap();
    read_to_end(client).await;
    let (all, _, lost) = rest(&mut records).await;
    let counts: Vec<_> = all
        .iter()
        .map(|it| (&it.bytes[..], it.lost.payloads, it.lost.bytes))
        .collect();
    assert_eq!(
        counts,
        [(&b"ok"[..], 0, 0), (&b"ok"[..], 0, 0), (&b"on"[..], 7, 34)]
    );
    assert_eq!((lost.payloads, lost.bytes), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_dropped_lets_everybody_go_on() {
    let (tap, records) = Tap::with_capacity(Overflow::Backpressure, 1);
    let mut client = tapped(tap, async |mut channels: ChannelSet| {
        let mut input = channels.take_reader(0).unwrap();
        let mut output = channels.take_writer(1).unwrap();
        let mut other = channels.take_writer(2).unwrap();
        output.write_all(b"a").await?;
        let (read, written, sent) =
            tokio::join!(read(&mut input, 5), output.write_all(b"b"), other.send("c"));
        assert_eq!(read?, b"input");
        written?;
        sent?;
        output.write_all(b"d").await?;
        Ok(())
    })
    .await;
    client.send(0, b"input").await.unwrap();
    within(client.receive()).await;
    assert!(timeout(LONG, client.receive()).await.is_err(), "all wait");
    drop(records);
    let told = read_to_end(client).await;
    assert_eq!(
        (told.channel(1), told.channel(2)),
        (b"bd".into(), b"c".into())
    );
    assert_eq!(told.close_code, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_waits_for_room_fails_at_the_end_of_the_session() {
    let (tap, records) = Tap::with_capacity(Overflow::Backpressure, 1);
    let (failed, fails) = oneshot::channel();
    let client = tapped(tap, move |mut channels| async move {
        let mut output = channels.take_writer(1).unwrap();
        output.write_all(b"a").await?;
        tokio::spawn(async move { failed.send(output.write(b"b").await).unwrap() });
        channels.session().ended().await;
        Ok(())
    })
    .await;
    sleep(LONG).await;
    drop(client);
    let error = within(fails).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(matches!(
        EndCause::from_error(&error),
        Some(EndCause::ConnectionLost { .. })
    ));
    drop(records);
}
