//! The reports of the layer of exec and attach to its clients, in the form of each subprotocol.

use tower::{Layer, ServiceBuilder};
use tower_wsstream::{Status, WsStreamLayer, remotecommand::*};

use super::*;

async fn exec<F, Fut>(subprotocol: &str, run: F) -> Raw<DuplexStream>
where
    F: Fn(RemoteCommand) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<ExitStatus, BoxError>> + Send + 'static,
{
    exec_with("stdin=true&stdout=true&stderr=true", subprotocol, run).await
}

async fn exec_with<F, Fut>(options: &str, subprotocol: &str, run: F) -> Raw<DuplexStream>
where
    F: Fn(RemoteCommand) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<ExitStatus, BoxError>> + Send + 'static,
{
    let inner = ServiceBuilder::new()
        .layer(RemoteCommandLayer::new())
        .service_fn(run);
    let service = WsStreamLayer::new(Protocols::default()).layer(inner);
    let (near, far) = tokio::io::duplex(256 * 1024);
    serve(far, service);
    let path = format!("/exec?command=x&{options}");
    Raw::handshake_at(near, &path, subprotocol).await.unwrap()
}

fn is_json(subprotocol: &str) -> bool {
    subprotocol.starts_with("v4.") || subprotocol.starts_with("v5.")
}

/// Returns the Status, and checks that it is the last message, and the only one on channel 3.
fn told_status(told: &Told) -> Option<&[u8]> {
    let mut on_error = told.messages.iter().filter(|(channel, _)| *channel == 3);
    let status = on_error.next()?;
    assert_eq!(on_error.next(), None, "one Status");
    assert_eq!(told.messages.last(), Some(status), "the last message");
    Some(&status.1)
}

#[tokio::test(start_paused = true)]
async fn each_outcome_is_told_behind_the_output() {
    const EXIT_3: &str = "command terminated with non-zero exit code: exit status 3";
    let every = [ALL.as_slice(), &[subprotocols::V2, subprotocols::V3]].concat();
    for subprotocol in every {
        for in_first_poll in [false, true] {
            type Outcome = fn() -> Result<ExitStatus, BoxError>;
            let outcomes: [(Outcome, &str, Option<u8>); 6] = [
                (|| Ok(ExitStatus::success()), "", Some(0)),
                (|| Ok(ExitStatus::from_code(3)), EXIT_3, Some(3)),
                (|| Ok(ExitStatus::signal(9)), "exit status 137", Some(137)),
                (
                    || Err("no such container".into()),
                    "no such container",
                    None,
                ),
                (|| Err(Status::from_exit_code(3).into()), EXIT_3, Some(3)),
                (
                    || panic!("on purpose"),
                    "the command's service failed",
                    None,
                ),
            ];
            for (outcome, text, code) in outcomes {
                let mut client = exec(subprotocol, move |mut command| async move {
                    if !in_first_poll {
                        sleep(millis(30)).await;
                    }
                    command.stdout.as_mut().unwrap().write_all(b"out").await?;
                    command.stderr.as_mut().unwrap().write_all(b"err").await?;
                    outcome()
                })
                .await;
                let told = within(LONG, client.read_to_end()).await;
                let context = format!("{text:?} on {subprotocol:?}");
                assert_eq!(told.close, Some(Some(1000)), "{context}");
                let output = [
                    (1, b"".to_vec()),
                    (1, b"out".to_vec()),
                    (2, b"err".to_vec()),
                ];
                assert_eq!(told.messages[..3], output, "{context}");
                match told_status(&told) {
                    Some(status) if is_json(subprotocol) => {
                        let status = Status::from_json(status).unwrap();
                        assert_eq!(status.exit_code(), code, "{context}");
                        assert_eq!(status.is_success(), text.is_empty(), "{context}");
                        let message = status.message().unwrap_or_default();
                        assert!(message.contains(text), "{context}: {message}");
                    }
                    Some(status) => {
                        let message = str::from_utf8(status).unwrap();
                        assert!(
                            !text.is_empty() && message.contains(text),
                            "{context}: {message}"
                        );
                    }
                    None => assert!(text.is_empty() && !is_json(subprotocol), "{context}"),
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_that_outlives_its_session_is_told_of() {
    for (subprotocol, grace) in [
        (subprotocols::V5, secs(1)),
        (subprotocols::V4, secs(30)),
        (subprotocols::V4_BASE64, secs(30)),
    ] {
        let mut client = exec(subprotocol, |_command| std::future::pending()).await;
        let start = Instant::now();
        client.close(Some(1000)).await.unwrap();
        let told = within(LONG, client.read_to_end()).await;
        assert_after(start, grace);
        let status = Status::from_json(told_status(&told).unwrap()).unwrap();
        assert!(!status.is_success() && status.exit_code().is_none());
        assert_eq!(told.close, Some(Some(1000)));
    }
}

/// Without input, a Close cannot end it; on a terminal, a Close is a hang-up. In both cases the
/// client is leaving, and awaits our answer before it goes.
#[tokio::test(start_paused = true)]
async fn a_close_that_cannot_end_the_input_is_a_goodbye() {
    for subprotocol in [ALL.as_slice(), &[subprotocols::V3]].concat() {
        if subprotocol == subprotocols::V5 {
            continue;
        }
        for (options, grace) in [
            ("stdin=true&stdout=true&stderr=true", secs(30)),
            ("stdin=false&stdout=true&stderr=true", secs(1)),
            ("stdin=false&stdout=true&tty=true", secs(1)),
            ("stdin=true&stdout=true&tty=true", secs(1)),
        ] {
            for code in [Some(1000), None] {
                let run = |_command| std::future::pending();
                let mut client = exec_with(options, subprotocol, run).await;
                let start = Instant::now();
                client.close(code).await.unwrap();
                let told = within(LONG, client.read_to_end()).await;
                assert_after(start, grace);
                assert_eq!(told.close, Some(code), "{subprotocol} {options}");
            }
        }
    }
}

/// kube-rs ends its input with a Close, and goes on reading.
#[tokio::test(start_paused = true)]
async fn a_command_that_works_on_after_its_input_ended_is_told_of_in_full() {
    for subprotocol in [subprotocols::V4, subprotocols::V4_BASE64] {
        let mut client = exec(subprotocol, |mut command| async move {
            let mut all = Vec::new();
            command.stdin.take().unwrap().read_to_end(&mut all).await?;
            sleep(secs(5)).await;
            command.stdout.take().unwrap().write_all(&all).await?;
            Ok(ExitStatus::success())
        })
        .await;
        client.send(0, b"work").await.unwrap();
        client.close(None).await.unwrap();
        let told = within(LONG, client.read_to_end()).await;
        assert_eq!(told.text(1), "work");
        assert!(
            Status::from_json(told_status(&told).unwrap())
                .unwrap()
                .is_success()
        );
    }
}

/// A session that was cut off is not reported as a success.
#[tokio::test(start_paused = true)]
async fn after_a_fault_of_the_peer_no_status_is_sent() {
    let client = exec(subprotocols::V5, |mut command| async move {
        let mut all = Vec::new();
        let cut = command.stdin.take().unwrap().read_to_end(&mut all).await;
        assert_eq!(cut.unwrap_err().kind(), io::ErrorKind::InvalidData);
        Ok(ExitStatus::success())
    })
    .await;
    let mut client = act(Act::ReservedBit, client).await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!((told_status(&told), told.close), (None, Some(Some(1002))));
}
