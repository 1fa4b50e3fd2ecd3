//! Each fault, around each layer, over each version of HTTP.

use super::*;

type Answering = BoxCloneService<Request<Incoming>, Response<axum::body::Body>, BoxError>;

/// Boxes a service, and answers the first request of the client over HTTP/2, which is not an
/// upgrade.
fn boxed<S, B>(service: S) -> Answering
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    BoxCloneService::new(service_fn(move |request: Request<Incoming>| {
        let service = service.clone();
        async move {
            if (request.method(), request.version()) == (&Method::GET, Version::HTTP_2) {
                return Ok(StatusCode::NOT_FOUND.into_response());
            }
            let answer = service.oneshot(request).await.map_err(Into::into)?;
            Ok(answer.map(axum::body::Body::new))
        }
    }))
}

/// One combination of layer, fault and event.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    around: Around,
    fault: Fault,
    meanwhile: Meanwhile,
}

impl Scenario {
    /// Returns whether the combination exists, and has an end that can be awaited.
    fn exists(self) -> bool {
        let has_no_end = self.fault == NeverEnds && self.meanwhile == Meanwhile::Waits;
        let is_readiness = matches!(self.fault, NotReady | FailsToBeReady | PanicsInReady);
        match self.around {
            // An HTTP service may take as long as it likes to answer.
            Around::Reader => !matches!(
                (self.fault, self.meanwhile),
                (
                    NotReady | NeverEnds,
                    Meanwhile::Waits | Meanwhile::Closes | Meanwhile::Drains
                )
            ),
            Around::ReadersBody => !is_readiness && self.fault != PanicsInCall && !has_no_end,
            // axum's handlers are always ready.
            Around::Extractor => !is_readiness && !has_no_end,
            Around::Ports | Around::Tap => !has_no_end,
            Around::TapsFunction => self.fault == PanicsInCall,
        }
    }

    /// Returns what a client that waits has to see.
    fn expected(self) -> Seen {
        match (self.around, self.fault) {
            // An HTTP service's errors, and panics in its readiness, pass through to hyper, and the
            // client gets no answer.
            (Around::Reader, FailsToBeReady | PanicsInReady | FailsAtOnce | FailsLater) => {
                Seen::Lost
            }
            (Around::Reader, PanicsInDrop) => Seen::Closed(Some(1000)),
            (Around::Reader, _) => Seen::Refused(500),
            (_, NotReady) => Seen::Refused(504),
            (_, FailsToBeReady | PanicsInReady) => Seen::Refused(500),
            // Only the port ends, and its error channel gets the text.
            (Around::Ports, _) => Seen::Closed(Some(1000)),
            (_, PanicsInCall | PanicsAtOnce | FailsAtOnce) => Seen::Refused(500),
            (_, PanicsLater | FailsLater | PanicsTwice) => Seen::Closed(Some(1011)),
            (_, PanicsInDrop | NeverEnds) => Seen::Closed(Some(1000)),
        }
    }

    fn target(self) -> (&'static str, &'static str) {
        match self.around {
            Around::Reader | Around::ReadersBody => ("/", ""),
            Around::Ports => ("/?ports=80,81", subprotocols::V4),
            _ => ("/", subprotocols::V5),
        }
    }

    fn service(self, sessions: &Sessions, running: &Arc<AtomicUsize>) -> Answering {
        let configured = |layer: WsStreamLayer| {
            let config = SessionConfig::default()
                .sessions(sessions.clone())
                .accept_timeout(SECOND)
                .on_end(|_| panic!("in on_end, on purpose"));
            layer.config(config)
        };
        let reader = WsReaderLayer::new().config(
            SessionConfig::default()
                .sessions(sessions.clone())
                .on_end(|_| panic!("in on_end, on purpose")),
        );
        let Self { around, fault, .. } = self;
        let running = Arc::clone(running);
        match around {
            Around::Reader => boxed(reader.layer(Faulty {
                fault,
                running,
                function: answer,
            })),
            Around::ReadersBody => boxed(reader.layer(service_fn(move |_: Request<_>| {
                let body = FaultyBody {
                    guard: Guard::new(fault, &running),
                    said: false,
                    wait: Box::pin(sleep(SECOND)),
                };
                std::future::ready(Ok::<_, Infallible>(Response::new(body)))
            }))),
            Around::Ports => {
                let ports = PortForwardLayer::new().layer(Faulty {
                    fault,
                    running,
                    function: port,
                });
                boxed(
                    configured(WsStreamLayer::new(portforward::Protocols::default())).layer(ports),
                )
            }
            Around::Extractor => {
                let layer = configured(layer());
                let handler = async move |upgrade: WsStreamUpgrade| {
                    let mut inner = Faulty {
                        fault,
                        running,
                        function: session,
                    };
                    let upgrade = upgrade.layer(&layer);
                    upgrade.on_upgrade(move |set| inner.call(set)).await
                };
                boxed(axum::Router::new().route("/", axum::routing::any(handler)))
            }
            Around::Tap | Around::TapsFunction => {
                let panics = around == Around::TapsFunction;
                let tap = TapLayer::new(move |_: &ChannelSet| {
                    assert!(!panics, "in the function of the layer, on purpose");
                    None
                });
                boxed(configured(layer()).layer(tap.layer(Faulty {
                    fault,
                    running,
                    function: session,
                })))
            }
        }
    }
}

