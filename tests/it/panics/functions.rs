//! Other functions of the user that panic.

use super::*;

/// The text of a source is complete at its end, even if its drop panics.
#[tokio::test(start_paused = true)]
async fn the_drop_of_a_source_at_its_end_changes_nothing() {
    struct Source(&'static [u8], #[allow(dead_code, reason = "goes off")] Bomb);
    impl AsyncRead for Source {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            buffer.put_slice(std::mem::take(&mut self.0));
            Poll::Ready(Ok(()))
        }
    }
    let answer = async |_: Request<Incoming>| {
        Ok::<_, BoxError>(Response::new(WsReader::new(Source(b"a line\n", Bomb))))
    };
    let service = WsReaderLayer::new().layer(service_fn(answer));
    let seen = see(Connect::to("/"), service).await;
    let mut wrong = Wrong::default();
    let right = matches!(&seen, Seen::Session(transcript)
        if transcript.close_code == Some(1000) && transcript.channel(0) == b"a line\n");
    wrong.check("a source".into(), right, &seen);
}

/// Each function that a layer is given is called, panics, and has an answer.
#[tokio::test(start_paused = true)]
async fn functions_of_the_user_that_panic_are_500() {
    let mut wrong = Wrong::default();
    let fine = || service_fn(async |_: ChannelSet| Ok::<_, BoxError>(()));

    let source =
        |_: &http::request::Parts| -> Result<ChannelProtocols, Rejection> { panic!("on purpose") };
    let seen = see(Connect::to("/"), WsStreamLayer::new(source).layer(fine())).await;
    wrong.check("source of protocols".into(), is_500(&seen), &seen);

    let policy = tower_wsstream::policy::OriginPolicy::predicate(|_, _| panic!("on purpose"));
    let connect = Connect::to("/").header(header::ORIGIN, "https://a.example");
    let seen = see(
        connect,
        standard()
            .config(SessionConfig::default().origin(policy))
            .layer(fine()),
    )
    .await;
    wrong.check("predicate of origins".into(), is_500(&seen), &seen);

    let mapped =
        standard().config(SessionConfig::default().map_rejection(|_| panic!("on purpose")));
    let failing = service_fn(async |_: ChannelSet| Err::<(), BoxError>("failed".into()));
    let seen = see(Connect::to("/"), mapped.layer(failing)).await;
    wrong.check("map_rejection".into(), is_500(&seen), &seen);

    let keyed = SessionLimitLayer::new(1, |_: &ChannelSet| -> Option<u8> { panic!("on purpose") });
    let seen = see(Connect::to("/"), standard().layer(keyed.layer(fine()))).await;
    wrong.check("key of a limit".into(), is_500(&seen), &seen);

    let tapped = tower_wsstream::channel::tap::TapLayer::new(|_: &ChannelSet| panic!("on purpose"));
    let seen = see(Connect::to("/"), standard().layer(tapped.layer(fine()))).await;
    wrong.check("function of a tap".into(), is_500(&seen), &seen);

    let told = standard().config(SessionConfig::default().on_end(|_| panic!("on purpose")));
    let seen = see(Connect::to("/"), told.layer(fine())).await;
    let right = matches!(&seen, Seen::Session(it) if it.close_code == Some(1000));
    wrong.check("on_end".into(), right, &seen);

    let words = service_fn(async |channels: ChannelSet| {
        channels.session().say_last(|_| panic!("on purpose"));
        Ok::<_, BoxError>(())
    });
    let seen = see(Connect::to("/"), standard().layer(words)).await;
    wrong.check("last words".into(), is_1011(&seen), &seen);
}
