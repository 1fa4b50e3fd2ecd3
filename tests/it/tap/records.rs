//! The contents of records.

use super::*;

async fn every_kind(mut channels: ChannelSet) -> Result<(), BoxError> {
    let mut input = channels.take_reader(0).unwrap();
    let mut output = channels.take_writer(1).unwrap();
    let mut both = channels.take(2).unwrap();
    drop(channels);
    read(&mut input, 2).await?;
    let shown = input.fill_buf().await?.len();
    assert_eq!(shown, 8, "all of the message");
    // Data that was peeked at and not consumed is not recorded.
    input.consume(3);
    output.write_all(b"written").await?;
    output.send("sent").await?;
    output.send("").await?;
    let mut sink = output.into_sink();
    sink.send(Bytes::from_static(b"sunk")).await?;
    let mut stream = input.into_stream();
    assert_eq!(&stream.next().await.unwrap()?[..], b"56789");
    both.write_all(b"both").await?;
    let mut one = [0];
    both.read_exact(&mut one).await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_the_service_has_and_says_is_recorded_decoded() {
    for subprotocol in [subprotocols::V5, subprotocols::V4_BASE64] {
        for overflow in [Overflow::Backpressure, Overflow::Lossy] {
            let (tap, mut records) = Tap::new(overflow);
            let mut client = tapped_on(subprotocol, tap, every_kind).await;
            client.send(0, b"0123456789").await.unwrap();
            client.send(2, b"xyz").await.unwrap();
            let told = read_to_end(client).await;
            assert_eq!(told.channel(1), b"writtensentsunk");
            let expected = vec![
                is(Inbound, 0, b"01"),
                is(Inbound, 0, b"234"),
                is(Outbound, 1, b"written"),
                is(Outbound, 1, b"sent"),
                is(Outbound, 1, b"sunk"),
                is(Inbound, 0, b"56789"),
                is(Outbound, 2, b"both"),
                is(Inbound, 2, b"x"),
            ];
            let all = rest_seen(&mut records).await;
            assert_eq!(all, (expected, EndCause::Completed));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_the_service_has_as_such_are_not_copied() {
    let (tap, mut records) = Tap::new(Overflow::Backpressure);
    let (had, mut has) = mpsc::unbounded_channel();
    let mut client = tapped(tap, move |mut channels| async move {
        let mut input = channels.take_reader(0).unwrap().into_stream();
        let bytes = input.next().await.unwrap()?;
        had.send(bytes)?;
        let message = Bytes::from(vec![7; 100_000]);
        had.send(message.clone())?;
        channels.take_writer(1).unwrap().send(message).await?;
        Ok(())
    })
    .await;
    client.send(0, &[1; 5000]).await.unwrap();
    read_to_end(client).await;
    let (all, ..) = rest(&mut records).await;
    for payload in all {
        let same = has.recv().await.unwrap();
        assert_eq!(payload.bytes.as_ptr(), same.as_ptr());
        assert_eq!(payload.bytes.len(), same.len());
    }
    assert!(has.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_record_has_the_time_at_which_the_service_had_it() {
    let (tap, mut records) = Tap::new(Overflow::Backpressure);
    let start = Instant::now();
    let mut client = tapped(tap, async |mut channels: ChannelSet| {
        let mut input = channels.take_reader(0).unwrap();
        let mut output = channels.take_writer(1).unwrap();
        sleep(Duration::from_secs(5)).await;
        read(&mut input, 1).await?;
        sleep(Duration::from_secs(7)).await;
        output.write_all(b"x").await?;
        Ok(())
    })
    .await;
    client.send(0, b"x").await.unwrap();
    read_to_end(client).await;
    // The record is taken long afterwards.
    sleep(Duration::from_secs(100)).await;
    let (all, ..) = rest(&mut records).await;
    let times: Vec<_> = all
        .iter()
        .map(|payload| (payload.time - start).as_secs())
        .collect();
    assert_eq!(times, [5, 12]);
}

#[tokio::test(start_paused = true)]
async fn a_command_is_recorded_with_its_sizes_and_without_its_status() {
    let (tap, mut records) = Tap::new(Overflow::Backpressure);
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()))
        .layer(with(tap))
        .layer(RemoteCommandLayer::new())
        .service_fn(async |mut command: RemoteCommand| {
            let mut stdout = command.stdout.take().unwrap();
            let size = command.resize.as_mut().unwrap().next().await.unwrap();
            stdout.write_all(size.to_string().as_bytes()).await?;
            Ok::<_, BoxError>(ExitStatus::from_code(3))
        });
    let connect = Connect::to("/exec?command=sh&stdout=1&tty=1").offer(subprotocols::V5);
    let mut client = within(connect.connect(service)).await.unwrap();
    let size = br#"{"Width":80,"Height":24}"#;
    client.send(4, size).await.unwrap();
    assert_eq!(read_to_end(client).await.exit_code(), Some(3));
    let (all, cause) = rest_seen(&mut records).await;
    assert_eq!(all, [is(Inbound, 4, size), is(Outbound, 1, b"80x24")]);
    assert_eq!(cause, EndCause::Completed);
}

#[tokio::test(start_paused = true)]
async fn each_layer_records_for_itself() {
    let (outer, mut outer_records) = Tap::new(Overflow::Backpressure);
    // The queue is full after one record.
    let (inner, mut inner_records) = Tap::with_capacity(Overflow::Lossy, 1);
    let service = ServiceBuilder::new()
        .layer(layer())
        .layer(with(outer))
        .layer(with(inner))
        .service_fn(async |mut channels: ChannelSet| {
            let mut output = channels.take_writer(1).unwrap();
            output.write_all(b"one").await?;
            output.write_all(b"three").await?;
            Ok::<_, BoxError>(())
        });
    let connect = Connect::to("/").offer(subprotocols::V5);
    read_to_end(within(connect.connect(service)).await.unwrap()).await;
    let (all, _) = rest_seen(&mut outer_records).await;
    assert_eq!(all, [is(Outbound, 1, b"one"), is(Outbound, 1, b"three")]);
    let (all, _, lost) = rest(&mut inner_records).await;
    assert_eq!(all.len(), 1);
    assert_eq!((lost.payloads, lost.bytes), (1, 5));
}
