//! Sessions that were accepted.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_is_written_after_the_acceptance_arrives_in_order() {
    let service = explicit(async |mut set: ChannelSet| {
        let mut stdin = set.take_reader(0).unwrap();
        let mut stdout = set.take_writer(1).unwrap();
        look_up().await;
        assert!(!set.session().is_accepted());
        set.session().accept().await;
        assert!(set.session().is_accepted());
        stdout.write_all(b"one ").await?;
        stdout.send(Bytes::from("two ")).await?;
        let mut line = [0; 6];
        stdin.read_exact(&mut line).await?;
        stdout.write_all(&line).await?;
        Ok(())
    });
    let before = tasks();
    let mut client = soon(Connect::to("/").connect(service)).await.unwrap();
    client.send(0, b"three ").await.unwrap();
    let transcript = soon(client.read_to_end()).await;
    assert_eq!(transcript.channel(1), b"one two three ");
    assert_eq!(transcript.close_code, Some(1000));
    sleep(LONG).await;
    assert_eq!(tasks(), before);
}

/// Data that the client sends with its request waits for the session.
#[tokio::test(start_paused = true)]
async fn nothing_but_the_answer_leaves_before_it_and_early_bytes_are_kept() {
    let service = explicit(async |mut set: ChannelSet| {
        let mut stdin = set.take_reader(0).unwrap();
        let mut stdout = set.take_writer(1).unwrap();
        sleep(secs(3)).await;
        set.session().accept().await;
        let mut early = [0; 5];
        stdin.read_exact(&mut early).await?;
        stdout.write_all(&early).await?;
        Ok(())
    });
    let mut client = serve_in_memory(service);
    let mut bytes = Head::to("/").bytes();
    bytes.extend(frame(true, 2, b"\0early"));
    client.write_all(&bytes).await.unwrap();
    let mut byte = [0];
    let nothing = timeout(Duration::from_millis(2990), client.read(&mut byte)).await;
    assert!(nothing.is_err(), "{nothing:?}");
    let head = timeout(secs(1), read_head(&mut client)).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let mut message = [0; 8];
    soon(client.read_exact(&mut message)).await.unwrap();
    assert_eq!(&message, b"\x82\x06\x01early");
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_for_the_acceptance_and_is_woken_by_it() {
    let mut undecided = undecided().await;
    let (give, writer) = oneshot::channel();
    let mut writer_1 = std::mem::replace(&mut undecided.writer, unusable().await);
    let session = undecided.session.clone();
    let writing = tokio::spawn(async move {
        writer_1.write_all(b"written").await.unwrap();
        assert!(session.is_accepted());
        writer_1.send(Bytes::from("sent")).await.unwrap();
        writer_1.flush().await.unwrap();
        let _ = give.send(writer_1);
    });
    sleep(secs(5)).await;
    assert!(!writing.is_finished(), "it waits");
    let session = undecided.session.clone();
    let accepting = tokio::spawn(async move { session.accept().await });
    let (mut client, _, _) = undecided.accepted().await;
    soon(writing).await.unwrap();
    soon(accepting).await.unwrap();
    let mut all = [0; 16];
    soon(client.read_exact(&mut all)).await.unwrap();
    assert_eq!(&all, b"\x82\x08\x01written\x82\x05\x01sent"[..16].as_ref());
    drop(writer);
}

#[tokio::test(start_paused = true)]
async fn an_acceptance_elsewhere_is_answered_at_once() {
    let undecided = undecided().await;
    let mut answer = tokio_test::task::spawn(undecided.answer);
    assert_pending!(answer.poll());
    let mut accept = tokio_test::task::spawn(undecided.session.accept());
    assert_pending!(accept.poll());
    assert!(answer.is_woken(), "not first at the accept timeout");
    assert_eq!(assert_ready!(answer.poll()).status(), 101);
    assert!(accept.is_woken());
    assert_ready!(accept.poll());
}

/// Returns a writer of a session that is over.
async fn unusable() -> ChannelWriter {
    let (gives, mut given) = mpsc::unbounded_channel();
    let service = explicit(move |mut set: ChannelSet| {
        let _ = gives.send(set.take_writer(1).unwrap());
        ready(Err("refused".into()))
    });
    refused(service, &Head::to("/"), 500, RejectionKind::Internal).await;
    given.recv().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn sends_and_writes_before_the_acceptance_wait_and_are_not_lost_when_dropped() {
    for sends in [false, true] {
        let mut undecided = undecided().await;
        let writer = &mut undecided.writer;
        let attempt = async {
            match sends {
                true => writer.send(Bytes::from("dropped")).await.map(|()| 7),
                false => writer.write(b"dropped").await,
            }
        };
        let early = timeout(secs(3), attempt).await;
        assert!(early.is_err(), "{early:?}");
        // Nothing was accepted, so there is nothing to flush.
        timeout(EXACT, writer.flush()).await.unwrap().unwrap();
        let session = undecided.session.clone();
        tokio::spawn(async move { session.accept().await });
        let (mut client, mut writer, _) = undecided.accepted().await;
        writer.write_all(b"later").await.unwrap();
        let mut all = [0; 8];
        soon(client.read_exact(&mut all)).await.unwrap();
        assert_eq!(&all, b"\x82\x06\x01later", "the dropped one sent nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_returns_ok_has_accepted() {
    for at_once in [true, false] {
        let transcript = told(explicit(move |_set: ChannelSet| async move {
            if !at_once {
                look_up().await;
            }
            Ok(())
        }))
        .await;
        assert!(transcript.messages.is_empty());
        assert_eq!(transcript.close_code, Some(1000));
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_waits_elsewhere_is_accepted_when_the_service_returns_ok() {
    let transcript = told(explicit(|mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(1).unwrap();
        tokio::spawn(async move { stdout.write_all(b"waited").await });
        look_up().await;
        Ok(())
    }))
    .await;
    assert_eq!(transcript.channel(1), b"waited");
    assert_eq!(transcript.close_code, Some(1000));
}

/// It does not matter which call of `accept` it is, or what becomes of its future.
#[tokio::test(start_paused = true)]
async fn accept_may_be_called_in_any_way() {
    #[derive(Clone, Copy, Debug)]
    enum How {
        Twice,
        AtOnce,
        DroppedAfterItsFirstPoll,
        InAnotherTask,
        InManyTasks,
        BesideAWrite,
    }
    for how in [
        How::Twice,
        How::AtOnce,
        How::DroppedAfterItsFirstPoll,
        How::InAnotherTask,
        How::InManyTasks,
        How::BesideAWrite,
    ] {
        let transcript = told(explicit(move |mut set: ChannelSet| async move {
            let mut stdout = set.take_writer(1).unwrap();
            let session = set.session().clone();
            match how {
                How::AtOnce => session.accept().await,
                _ => look_up().await,
            }
            match how {
                How::AtOnce => {}
                How::Twice => {
                    session.accept().await;
                    timeout(EXACT, session.accept()).await?;
                }
                How::DroppedAfterItsFirstPoll => {
                    let cx = &mut Context::from_waker(Waker::noop());
                    assert!(pin!(session.accept()).poll(cx).is_pending());
                }
                How::InAnotherTask => {
                    tokio::spawn(async move { session.accept().await }).await?;
                }
                How::InManyTasks => {
                    let accepting = (0..5).map(|_| {
                        let session = session.clone();
                        tokio::spawn(async move { session.accept().await })
                    });
                    for accepting in accepting.collect::<Vec<_>>() {
                        accepting.await?;
                    }
                }
                How::BesideAWrite => {
                    let (written, ()) = tokio::join!(stdout.write(b"!"), session.accept());
                    assert_eq!(written?, 1);
                }
            }
            stdout.write_all(format!("{how:?}").as_bytes()).await?;
            Ok(())
        }))
        .await;
        let text = String::from_utf8(transcript.channel(1)).unwrap();
        assert_eq!(text.trim_start_matches('!'), format!("{how:?}"));
        assert_eq!(transcript.close_code, Some(1000));
    }
}

#[tokio::test(start_paused = true)]
async fn accept_does_nothing_where_it_is_not_waited_for() {
    let service = layer()
        .config(config().accept(AcceptMode::Immediate))
        .layer(service_fn(async |mut set: ChannelSet| {
            let mut stdout = set.take_writer(1).unwrap();
            stdout.write_all(b"before ").await?;
            set.session().accept().await;
            assert!(set.session().is_accepted());
            timeout(EXACT, set.session().accept()).await?;
            stdout.write_all(b"behind").await?;
            Ok::<_, BoxError>(())
        }));
    let transcript = told(service).await;
    assert_eq!(transcript.channel(1), b"before behind");
    assert_eq!(transcript.close_code, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn an_error_after_the_acceptance_is_the_end_of_a_session() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum When {
        /// Dropped in the poll that called `accept`, and never awaited.
        InThatPoll,
        Resolved,
        Later,
    }
    for when in [When::InThatPoll, When::Resolved, When::Later] {
        for panics in [false, true] {
            let transcript = told(explicit(move |set: ChannelSet| async move {
                look_up().await;
                let mut accept = pin!(set.session().accept());
                if when == When::InThatPoll {
                    let first = poll_fn(|cx| Poll::Ready(accept.as_mut().poll(cx))).await;
                    assert!(first.is_pending());
                } else {
                    accept.await;
                }
                if when == When::Later {
                    look_up().await;
                }
                assert!(!panics, "accepted, and then");
                Err::<(), BoxError>(Rejection::new(StatusCode::NOT_FOUND, "too late").into())
            }))
            .await;
            assert_eq!(transcript.close_code, Some(1011), "{when:?} {panics}");
        }
    }
}
