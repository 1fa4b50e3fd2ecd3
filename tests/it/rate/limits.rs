//! Rates and time limits of a route, a request or a session.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_route_or_a_request_has_a_rate_of_its_own() {
    let inner = layer()
        .config(config().byte_rate(ByteRate::default().outbound(1)))
        .layer(service_fn(|mut set: ChannelSet| async move {
            let mut output = set.take_writer(1).ok_or("no channel 1")?;
            output.write_all(&[7; 32 * 1024]).await?;
            output.write_all(&[7; 32 * 1024]).await?;
            Ok::<_, BoxError>(())
        }));
    let service = ServiceBuilder::new()
        .layer(PolicyLayer::new(ByteRate::default()))
        .service(inner);
    let mut client = open_with(service, subprotocols::V4, 1 << 20).await;
    let start = Instant::now();
    let told = within(SOON, client.read_to_end()).await;
    assert_eq!(told.channel(1).len(), 64 * 1024);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_a_request_that_makes_no_sense_is_a_500_that_names_it() {
    for (layer, named) in [
        (
            PolicyLayer::new(Limits::default().receive_window(0)),
            "receive_window",
        ),
        (
            PolicyLayer::new(Limits::default().max_frame(0)),
            "max_frame",
        ),
    ] {
        let inner = once(|_: ChannelSet| async { Ok(()) });
        let service = ServiceBuilder::new().layer(layer).service(inner);
        let (near, far) = tokio::io::duplex(64 * 1024);
        serve(far, service);
        let refused = Raw::handshake(near, subprotocols::V5).await.unwrap_err();
        assert!(refused.starts_with("HTTP/1.1 500 "), "{named}: {refused}");
    }
}

/// Returns when a session ends that would go on by itself, for a request with these extensions.
async fn limited(insert: impl Fn(&mut Extensions) + Clone + Send + 'static) -> Duration {
    let (tell, told) = oneshot::channel();
    let inner = once_in(
        layer().config(config().time_limit(Duration::from_secs(100))),
        |mut set: ChannelSet| async move {
            let mut input = set.take_reader(0).ok_or("no channel 0")?;
            let _ = tell.send(read_out(&mut input).await.1);
            Err("not finished".into())
        },
    );
    let service = ServiceBuilder::new()
        .map_request(move |mut request: Request<Incoming>| {
            insert(request.extensions_mut());
            request
        })
        .service(inner);
    let mut client = open_with(service, subprotocols::V5, 64 * 1024).await;
    let start = Instant::now();
    let (mut reader, mut writer) = {
        client.send(0, b"busy").await.unwrap();
        client.into_halves()
    };
    // Data does not prolong it.
    let busy = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if writer
                .write_all(&frame(true, BINARY, &on(0, b"x")))
                .await
                .is_err()
            {
                return;
            }
        }
    });
    let seen = within(LONG, reader.read_to_close()).await;
    assert_eq!(seen.close, Some(Some(1001)));
    let End::Error(kind, cause) = told.await.unwrap() else {
        panic!("a time limit is no end of input");
    };
    assert_eq!(kind, std::io::ErrorKind::TimedOut);
    assert_eq!(cause, EndCause::TimeLimit);
    assert!(cause.is_timeout() && !cause.is_remote());
    busy.abort();
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_at_its_time_limit_whatever_moves() {
    let secs = |n| Duration::from_secs(n);
    assert_eq!(limited(|_| {}).await.as_secs(), 100);
    for n in [7, 200] {
        let limit = TimeLimit(Some(secs(n)));
        let ended = limited(move |extensions| {
            let _ = extensions.insert(limit);
        })
        .await;
        assert_eq!(ended.as_secs(), n);
    }
    // `ValidUntil` refers to the system's clock, which is not paused.
    for (until, expected) in [
        (SystemTime::now() + secs(50), 48..=50),
        (SystemTime::now() + secs(5000), 100..=100),
        (SystemTime::now() - secs(1), 0..=0),
    ] {
        let until = ValidUntil(until);
        let ended = limited(move |extensions| {
            let _ = extensions.insert(until);
        })
        .await;
        assert!(
            expected.contains(&ended.as_secs()),
            "{ended:?}, {expected:?}"
        );
    }
}

