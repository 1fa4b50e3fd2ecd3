//! Explicit acceptance.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_explicit_acceptance_is_waited_for() {
    const LOOK_UP: Duration = Duration::from_secs(2);
    let app = route(
        layer().config(config().accept(AcceptMode::Explicit)),
        async |mut channels: ChannelSet| {
            sleep(LOOK_UP).await;
            let request = channels.take_request().ok_or("no head")?;
            if request.uri.query() == Some("nobody") {
                return Err(Rejection::new(StatusCode::NOT_FOUND, "nobody is here").into());
            }
            drop(request);
            channels.session().accept().await;
            echo(channels).await
        },
    );
    for connect in transports("/") {
        let start = Instant::now();
        let mut client = soon(connect.connect(app.clone())).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), LOOK_UP.as_secs());
        hears_its_echo(&mut client).await;
    }
    for connect in transports("/?nobody") {
        let refused = refused_by(connect, app.clone()).await;
        assert_eq!(refused.status(), StatusCode::NOT_FOUND);
        assert_eq!(message(&refused), "nobody is here");
    }
}

#[tokio::test(start_paused = true)]
async fn an_acceptance_that_does_not_come_is_named() {
    let app = route(
        layer().config(config().accept(AcceptMode::Explicit)),
        async |channels: ChannelSet| {
            let _channels = channels;
            pending::<Result<(), BoxError>>().await
        },
    );
    for connect in transports("/") {
        let refused = refused_by(connect, app.clone()).await;
        assert_eq!(refused.status(), StatusCode::GATEWAY_TIMEOUT);
        let message = message(&refused);
        assert!(message.contains("Session::accept"), "{message}");
    }
}
