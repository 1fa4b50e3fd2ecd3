//! Errors that cannot be shown.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_error_that_cannot_be_shown_is_500_before_the_answer_and_1011_after_it() {
    let mut wrong = Wrong::default();
    for (trap, when) in all() {
        let service = standard().layer(Failing { trap, when });
        let seen = see(Connect::to("/"), service).await;
        let right = match when {
            When::Later => is_1011(&seen),
            _ => is_500(&seen),
        };
        wrong.check(format!("{} {when:?}", trap.name()), right, &seen);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_cannot_be_shown_is_500_also_where_the_service_accepts() {
    let mut wrong = Wrong::default();
    for (trap, when) in all() {
        let service = standard()
            .config(SessionConfig::default().accept(AcceptMode::Explicit))
            .layer(Failing { trap, when });
        let seen = see(Connect::to("/"), service).await;
        wrong.check(format!("{} {when:?}", trap.name()), is_500(&seen), &seen);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_cannot_be_shown_is_the_same_under_axum() {
    let mut wrong = Wrong::default();
    for (trap, when) in all().filter(|(_, when)| *when != When::Ready) {
        let handler = move |upgrade: WsStreamUpgrade| async move {
            let failing = Failing { trap, when };
            upgrade
                .layer(&standard())
                .on_upgrade(move |_| failing.fail())
                .await
        };
        let app: axum::Router = axum::Router::new().route("/", axum::routing::any(handler));
        let app = app.map_request(|request: Request<Incoming>| request.map(axum::body::Body::new));
        let seen = see(Connect::to("/"), app).await;
        let right = match when {
            When::Later => is_1011(&seen),
            _ => is_500(&seen),
        };
        wrong.check(format!("{} {when:?}", trap.name()), right, &seen);
    }
}

/// kubectl prints nothing but a Status.
#[tokio::test(start_paused = true)]
async fn an_error_of_a_command_that_cannot_be_shown_is_a_status() {
    let mut wrong = Wrong::default();
    for (trap, when) in all().filter(|(_, when)| *when != When::Ready) {
        let failing = Failing { trap, when };
        let command = move |_: RemoteCommand| failing.fail::<ExitStatus>();
        // Errors of the command, and of a service around the layer that reports them.
        for around in [false, true] {
            let inner = RemoteCommandLayer::new().layer(service_fn(command));
            let service = WsStreamLayer::new(remotecommand::Protocols::default())
                .layer(Around(inner, around.then_some(failing)));
            let connect = Connect::to("/?stdout=1&command=x").offer(subprotocols::V4);
            let seen = see(connect, service).await;
            let right = match &seen {
                Seen::Session(transcript) => {
                    let status = transcript.status();
                    transcript.close_code == Some(1000)
                        && status.is_some_and(|it| it.reason() == Some("InternalError"))
                }
                // A service around it that fails in the first poll is not a command.
                _ => around && when == When::AtOnce && is_500(&seen),
            };
            let what = format!("{} {when:?} around: {around}", trap.name());
            wrong.check(what, right, &seen);
        }
    }
}

/// A service that lets the inner one begin, and fails in its place.
#[derive(Clone)]
struct Around<S>(S, Option<Failing>);

impl<S> Service<ChannelSet> for Around<S>
where
    S: Service<ChannelSet, Response = (), Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = ();
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, channels: ChannelSet) -> Self::Future {
        let inner = self.0.call(channels);
        match self.1 {
            None => Box::pin(inner),
            Some(failing) => Box::pin(async move {
                let _inner = inner;
                failing.fail().await
            }),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_port_that_cannot_be_shown_is_its_own() {
    let mut wrong = Wrong::default();
    for (trap, when) in all().filter(|(_, when)| *when != When::Ready) {
        let failing = Failing { trap, when };
        let port = move |mut port: ForwardedPort| async move {
            if port.port == 81 {
                return failing.fail().await;
            }
            let mut all = Vec::new();
            port.stream.read_to_end(&mut all).await?;
            port.stream.write_all(&all).await?;
            Ok::<_, BoxError>(())
        };
        let service = WsStreamLayer::new(portforward::Protocols::default())
            .layer(PortForwardLayer::new().layer(service_fn(port)));

        let alone = Connect::to("/?ports=81").offer(subprotocols::V4);
        let seen = see(alone, service.clone()).await;
        let right = matches!(&seen, Seen::Session(transcript) if is_told(transcript, 1));
        wrong.check(format!("{} {when:?} alone", trap.name()), right, &seen);

        let beside = Connect::to("/?ports=80,81").offer(subprotocols::V4);
        let mut client = timeout(LONG, beside.connect(service))
            .await
            .unwrap()
            .unwrap();
        // The other port goes on until the client ends it.
        sleep(Duration::from_secs(5)).await;
        client.send(0, b"still there").await.unwrap();
        client.close(Some(1000)).await.unwrap();
        let transcript = timeout(LONG, client.read_to_end()).await.unwrap();
        let right = transcript.channel(0).ends_with(b"still there") && is_told(&transcript, 3);
        let what = format!("{} {when:?}", trap.name());
        wrong.check(what, right, &Seen::Session(transcript));
    }
}

/// Returns whether the error channel of port 81 reports the failure.
fn is_told(transcript: &Transcript, channel: u8) -> bool {
    let text = transcript.channel(channel);
    text.get(2..)
        .is_some_and(|text| text.starts_with(b"error forwarding port 81: "))
}

struct FailingBody(Failing, Pin<Box<dyn Future<Output = ()> + Send>>);

impl Body for FailingBody {
    type Data = Bytes;
    type Error = Trapped;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Trapped>>> {
        let trapped = Trapped::new(self.0.trap);
        self.1.as_mut().poll(cx).map(|()| Some(Err(trapped)))
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_body_that_cannot_be_shown_is_500_or_1011() {
    let mut wrong = Wrong::default();
    // Each poll makes an error, so an error that panics when it is dropped does not fit here.
    let shown = |(trap, when): &(Trap, When)| *when != When::Ready && *trap != Trap::Drop;
    for (trap, when) in all().filter(shown) {
        let failing = Failing { trap, when };
        let answer = move |_: Request<Incoming>| async move {
            let wait = sleep(Duration::from_secs(u64::from(failing.when == When::Later)));
            let body = FailingBody(failing, Box::pin(wait));
            Ok::<_, BoxError>(Response::new(body))
        };
        let service = WsReaderLayer::new().layer(service_fn(answer));
        let service = service.map_response(|answer: Response<_>| {
            answer.map(|body| http_body_util::BodyExt::map_err(body, |_| "a body failed"))
        });
        let seen = see(Connect::to("/"), service).await;
        let right = match when {
            When::Later => is_1011(&seen),
            _ => is_500(&seen),
        };
        wrong.check(format!("{} {when:?}", trap.name()), right, &seen);
    }
}

/// The payload of a panic is a value of the user as well.
struct Payload;

impl Drop for Payload {
    fn drop(&mut self) {
        panic!("in the drop of a payload, on purpose");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_whose_payload_panics_when_it_is_dropped_is_a_panic() {
    let mut wrong = Wrong::default();
    for when in [When::AtOnce, When::Later] {
        let service = standard().layer(service_fn(move |channels: ChannelSet| async move {
            let _channels = channels;
            if when == When::Later {
                sleep(Duration::from_secs(1)).await;
            }
            panic_any::<Payload>(Payload);
            #[expect(unreachable_code, reason = "for the type of the future")]
            Ok::<_, BoxError>(())
        }));
        let seen = see(Connect::to("/"), service).await;
        let right = match when {
            When::Later => is_1011(&seen),
            _ => is_500(&seen),
        };
        wrong.check(format!("{when:?}"), right, &seen);
    }
}