/// A credential is not valid for longer if the service takes long to accept.
#[tokio::test(start_paused = true)]
async fn what_expires_does_so_while_the_service_gets_ready() {
    let secs = Duration::from_secs;
    let start = Instant::now();
    let service = ServiceBuilder::new()
        .layer(PolicyLayer::new(ValidUntil(SystemTime::now() + secs(50))))
        .layer(layer().config(config().accept(AcceptMode::Explicit).accept_timeout(LONG)))
        .service(service_fn(move |set: ChannelSet| async move {
            tokio::time::sleep(secs(40)).await;
            set.session().accept().await;
            assert_eq!(set.session().ended().await, EndCause::TimeLimit);
            Ok::<_, BoxError>(())
        }));
    let client = open_with(service, subprotocols::V5, 64 * 1024).await;
    let (mut reader, _writer) = client.into_halves();
    within(LONG, reader.read_to_close()).await;
    let ended = start.elapsed().as_secs();
    // The system's clock is not paused.
    assert!((48..=50).contains(&ended), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn pings_can_be_switched_off_for_a_request() {
    let inner = layer()
        .config(config().keep_alive(KeepAlive::every(Duration::from_secs(5))))
        .layer(service_fn(|set: ChannelSet| async move {
            set.session().ended().await;
            Ok::<_, BoxError>(())
        }));
    let quiet = ServiceBuilder::new()
        .layer(PolicyLayer::new(KeepAlive::never()))
        .service(inner.clone());
    let mut client = open_with(quiet, subprotocols::V4, 64 * 1024).await;
    let nothing = tokio::time::timeout(LONG, client.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    let mut client = open_with(inner, subprotocols::V4, 64 * 1024).await;
    let ping = within(SOON + SOON, client.next()).await.unwrap();
    assert_eq!(ping.opcode, PING);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_pings_takes_nothing_from_what_data_may() {
    let service = once_in(
        paced(ByteRate::default().outbound(1000)),
        |mut set: ChannelSet| async move {
            let mut input = set.take_reader(0).ok_or("no channel 0")?;
            let mut output = set.take_writer(1).ok_or("no channel 1")?;
            input.fill_buf().await?;
            output.write_all(b"done").await?;
            Ok(())
        },
    );
    let mut client = open_with(service, subprotocols::V5, 64 * 1024).await;
    let start = Instant::now();
    for _ in 0..1000 {
        client.bytes(&frame(true, PING, &[7; 125])).await.unwrap();
        assert_eq!(within(SOON, client.next()).await.unwrap().opcode, PONG);
    }
    client.send(0, b"x").await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!((&*told.text(1), told.close), ("done", Some(Some(1000))));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

/// The rate applies while the session is open. Input behind our Close is discarded as it arrives,
/// because the peer's own Close lies behind it.
#[tokio::test(start_paused = true)]
async fn input_behind_our_close_is_discarded_without_a_rate() {
    let service = once_in(
        paced(ByteRate::default().inbound(1000)),
        |mut set: ChannelSet| async move {
            set.take_writer(1).unwrap().write_all(b"bye").await?;
            Ok(())
        },
    );
    let mut client = open_with(service, subprotocols::V5, 64 * 1024).await;
    within(SOON, client.read_to_close()).await;
    let start = Instant::now();
    for _ in 0..1000 {
        client.send(0, &[7; 1000]).await.unwrap();
    }
    client.close(Some(1000)).await.unwrap();
    assert_eq!(within(SOON, client.next()).await, None);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

/// One write may leave at once and pass the rate by far. The Close waits until the rate has made up for it,
/// and the limit of closing counts from there.
#[tokio::test(start_paused = true)]
async fn a_write_that_overdraws_the_rate_does_not_cost_the_close() {
    for (subprotocol, held) in [
        (subprotocols::V4_BASE64, false),
        (subprotocols::V4, false),
        (subprotocols::V4, true),
    ] {
        let config = config()
            .byte_rate(ByteRate::default().outbound(200))
            .close_limit(Duration::from_secs(10));
        let service = once_in(
            layer().config(config),
            move |mut set: ChannelSet| async move {
                let mut output = set.take_writer(1).ok_or("no channel 1")?;
                output.send(vec![7; 51_116]).await?;
                output.flush().await?;
                if held {
                    set.session().hold_output(Hold::default());
                }
                Ok(())
            },
        );
        let mut client = open_with(service, subprotocol, 1 << 20).await;
        let told = within(Duration::from_secs(600), client.read_to_end()).await;
        assert_eq!(told.channel(1).len(), 51_116);
        assert_eq!(told.close, Some(Some(1000)), "{subprotocol}, {held}");
    }
}
