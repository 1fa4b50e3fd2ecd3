//! The layer.

use super::*;

#[tokio::test(start_paused = true)]
async fn who_is_recorded_is_decided_on_the_request() {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&taken);
    let service = ServiceBuilder::new()
        .layer(layer())
        .layer(TapLayer::new(move |channels: &ChannelSet| {
            assert_eq!(channels.subprotocol(), subprotocols::V5);
            let path = channels.request()?.uri.path().to_owned();
            let (tap, records) = Tap::new(Overflow::Backpressure);
            asked.lock().unwrap().push((path.clone(), records));
            (path == "/yes").then_some(tap)
        }))
        .service_fn(async |mut channels: ChannelSet| {
            channels.take_writer(1).unwrap().write_all(b"x").await?;
            Ok::<_, BoxError>(())
        });
    for path in ["/no", "/yes"] {
        let connect = Connect::to(path).offer(subprotocols::V5);
        let client = within(connect.connect(service.clone())).await.unwrap();
        assert_eq!(read_to_end(client).await.channel(1), b"x");
    }
    let mut taken = std::mem::take(&mut *taken.lock().unwrap());
    let (path, mut yes) = taken.pop().unwrap();
    assert_eq!(path, "/yes");
    assert_eq!(rest_seen(&mut yes).await.0, [is(Outbound, 1, b"x")]);
    let (_, mut no) = taken.pop().unwrap();
    assert!(taken.is_empty(), "asked once a session");
    assert!(within(no.next()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_function_that_panics_is_answered() {
    let layer = TapLayer::new(|_: &ChannelSet| -> Option<Tap> { panic!("as it should") });
    assert_eq!(refused(layer, AcceptMode::Immediate).await, 500);
}

#[tokio::test(start_paused = true)]
async fn readiness_is_that_of_the_inner_service() {
    let (mock, mut handle) = tower_test::mock::pair::<ChannelSet, ()>();
    let service = TapLayer::new(|_: &ChannelSet| None).layer(mock);
    let mut service = tokio_test::task::spawn(service);
    handle.allow(0);
    let mut ready =
        || service.enter(|cx, mut service| tower::Service::poll_ready(&mut *service, cx));
    assert_pending!(ready());
    handle.allow(1);
    assert_ready_ok!(ready());
}

#[tokio::test]
async fn debug_shows_no_payload() {
    let (tap, records) = Tap::new(Overflow::Lossy);
    let all = format!("{tap:?} {records:?}");
    assert!(all.contains("262144") && all.contains("Lossy"), "{all}");
}
