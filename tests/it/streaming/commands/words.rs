//! Last words over SPDY: they arrive in front of the end of their stream, or the outcome was not told.

use tokio::time::sleep;
use tower::service_fn;
use tower_wsstream::{ChannelSet, Sessions, session::LastWords};

use super::*;
use crate::support::millis;

const CHANNELS: [u8; 3] = [ERROR, STDOUT, STDERR];

/// Opens a session whose service says these words, and then does something with its channels.
async fn says<F, Fut>(config: SessionConfig, words: Option<LastWords>, run: F) -> Client
where
    F: Fn(ChannelSet) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let service = layer()
        .config(config)
        .layer(service_fn(move |set: ChannelSet| {
            let words = words.clone();
            set.session().say_last(move |_| words);
            run(set)
        }));
    Client::connect(service, "stdout=1&stderr=1", V4).await
}

fn words_on(channel: u8) -> Option<LastWords> {
    Some(LastWords::new(channel, "told"))
}

/// Returns the code that the summary names.
async fn code_of(summary: oneshot::Receiver<SessionSummary>) -> Option<u16> {
    soon(summary).await.unwrap().close_code
}

#[tokio::test(start_paused = true)]
async fn words_arrive_however_the_service_has_ended() {
    for words in [words_on(ERROR), Some(LastWords::silence()), None] {
        for how in ["ok", "fails", "panics", "stays"] {
            let context = format!("{words:?}, {how}");
            let (config, summary) = watched();
            let sessions = Sessions::default();
            let config = config.sessions(sessions.clone());
            let mut client = says(
                config,
                words.clone(),
                move |mut set: ChannelSet| async move {
                    let mut stdout = set.take_writer(STDOUT).unwrap();
                    stdout.write_all(b"out").await?;
                    sleep(millis(10)).await;
                    match how {
                        "ok" => Ok(()),
                        "fails" => Err("failed on purpose".into()),
                        "panics" => panic!("on purpose"),
                        _ => std::future::pending().await,
                    }
                },
            )
            .await;
            client.open(&CHANNELS).await;
            if how == "stays" {
                let sessions = sessions.clone();
                tokio::spawn(async move { sessions.drain(secs(100)).await });
            }
            let told = client.read_to_end().await;
            drop(client);
            assert_eq!(told.text(STDOUT), "out", "{context}");
            let code = code_of(summary).await;
            let Some(words) = &words else {
                assert_ne!(code, Some(1000), "{context}");
                assert!(told.reset.contains(&ERROR), "{context}: {told:?}");
                continue;
            };
            let text = if *words == LastWords::silence() {
                ""
            } else {
                "told"
            };
            assert_eq!(told.text(ERROR), text, "{context}");
            assert_eq!(code, Some(1000), "{context}");
            assert_eq!(told.ended.last(), Some(&ERROR), "{context}");
            assert_eq!(
                (told.reset, told.go_away),
                (vec![], Some((5, 0))),
                "{context}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn words_on_a_stream_that_is_open_are_told() {
    let (config, summary) = watched();
    let mut client = says(config, words_on(STDOUT), |mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(STDOUT).unwrap();
        let session = set.session().clone();
        drop(set);
        stdout.write_all(b"out, ").await?;
        // The writer outlives its grace.
        tokio::spawn(async move {
            session.ended().await;
            sleep(secs(60)).await;
            drop(stdout);
        });
        Err("failed on purpose".into())
    })
    .await;
    client.open(&CHANNELS).await;
    let told = client.read_to_end().await;
    drop(client);
    assert_eq!(told.text(STDOUT), "out, told");
    assert_eq!(code_of(summary).await, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn words_on_a_stream_that_has_ended_are_not_told() {
    let missing = 9;
    for (channel, what) in [
        (STDOUT, "dropped"),
        (STDOUT, "shut down"),
        (ERROR, "reset by the client"),
        (missing, "missing"),
    ] {
        let (config, summary) = watched();
        let mut client = says(
            config,
            words_on(channel),
            move |mut set: ChannelSet| async move {
                let mut stdout = set.take_writer(STDOUT).unwrap();
                sleep(millis(10)).await;
                match what {
                    "shut down" => stdout.shutdown().await?,
                    _ => drop(stdout),
                }
                sleep(millis(10)).await;
                Ok(())
            },
        )
        .await;
        client.open(&CHANNELS).await;
        if what == "reset by the client" {
            let frame = reset(client.stream(ERROR));
            client.spdy.bytes(&frame).await;
        }
        let told = client.read_to_end().await;
        drop(client);
        assert_eq!(told.output, <[Vec<u8>; 5]>::default(), "{what}");
        assert_eq!(code_of(summary).await, Some(1011), "{what}");
        assert_eq!(told.reset.contains(&ERROR), channel != ERROR, "{what}");
        assert_eq!(told.go_away, Some((5, 2)), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn words_for_a_client_without_streams_are_not_told() {
    let (config, summary) = watched();
    let mut client = says(config, words_on(ERROR), |set: ChannelSet| async move {
        drop(set);
        Ok(())
    })
    .await;
    let start = Instant::now();
    let told = client.read_to_end().await;
    drop(client);
    assert_after(start, secs(30));
    assert_eq!(told.output, <[Vec<u8>; 5]>::default());
    assert_eq!(told.go_away, Some((0, 2)));
    assert_eq!(code_of(summary).await, Some(1011));
}
