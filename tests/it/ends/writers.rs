//! Writers that outlive their service.

use super::*;

/// Returns a service that moves its writer into a task, which writes every 300 ms.
fn writing_task(how: How, writes: u64) -> impl FnOnce(ChannelSet) -> Finish + Send + 'static {
    move |mut set: ChannelSet| {
        let mut stdout = set.take_writer(1).unwrap();
        set.session()
            .say_last(|_| Some(LastWords::new(3, "status")));
        drop(set);
        tokio::spawn(async move {
            for _ in 0..writes {
                sleep(millis(300)).await;
                if stdout.write_all(b".").await.is_err() {
                    return;
                }
            }
        });
        Box::pin(async move {
            sleep(millis(1)).await;
            finish(how).await
        })
    }
}

type Finish = std::pin::Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

#[tokio::test(start_paused = true)]
async fn writers_of_other_tasks_keep_a_session_open_after_ok() {
    let mut client = open(once(writing_task(How::Ok, 100)), subprotocols::V5).await;
    let start = Instant::now();
    let told = within(LONG, client.read_to_end()).await;
    assert_after(start, secs(30));
    assert_eq!(told.channel(1).len(), 100);
    assert_eq!(told.messages.last(), Some(&(3, b"status".to_vec())));
    assert_eq!(told.close, Some(Some(1000)));
}

#[tokio::test(start_paused = true)]
async fn writers_of_other_tasks_have_the_grace_after_an_error() {
    for how in [How::Err, How::Panic] {
        let mut client = open(once(writing_task(how, 100)), subprotocols::V5).await;
        let start = Instant::now();
        let told = within(LONG, client.read_to_end()).await;
        assert_after(start, millis(1001));
        assert_eq!(told.channel(1).len(), 3);
        assert_eq!(told.messages.last(), Some(&(3, b"status".to_vec())));
        assert_eq!(told.close, Some(Some(1000)));
        // Without writers there is nothing to wait for.
        let mut client = open(once(writing_task(how, 2)), subprotocols::V5).await;
        let start = Instant::now();
        let told = within(LONG, client.read_to_end()).await;
        assert_after(start, millis(600));
        assert_eq!(told.channel(1).len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn writers_of_other_tasks_have_the_grace_after_an_error_behind_a_clean_close() {
    let service = once(|mut set: ChannelSet| async move {
        let stdout = set.take_writer(1).unwrap();
        let ended = set.session().ended();
        drop(set);
        tokio::spawn(async move {
            let _held = stdout;
            sleep(LONG).await;
        });
        ended.await;
        Err("failed on purpose".into())
    });
    let mut client = open(service, subprotocols::V4).await;
    let start = Instant::now();
    client.close(Some(1000)).await.unwrap();
    within(LONG, client.read_to_end()).await;
    assert_after(start, secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_shut_down_writer_keeps_nothing_open() {
    let service = once(|mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(1).unwrap();
        drop(set);
        tokio::spawn(async move {
            stdout.write_all(b"all").await.unwrap();
            stdout.shutdown().await.unwrap();
            let error = stdout.write_all(b"more").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            sleep(LONG).await;
        });
        Ok(())
    });
    let mut client = open(service, subprotocols::V5).await;
    let start = Instant::now();
    let told = within(LONG, client.read_to_end()).await;
    assert_after(start, Duration::ZERO);
    assert_eq!(
        (told.text(1).as_str(), told.close),
        ("all", Some(Some(1000)))
    );
}

#[tokio::test(start_paused = true)]
async fn a_live_reader_or_session_keeps_nothing_open() {
    let (ends, end) = oneshot::channel();
    let service = once(|mut set: ChannelSet| async move {
        let mut stdin = set.take_reader(0).unwrap();
        let session = set.session().clone();
        tokio::spawn(async move {
            let (_, end) = read_out(&mut stdin).await;
            ends.send((end, session.ended().await)).unwrap();
        });
        Ok(())
    });
    let mut client = open(service, subprotocols::V4).await;
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1000)));
    let (end, cause) = within(LONG, end).await.unwrap();
    let aborted = io::ErrorKind::ConnectionAborted;
    assert_eq!(end, End::Error(aborted, EndCause::Completed));
    assert_eq!(cause, EndCause::Completed);
}

#[tokio::test(start_paused = true)]
async fn dropping_every_handle_keeps_what_was_accepted_in_order() {
    for subprotocol in ALL {
        for capacity in [1, 100, 4096, 256 * 1024] {
            let service = once(|mut set: ChannelSet| async move {
                set.session()
                    .say_last(|_| Some(LastWords::new(3, "status")));
                let mut stdout = set.take_writer(1).unwrap();
                let mut stderr = set.take_writer(2).unwrap();
                drop(set);
                for n in 0..40_u8 {
                    stdout.write_all(&[n; 700]).await?;
                    stderr.send(vec![n; 300]).await?;
                }
                stdout.send(vec![b'x'; 40_000]).await?;
                Ok(())
            });
            let mut client = open_with(service, subprotocol, capacity).await;
            let told = within(LONG, client.read_to_end()).await;
            let mut expected = Vec::new();
            for n in 0..40_u8 {
                expected.push((1, vec![n; 700]));
                expected.push((2, vec![n; 300]));
            }
            expected.push((1, vec![b'x'; 40_000]));
            expected.push((3, b"status".to_vec()));
            assert!(
                told.messages == expected,
                "{subprotocol:?} over {capacity} bytes"
            );
            assert_eq!(told.close, Some(Some(1000)));
        }
    }
}