/// The result, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Refused(u16),
    Closed(Option<u16>),
    /// The connection ended with neither an answer nor a session.
    Lost,
}

/// Watches a session as its client.
async fn watch<T>(mut client: Raw<T>, meanwhile: Meanwhile, sessions: &Sessions) -> Seen
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    match meanwhile {
        Meanwhile::Waits => {}
        Meanwhile::Closes => client.close(Some(1000)).await.unwrap(),
        Meanwhile::Leaves => return Seen::Lost,
        // The drain goes on whether it is awaited or not.
        Meanwhile::Drains => drop(sessions.drain(LONG)),
    }
    while let Some(frame) = client.next().await {
        if frame.opcode == CLOSE {
            return Seen::Closed(frame.close_code());
        }
    }
    Seen::Lost
}

async fn over_http1(scenario: Scenario, service: Answering, sessions: &Sessions) -> Seen {
    let (path, offer) = scenario.target();
    let (near, far) = tokio::io::duplex(64 * 1024);
    serve(far, service);
    match Raw::handshake_at(near, path, offer).await {
        Ok(client) => watch(client, scenario.meanwhile, sessions).await,
        Err(answer) => match answer.split(' ').nth(1) {
            Some(status) => Seen::Refused(status.parse().unwrap()),
            None => Seen::Lost,
        },
    }
}

async fn over_http2(scenario: Scenario, mut connection: Connection, sessions: &Sessions) -> Seen {
    let (path, offer) = scenario.target();
    match connection.try_ask(http2::request(path, offer)).await {
        Ok(Ok(answer)) => {
            let client = http2::upgraded(answer, offer).await;
            watch(client, scenario.meanwhile, sessions).await
        }
        Ok(Err(refused)) => Seen::Refused(refused.status.as_u16()),
        Err(_) => Seen::Lost,
    }
}

async fn run(scenario: Scenario, is_http2: bool) {
    let what = format!("{scenario:?}, HTTP/2: {is_http2}");
    let sessions = Sessions::default();
    let running = Arc::new(AtomicUsize::new(0));
    let service = scenario.service(&sessions, &running);
    // Over HTTP/2, the connection outlives the session.
    let mut connection = None;
    let seen = {
        let sees: Pin<Box<dyn Future<Output = Seen>>> = if is_http2 {
            let (opened, wire) = http2::connect(service).await;
            connection = Some((opened.clone(), wire));
            Box::pin(over_http2(scenario, opened, &sessions))
        } else {
            Box::pin(over_http1(scenario, service, &sessions))
        };
        match scenario.meanwhile {
            // The client leaves somewhere in the middle.
            Meanwhile::Leaves => timeout(SECOND / 2, sees).await.ok(),
            _ => Some(within(LONG, sees).await),
        }
    };
    match scenario.meanwhile {
        Meanwhile::Waits => assert_eq!(seen, Some(scenario.expected()), "{what}"),
        Meanwhile::Closes | Meanwhile::Drains => match scenario.expected() {
            Seen::Closed(_) => assert!(matches!(seen, Some(Seen::Closed(_))), "{what}: {seen:?}"),
            expected => assert_eq!(seen, Some(expected), "{what}"),
        },
        Meanwhile::Leaves => {}
    }
    // Longer than the grace and the lingering.
    sleep(Duration::from_secs(60)).await;
    assert_eq!(running.load(Ordering::Relaxed), 0, "left running: {what}");
    assert_eq!(sessions.len(), 0, "{what}");
    drop(connection);
}

/// Runs each fault inside a layer, with each other event, over both versions of HTTP.
async fn run_all(around: Around) {
    let _watchdog = Watchdog::bites_after(Duration::from_secs(50));
    let mut count = 0;
    for fault in ALL {
        for meanwhile in [
            Meanwhile::Waits,
            Meanwhile::Closes,
            Meanwhile::Leaves,
            Meanwhile::Drains,
        ] {
            let scenario = Scenario {
                around,
                fault,
                meanwhile,
            };
            if scenario.exists() {
                for is_http2 in [false, true] {
                    run(scenario, is_http2).await;
                    count += 1;
                }
            }
        }
    }
    assert!(count > 0);
}

#[tokio::test(start_paused = true)]
async fn of_a_reader_the_service() {
    run_all(Around::Reader).await;
}

#[tokio::test(start_paused = true)]
async fn of_a_reader_the_body() {
    run_all(Around::ReadersBody).await;
}

#[tokio::test(start_paused = true)]
async fn the_ports_of_a_port_forward() {
    run_all(Around::Ports).await;
}

#[tokio::test(start_paused = true)]
async fn the_function_of_axums_extractor() {
    run_all(Around::Extractor).await;
}

#[tokio::test(start_paused = true)]
async fn a_tapped_service() {
    run_all(Around::Tap).await;
}

#[tokio::test(start_paused = true)]
async fn the_function_of_a_tap() {
    run_all(Around::TapsFunction).await;
}
