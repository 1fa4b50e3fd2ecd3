//! The mapping of errors.

use super::*;

/// The origin of an error.
#[derive(Clone, Copy, Debug, PartialEq)]
enum From {
    Readiness,
    FirstPoll,
    LaterPoll,
}

/// A service that fails with "secret" at one of them.
#[derive(Clone)]
struct Failing(From);

impl Service<ChannelSet> for Failing {
    type Response = ();
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(match self.0 {
            From::Readiness => Err("secret".into()),
            _ => Ok(()),
        })
    }

    fn call(&mut self, _set: ChannelSet) -> Self::Future {
        let later = self.0 == From::LaterPoll;
        Box::pin(async move {
            if later {
                look_up().await;
            }
            Err("secret".into())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn errors_before_the_answer_are_mapped() {
    for from in [From::Readiness, From::FirstPoll, From::LaterPoll] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sees = Arc::clone(&seen);
        let service = layer()
            .config(config().map_rejection(move |error| {
                sees.lock().unwrap().push(error.to_string());
                Rejection::new(StatusCode::BAD_GATEWAY, "the node does not answer")
            }))
            .layer(Failing(from));
        let refusal = refused(service, &Head::to("/"), 502, RejectionKind::Custom).await;
        assert_eq!(refusal.message, "the node does not answer", "{from:?}");
        assert_eq!(*seen.lock().unwrap(), ["secret"], "asked once");

        // A panic of the mapping itself.
        let service = layer()
            .config(config().map_rejection(|_| panic!("password=hunter2")))
            .layer(Failing(from));
        let refusal = refused(service, &Head::to("/"), 500, RejectionKind::Internal).await;
        assert!(!refusal.message.contains("hunter2") && !refusal.message.contains("secret"));

        // The default mapping.
        let refusal = refused(
            layer().layer(Failing(from)),
            &Head::to("/"),
            500,
            RejectionKind::Internal,
        )
        .await;
        assert!(!refusal.message.contains("secret"));
    }
}

/// With `Immediate`, an error of a later poll ends the session, and is not an answer.
#[tokio::test(start_paused = true)]
async fn an_accepted_session_has_nothing_to_map() {
    let service = layer()
        .config(
            config()
                .accept(AcceptMode::Immediate)
                .map_rejection(|_| panic!("there is nothing to map")),
        )
        .layer(Failing(From::LaterPoll));
    assert_eq!(told(service).await.close_code, Some(1011));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_no_error_to_map() {
    let service = layer()
        .config(config().map_rejection(|_| Rejection::new(StatusCode::BAD_GATEWAY, "mapped")))
        .layer(service_fn(async |_set: ChannelSet| {
            look_up().await;
            if true {
                panic!("a panic");
            }
            Ok::<_, BoxError>(())
        }));
    refused(service, &Head::to("/"), 500, RejectionKind::Internal).await;
}
