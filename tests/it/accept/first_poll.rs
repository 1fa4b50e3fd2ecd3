//! The first poll of the service decides on the answer.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_write_accepted_in_a_failing_first_poll_makes_it_101_and_1011() -> Result<(), BoxError> {
    for panics in [false, true] {
        let service = standard().layer(service_fn(move |mut set: ChannelSet| async move {
            let mut stdout = set.take_writer(1).unwrap();
            stdout.write_all(b"so far").await?;
            assert!(!panics, "after a write");
            Err::<(), BoxError>("after a write".into())
        }));
        let client = Connect::to("/").connect(service).await?;
        let transcript = timeout(LONG, client.read_to_end()).await?;
        assert_eq!(transcript.messages, [(1, Bytes::from("so far"))]);
        assert_eq!(transcript.close_code, Some(1011));
    }
    Ok(())
}

fn exec(
    service: impl Service<
        RemoteCommand,
        Response = ExitStatus,
        Error = BoxError,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Answer>,
    Error = Infallible,
    Future: Send + 'static,
> + Clone
+ Send
+ 'static {
    ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()))
        .layer(RemoteCommandLayer::new())
        .service(service)
}

fn exec_head() -> Connect {
    Connect::to("/exec?stdout=1&command=ls").offer(subprotocols::V5)
}

#[tokio::test(start_paused = true)]
async fn a_failing_first_poll_of_a_command_is_101_and_a_status() -> Result<(), BoxError> {
    for panics in [false, true] {
        let service = exec(service_fn(move |_: RemoteCommand| async move {
            assert!(!panics, "at once");
            Err::<ExitStatus, BoxError>("no shell".into())
        }));
        let client = exec_head().connect(service).await?;
        let transcript = timeout(LONG, client.read_to_end()).await?;
        let status = transcript.status().unwrap();
        assert_eq!(status.reason(), Some("InternalError"));
        assert_eq!(status.message().unwrap().contains("no shell"), !panics);
        assert_eq!(transcript.close_code, Some(1000), "the outcome was told");
    }
    Ok(())
}

/// Otherwise kubectl would try SPDY, and print the answer to that.
#[tokio::test(start_paused = true)]
async fn a_command_whose_call_panics_is_101_and_a_status() -> Result<(), BoxError> {
    let service = exec(service_fn(|_: RemoteCommand| {
        if true {
            panic!("in the call");
        }
        ready(Ok::<_, BoxError>(ExitStatus::success()))
    }));
    let client = exec_head().connect(service).await?;
    let transcript = timeout(LONG, client.read_to_end()).await?;
    assert_eq!(transcript.status().unwrap().reason(), Some("InternalError"));
    assert_eq!(transcript.close_code, Some(1000));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_rejection_after_a_write_of_a_command_is_101_and_its_status() -> Result<(), BoxError> {
    let service = exec(service_fn(async |mut command: RemoteCommand| {
        let stdout = command.stdout.as_mut().unwrap();
        stdout.write_all(b"so far").await?;
        let rejection = Rejection::new(http::StatusCode::NOT_FOUND, "no such file");
        Err::<ExitStatus, BoxError>(rejection.into())
    }));
    let client = exec_head().connect(service).await?;
    let transcript = timeout(LONG, client.read_to_end()).await?;
    assert_eq!(transcript.channel(1), b"so far");
    let status = transcript.status().unwrap();
    assert_eq!(
        (status.reason(), status.message(), status.code()),
        (Some("NotFound"), Some("no such file"), Some(404))
    );
    assert_eq!(transcript.close_code, Some(1000));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_done_in_its_first_poll_closes_with_1000() -> Result<(), BoxError> {
    let service = standard().layer(service_fn(async |_: ChannelSet| Ok::<_, BoxError>(())));
    let client = Connect::to("/").connect(service).await?;
    let transcript = timeout(LONG, client.read_to_end()).await?;
    assert!(transcript.messages.is_empty());
    assert_eq!(transcript.close_code, Some(1000));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_session_is_accepted_after_the_first_poll() {
    let (seen, mut saw) = mpsc::unbounded_channel();
    let service = standard().layer(service_fn(move |set: ChannelSet| {
        let seen = seen.clone();
        async move {
            let _ = seen.send(set.session().is_accepted());
            tokio::task::yield_now().await;
            let _ = seen.send(set.session().is_accepted());
            Ok::<_, BoxError>(())
        }
    }));
    let client = Connect::to("/").connect(service).await.unwrap();
    timeout(LONG, client.read_to_end()).await.unwrap();
    assert_eq!(
        (saw.recv().await, saw.recv().await),
        (Some(false), Some(true))
    );
}

// Wakers.

#[tokio::test(start_paused = true)]
async fn a_wake_inside_the_first_poll_is_not_lost() {
    let service = standard().layer(service_fn(async |_: ChannelSet| {
        let mut polled = false;
        poll_fn(|cx| {
            cx.waker().wake_by_ref();
            match std::mem::replace(&mut polled, true) {
                true => Poll::Ready(Ok::<_, BoxError>(())),
                false => Poll::Pending,
            }
        })
        .await
    }));
    let client = Connect::to("/").connect(service).await.unwrap();
    let end = timeout(LONG, client.read_to_end()).await;
    assert_eq!(end.expect("polled again").close_code, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn a_wake_between_answer_and_task_is_not_lost() {
    let left = Arc::new(Mutex::new(None::<Waker>));
    let leave = Arc::clone(&left);
    let service = standard().layer(service_fn(move |_: ChannelSet| {
        let leave = Arc::clone(&leave);
        let mut polled = false;
        poll_fn(move |cx| {
            *leave.lock().unwrap() = Some(cx.waker().clone());
            match std::mem::replace(&mut polled, true) {
                true => Poll::Ready(Ok::<_, BoxError>(())),
                false => Poll::Pending,
            }
        })
    }));
    let (request, wire) = hold(&Head::to("/")).await;
    let mut answer = tokio_test::task::spawn(service.oneshot(request));
    let response = assert_ready_ok!(answer.poll());
    // The task is spawned but has not run, because nothing has been awaited since.
    let waker = left.lock().unwrap().take();
    waker.unwrap().wake();
    assert!(left.lock().unwrap().is_none());

    let mut client = wire.answer(response);
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 101"));
    let mut client = speak(client).await;
    let close = timeout(LONG, client.next()).await.expect("polled again");
    assert!(
        matches!(close, Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) == 1000)
    );
}

/// The error is the user's code as well.
#[tokio::test(start_paused = true)]
async fn a_refusal_survives_the_drop_of_the_error() -> Result<(), BoxError> {
    #[derive(Debug)]
    struct Explosive;
    impl fmt::Display for Explosive {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("explosive")
        }
    }
    impl Error for Explosive {}
    impl Drop for Explosive {
        fn drop(&mut self) {
            panic!("in the drop of an error");
        }
    }
    let service = service_fn(async |_: ChannelSet| Err::<(), BoxError>(Box::new(Explosive)));
    let error = Connect::to("/")
        .connect(standard().layer(service))
        .await
        .unwrap_err();
    let refused = error.downcast::<tower_wsstream::testing::Refused>()?;
    assert_eq!(refused.status(), 500);
    Ok(())
}
