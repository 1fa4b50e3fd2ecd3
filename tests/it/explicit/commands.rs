//! Commands that accept.

use super::*;

fn command<F, Fut>(
    run: F,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Answer>,
    Error = std::convert::Infallible,
    Future: Send + 'static,
> + Clone
+ Send
+ 'static
where
    F: FnMut(RemoteCommand) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<ExitStatus, BoxError>> + Send + 'static,
{
    ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()).config(config()))
        .layer(RemoteCommandLayer::new())
        .service_fn(run)
}

fn exec(offer: &str) -> Connect {
    Connect::to("/exec?stdin=1&stdout=1&command=ls").offer(offer)
}

const EXEC: [&str; 3] = [
    subprotocols::V5,
    subprotocols::V4_BASE64,
    subprotocols::CHANNEL,
];

#[tokio::test(start_paused = true)]
async fn a_rejection_of_a_command_is_the_answer() {
    for offer in EXEC {
        let service = command(async |_command| {
            look_up().await;
            Err(Rejection::new(StatusCode::NOT_FOUND, "no container \"web\"").into())
        });
        let (code, status) = refused_with(service, exec(offer)).await;
        assert_eq!(code, StatusCode::NOT_FOUND);
        assert_eq!(status.message(), Some("no container \"web\""));
        assert_eq!(status.reason(), Some("NotFound"));
    }
}

#[tokio::test(start_paused = true)]
async fn another_error_of_a_command_is_101_and_a_status() {
    for panics in [false, true] {
        for accepts in [false, true] {
            let service = command(move |command: RemoteCommand| async move {
                look_up().await;
                if accepts {
                    command.session.accept().await;
                }
                assert!(!panics, "in the command");
                Err("no shell".into())
            });
            let client = soon(exec(subprotocols::V5).connect(service)).await.unwrap();
            let transcript = soon(client.read_to_end()).await;
            let status = transcript.status().unwrap();
            assert_eq!(status.reason(), Some("InternalError"));
            assert_eq!(status.message().unwrap().contains("no shell"), !panics);
            assert_eq!(transcript.close_code, Some(1000), "the outcome was told");
        }
    }
}

/// After the acceptance a rejection can no longer be the answer, whether the acceptance was awaited
/// or not.
#[tokio::test(start_paused = true)]
async fn a_rejection_of_an_accepted_command_is_its_status() {
    for awaits in [false, true] {
        let service = command(move |command: RemoteCommand| async move {
            look_up().await;
            let mut accept = pin!(command.session.accept());
            match awaits {
                true => accept.await,
                false => {
                    poll_fn(|cx| Poll::Ready(accept.as_mut().poll(cx).is_pending()))
                        .map(|pending| assert!(pending))
                        .await
                }
            }
            Err(Rejection::new(StatusCode::CONFLICT, "busy").into())
        });
        let client = soon(exec(subprotocols::V5).connect(service)).await.unwrap();
        let transcript = soon(client.read_to_end()).await;
        let status = transcript.status().unwrap();
        assert_eq!((status.message(), status.code()), (Some("busy"), Some(409)));
        assert_eq!(transcript.close_code, Some(1000));
    }
}

#[tokio::test(start_paused = true)]
async fn an_accepted_command_is_ready_first_and_then_speaks() {
    for offer in EXEC {
        for accepts in [true, false] {
            let service = command(move |mut command: RemoteCommand| async move {
                look_up().await;
                if accepts {
                    command.session.accept().await;
                    let stdout = command.stdout.as_mut().unwrap();
                    stdout.write_all(b"hello").await?;
                }
                Ok(ExitStatus::from_code(3))
            });
            let client = soon(exec(offer).connect(service)).await.unwrap();
            let transcript = soon(client.read_to_end()).await;
            assert_eq!(transcript.messages[0], (1, Bytes::new()), "{offer}: ready");
            assert_eq!(
                transcript.channel(1),
                if accepts { &b"hello"[..] } else { b"" }
            );
            if offer == subprotocols::V5 {
                assert_eq!(transcript.exit_code(), Some(3));
            }
            assert_eq!(transcript.messages.last().unwrap().0, 3);
            assert_eq!(transcript.close_code, Some(1000));
        }
    }
}

/// The ready message is queued already. The budget takes the write at once, although it leaves
/// only when the client is seen to read.
#[tokio::test(start_paused = true)]
async fn a_write_of_a_command_goes_on_at_the_acceptance_though_output_is_held() {
    let (writes, mut written) = mpsc::unbounded_channel();
    let service = command(move |mut command: RemoteCommand| {
        let writes = writes.clone();
        async move {
            let mut stdout = command.stdout.take().unwrap();
            let write = tokio::spawn(async move {
                stdout.write_all(b"x").await?;
                Ok::<_, io::Error>(Instant::now())
            });
            look_up().await;
            command.session.accept().await;
            let accepted = Instant::now();
            let _ = writes.send(write.await?? - accepted);
            Ok(ExitStatus::success())
        }
    });
    // Output is held for this client.
    let exec = exec(subprotocols::V5).header(header::USER_AGENT, "Go-http-client/1.1");
    let mut client = exec.connect(service).await.unwrap();
    // The client does not answer the Ping, which would end the hold.
    client.stall(secs(2)).await;
    assert!(soon(written.recv()).await.unwrap() <= EXACT);
}

#[tokio::test(start_paused = true)]
async fn a_flush_of_a_command_waits_for_the_acceptance() {
    let service = command(async |mut command: RemoteCommand| {
        let session = command.session.clone();
        let mut stdout = command.stdout.take().unwrap();
        let early = timeout(secs(1), stdout.flush()).await;
        assert!(early.is_err(), "{early:?}");
        let flushing = tokio::spawn(async move { stdout.flush().await });
        session.accept().await;
        flushing.await??;
        Ok(ExitStatus::success())
    });
    let client = soon(exec(subprotocols::V5).connect(service)).await.unwrap();
    assert_eq!(soon(client.read_to_end()).await.exit_code(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_command_that_does_not_accept_is_a_504() {
    let service = command(async |_command| pending().await);
    let (code, status) = refused_with(service, exec(subprotocols::V5)).await;
    assert_eq!(code, StatusCode::GATEWAY_TIMEOUT);
    assert!(status.message().unwrap().contains("Session::accept"));
}
