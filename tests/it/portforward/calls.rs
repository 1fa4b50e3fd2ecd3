//! The polls of ports, and the calls of their service.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_wake_of_one_port_polls_no_other() {
    const PORTS: usize = 100;
    let polls: Arc<[AtomicUsize; PORTS]> = Arc::new([const { AtomicUsize::new(0) }; PORTS]);
    let counts = Arc::clone(&polls);
    let service = forward(move |port: ForwardedPort| {
        let (counts, index) = (Arc::clone(&counts), port.index);
        let mut running = Box::pin(echo(port));
        poll_fn(move |cx| {
            counts[index].fetch_add(1, Ordering::Relaxed);
            running.as_mut().poll(cx)
        })
    });
    let ports: Vec<_> = (1..=PORTS).map(|port| port.to_string()).collect();
    let mut client = open(service, &format!("ports={}", ports.join(",")), V4).await;
    for _ in 0..2 * PORTS {
        let _greeting = within(LONG, client.next()).await.unwrap();
    }
    let seen = || {
        polls
            .iter()
            .map(|polls| polls.load(Ordering::Relaxed))
            .collect::<Vec<_>>()
    };
    for talking in [0, 63, 64, 99] {
        let before = seen();
        for _ in 0..10 {
            client.send(2 * talking, b"hello").await.unwrap();
            let frame = within(LONG, client.next()).await.unwrap();
            assert_eq!(frame.payload, on(2 * talking, b"hello"));
        }
        for (index, (before, after)) in before.into_iter().zip(seen()).enumerate() {
            assert_eq!(
                after > before,
                index == usize::from(talking),
                "port {index}"
            );
        }
    }
}

/// A busy port can use up the task's cooperative budget alone.
#[tokio::test]
async fn a_port_that_is_always_busy_starves_no_other() {
    let _watchdog = Watchdog::bites_after(BITE);
    for busy in [0, 1, 2] {
        let done = Arc::new(AtomicUsize::new(0));
        let service = forward(move |port: ForwardedPort| {
            let done = Arc::clone(&done);
            async move {
                if port.index == busy {
                    while done.load(Ordering::Relaxed) < 2 {
                        tokio::task::coop::consume_budget().await;
                    }
                } else {
                    for _ in 0..1000 {
                        tokio::task::coop::consume_budget().await;
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }
        });
        let mut client = open(service, "ports=1,2,3", V4).await;
        let told = client.read_to_end().await;
        assert_eq!(told.close, Some(Some(1000)));
    }
}

// Readiness.

/// Requires a poll of its readiness before every call, as tower permits.
#[derive(Debug, Default)]
struct Strict {
    ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<ForwardedPort> for Strict {
    type Response = ();
    type Error = Infallible;
    type Future = std::future::Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _port: ForwardedPort) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called before it was ready"
        );
        ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn every_port_is_called_when_its_service_is_ready() {
    let service = layer().layer(PortForwardLayer::new().layer(Strict::default()));
    let connect = Connect::to("/?ports=1,2,3").offer(V4);
    let client = within(LONG, connect.connect(service)).await.unwrap();
    let transcript = within(LONG, client.read_to_end()).await;
    for index in 0..3 {
        assert_eq!(texts(&transcript, index), [""; 0]);
    }

    let (inner, mut handle) = tower_test::mock::pair::<ForwardedPort, ()>();
    handle.allow(1);
    let service = layer().layer(PortForwardLayer::new().layer(inner));
    let connect = Connect::to("/?ports=1,2,3").offer(V4);
    let client = within(LONG, connect.connect(service)).await.unwrap();
    for index in 0..3 {
        let (port, end) = within(LONG, handle.next_request()).await.unwrap();
        assert_eq!((port.index, usize::from(port.port)), (index, index + 1));
        assert_eq!(port.request_id(), None);
        sleep(secs(5)).await;
        drop(port);
        end.send_response(());
        handle.allow(1);
    }
    let transcript = within(LONG, client.read_to_end()).await;
    assert_eq!(transcript.close_code, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn concurrency_limit_inside_counts_ports() {
    let now = Arc::new(Mutex::new((0, 0)));
    let counted = Arc::clone(&now);
    let service = ServiceBuilder::new()
        .layer(layer())
        .layer(PortForwardLayer::new())
        .concurrency_limit(2)
        .service_fn(move |_port: ForwardedPort| {
            let counted = Arc::clone(&counted);
            async move {
                {
                    let (now, most) = &mut *counted.lock().unwrap();
                    *now += 1;
                    *most = (*most).max(*now);
                }
                sleep(secs(10)).await;
                counted.lock().unwrap().0 -= 1;
                Ok::<_, BoxError>(())
            }
        });
    let start = Instant::now();
    let connect = Connect::to("/?ports=1,2,3,4,5").offer(V4);
    let client = within(LONG, connect.connect(service)).await.unwrap();
    let transcript = within(LONG, client.read_to_end()).await;
    assert_eq!(transcript.close_code, Some(1000));
    assert_eq!(*now.lock().unwrap(), (0, 2));
    assert_eq!(start.elapsed().as_secs(), 30, "two at a time");
}

#[tokio::test(start_paused = true)]
async fn load_shed_inside_tells_the_ports_it_has_no_place_for() {
    let service = ServiceBuilder::new()
        .layer(layer())
        .layer(PortForwardLayer::new())
        .load_shed()
        .concurrency_limit(1)
        .service_fn(echo);
    let connect = || Connect::to("/?ports=1,2").offer(V4);
    let mut client = within(LONG, connect().connect(service.clone()))
        .await
        .unwrap();
    // The session has no other port, so the refusal can be the answer.
    let (status, _) = refused(connect().connect(service)).await;
    assert_eq!(status, 503);
    client.send(0, b"hello").await.unwrap();
    client.close(None).await.unwrap();
    let transcript = within(LONG, client.read_to_end()).await;
    assert_eq!(transcript.channel(0), b"\x01\x00hello");
    let shed = texts(&transcript, 1);
    assert_eq!(shed.len(), 1);
    assert!(shed[0].contains("as many ports as it can"), "{shed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_never_ready_for_the_first_port_is_504() {
    let (inner, mut handle) = tower_test::mock::pair::<ForwardedPort, ()>();
    handle.allow(0);
    let service = layer().layer(PortForwardLayer::new().layer(inner));
    let (status, _) = refused(Connect::to("/?ports=1").connect(service)).await;
    assert_eq!(status, 504);
}
