//! Parts of a request that panic when they are dropped.

use super::*;

type AddExtension = fn(Request<Incoming>) -> Request<Incoming>;

fn with_extension<S>(inner: S) -> tower::util::MapRequest<S, AddExtension>
where
    S: Service<Request<Incoming>>,
{
    let add: AddExtension = |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Bomb);
        request
    };
    inner.map_request(add)
}

#[tokio::test(start_paused = true)]
async fn a_refusal_survives_the_drop_of_the_requests_extensions() {
    let mut wrong = Wrong::default();
    let cross = || Connect::to("/").header(header::ORIGIN, "https://evil.example");

    let by_head =
        with_extension(standard().layer(service_fn(async |_: ChannelSet| Ok::<_, BoxError>(()))));
    let seen = see(cross(), by_head).await;
    wrong.check("by the head".into(), refused_with(&seen, 403), &seen);

    let never = Failing {
        trap: Trap::Source,
        when: When::Ready,
    };
    let by_readiness = with_extension(standard().layer(never));
    let seen = see(Connect::to("/"), by_readiness).await;
    wrong.check("by readiness".into(), refused_with(&seen, 500), &seen);

    let body = async |_: Request<Incoming>| Ok::<_, BoxError>(Response::new(Empty::<Bytes>::new()));
    let by_reader = with_extension(WsReaderLayer::new().layer(service_fn(body)));
    let seen = see(cross(), by_reader).await;
    wrong.check("a reader's".into(), refused_with(&seen, 403), &seen);
}

/// The body of a request, which panics when it is dropped.
struct BombBody(#[allow(dead_code, reason = "goes off")] Bomb);

impl Body for BombBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(None)
    }
}

#[tokio::test(start_paused = true)]
async fn the_drop_of_a_requests_body_changes_nothing() {
    let inner = standard().layer(service_fn(async |mut channels: ChannelSet| {
        channels.take_writer(1).unwrap().write_all(b"x").await?;
        Ok::<_, BoxError>(())
    }));
    let service = inner.map_request(|request: Request<Incoming>| request.map(|_| BombBody(Bomb)));
    let seen = see(Connect::to("/"), service).await;
    let mut wrong = Wrong::default();
    let right = matches!(&seen, Seen::Session(transcript) if transcript.channel(1) == b"x");
    wrong.check("accepted".into(), right, &seen);
}

#[tokio::test(start_paused = true)]
async fn the_drop_of_the_extensions_of_a_readers_answer_changes_nothing() {
    let answer = async |_: Request<Incoming>| {
        let mut answer = Response::new(http_body_util::Full::new(Bytes::from_static(b"x")));
        answer.extensions_mut().insert(Bomb);
        Ok::<_, BoxError>(answer)
    };
    let service = WsReaderLayer::new().layer(service_fn(answer));
    let seen = see(Connect::to("/"), service).await;
    let mut wrong = Wrong::default();
    let right = matches!(&seen, Seen::Session(transcript) if transcript.close_code == Some(1000));
    wrong.check("a reader's".into(), right, &seen);
}

/// If the extensions of an upgrade cannot be cloned, its handler gets no session.
#[tokio::test(start_paused = true)]
async fn an_extension_that_panics_in_clone_is_500_of_the_extractor() {
    struct Unclonable;
    impl Clone for Unclonable {
        fn clone(&self) -> Self {
            panic!("in the clone of an extension, on purpose")
        }
    }
    let mut head = Request::get("/")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    head.extensions.insert(Unclonable);
    let extracting = pin!(async {
        <WsStreamUpgrade as axum::extract::FromRequestParts<()>>::from_request_parts(&mut head, &())
            .await
            .map(drop)
    });
    let mut extracting = extracting;
    let waker = std::task::Waker::noop();
    let polled = catch_unwind(AssertUnwindSafe(|| {
        extracting.as_mut().poll(&mut Context::from_waker(waker))
    }));
    let Ok(Poll::Ready(Err(rejection))) = polled else {
        panic!("it is refused, and does not panic");
    };
    assert_eq!(rejection.status(), 500);
}

/// If the client leaves, the service is dropped, even if that panics.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_dropped_drops_the_service_quietly() {
    for explicit in [false, true] {
        #[derive(Clone)]
        struct Never(Arc<()>, bool);
        impl Drop for Never {
            fn drop(&mut self) {
                // The original stays; its clones panic.
                let original = Arc::strong_count(&self.0) == 1;
                assert!(original || std::thread::panicking(), "on purpose");
            }
        }
        impl Service<ChannelSet> for Never {
            type Response = ();
            type Error = BoxError;
            type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;
            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
                if self.1 {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                }
            }
            fn call(&mut self, channels: ChannelSet) -> Self::Future {
                Box::pin(async move {
                    let (_channels, _bomb) = (channels, Bomb);
                    pending().await
                })
            }
        }
        let inner = Never(Arc::default(), explicit);
        let service = standard()
            .config(SessionConfig::default().accept(AcceptMode::Explicit))
            .layer(inner.clone());
        let mut service = std::mem::ManuallyDrop::new(service);
        let mut request = Request::get("/")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(())
            .unwrap();
        let on = hyper::upgrade::on(&mut request);
        request.extensions_mut().insert(on);
        let mut answer = Box::pin(service.call(request));
        poll_fn(|cx| {
            assert!(answer.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(answer)));
        assert!(dropped.is_ok(), "explicit: {explicit}");
        std::mem::forget(inner);
    }
}
