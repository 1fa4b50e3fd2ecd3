//! `AcceptMode::Explicit`: the answer waits until the service knows it.

use std::{
    future::{pending, poll_fn, ready},
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, sleep, timeout},
};
use tokio_test::{assert_pending, assert_ready, assert_ready_err};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, limit::GlobalConcurrencyLimitLayer, service_fn,
};
use tower_wsstream::{
    AcceptMode, BoxError, ChannelSet, ChannelWriter, EndCause, Rejection, RejectionKind, Session,
    SessionConfig, Status, WsStream, WsStreamLayer,
    remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
    subprotocols,
    testing::{Connect, Transcript},
};

use crate::support::{
    Answer, Dropped, EXACT, Head, HttpService, LONG, Wire, cause, frame, hold, read_head, refusal,
    refused, refused_by, secs, serve_in_memory, soon, standard, tasks,
};

fn layer() -> WsStreamLayer {
    standard().config(config())
}

fn config() -> SessionConfig {
    SessionConfig::default().accept(AcceptMode::Explicit)
}

type Serviced<F> = WsStream<tower::util::ServiceFn<F>>;

fn explicit<F, Fut>(function: F) -> Serviced<F>
where
    F: FnMut(ChannelSet) -> Fut,
    Fut: Future<Output = Result<(), BoxError>>,
{
    layer().layer(service_fn(function))
}

/// Makes the handshake, and reads everything.
async fn told(service: impl HttpService) -> Transcript {
    let client = soon(Connect::to("/").connect(service)).await.unwrap();
    soon(client.read_to_end()).await
}

/// Makes the handshake and gets no session.
async fn refused_with(service: impl HttpService, connect: Connect) -> (StatusCode, Status) {
    let refused = refused_by(connect, service).await;
    (refused.status(), refused.refusal().expect("a Status"))
}

// What the look-up finds.

/// A look-up that takes a while.
async fn look_up() {
    for _ in 0..3 {
        sleep(Duration::from_millis(700)).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_look_up_finds_is_the_answer_and_nothing_is_spawned_for_it() {
    type Found = fn() -> BoxError;
    let cases: [(Found, u16, RejectionKind, &str); 4] = [
        (
            || Rejection::new(StatusCode::NOT_FOUND, "no container \"web\"").into(),
            404,
            RejectionKind::Custom,
            "no container \"web\"",
        ),
        (
            || Status::failure("NotFound", "pods \"web\" not found", 404).into(),
            404,
            RejectionKind::Custom,
            "pods \"web\" not found",
        ),
        (
            || io::Error::other("password=hunter2").into(),
            500,
            RejectionKind::Internal,
            "",
        ),
        (
            || tower::timeout::error::Elapsed::new().into(),
            504,
            RejectionKind::NotReady,
            "",
        ),
    ];
    for (found, code, kind, message) in cases {
        let service = explicit(move |set: ChannelSet| async move {
            look_up().await;
            assert!(!set.session().is_accepted());
            Err(found())
        });
        let start = Instant::now();
        let refusal = refused(service, &Head::to("/"), code, kind).await;
        assert!(start.elapsed() >= Duration::from_millis(2100));
        assert!(refusal.message.contains(message), "{}", refusal.message);
        assert!(!refusal.message.contains("hunter2"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_the_answer_is_a_500() {
    for (at_once, in_drop) in [(true, false), (false, false), (true, true), (false, true)] {
        struct Bomb(bool);
        impl Drop for Bomb {
            fn drop(&mut self) {
                assert!(!self.0, "again, in the drop");
            }
        }
        let service = explicit(move |_set: ChannelSet| {
            // Held by the future beside its own frame, and so dropped with it.
            let mut bomb = Some(Bomb(in_drop));
            let mut look_up = Box::pin(look_up());
            poll_fn(move |cx| {
                let held = bomb.as_mut().is_some();
                if !at_once && look_up.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                assert!(!held, "password=hunter2");
                Poll::Ready(Ok(()))
            })
        });
        let refusal = refused(service, &Head::to("/"), 500, RejectionKind::Internal).await;
        assert!(!refusal.message.contains("hunter2"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_handle_elsewhere_learns_of_it() {
    let (gives, mut given) = mpsc::unbounded_channel();
    let service = explicit(move |mut set: ChannelSet| {
        let gives = gives.clone();
        async move {
            let handles = (
                set.take_reader(0).unwrap(),
                set.take_writer(1).unwrap(),
                set.session().clone(),
            );
            let _ = gives.send(handles);
            look_up().await;
            Err(Rejection::new(StatusCode::NOT_FOUND, "no").into())
        }
    });
    let (request, _wire) = hold(&Head::to("/")).await;
    let mut answer = tokio_test::task::spawn(service.oneshot(request));
    assert_pending!(answer.poll());
    let (mut reader, mut writer, session) = given.try_recv().unwrap();
    let mut read = tokio_test::task::spawn(async { reader.read_u8().await });
    let mut write = tokio_test::task::spawn(async { writer.write(b"never sent").await });
    let mut accept = tokio_test::task::spawn(async { session.ended().await });
    assert_pending!(read.poll());
    assert_pending!(write.poll());
    assert_pending!(accept.poll());
    let response = soon(&mut answer).await.unwrap();
    refusal(response, 404, RejectionKind::Custom).await;
    assert!(read.is_woken() && write.is_woken() && accept.is_woken());
    let error = assert_ready_err!(read.poll());
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(cause(&error), &EndCause::Aborted);
    let error = assert_ready_err!(write.poll());
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(cause(&error), &EndCause::Aborted);
    assert_eq!(assert_ready!(accept.poll()), EndCause::Aborted);
}

// Accepted.

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

/// What the client sends with its request waits for the session, too.
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

/// A service whose output is in the hands of the test, and that accepts when it
/// is told to.
struct Undecided {
    answer: Pin<Box<dyn Future<Output = Response<Answer>> + Send>>,
    wire: Wire,
    writer: ChannelWriter,
    session: Session,
}

/// One that waits for an acceptance from elsewhere.
async fn undecided() -> Undecided {
    let (gives, mut given) = mpsc::unbounded_channel();
    let service = explicit(move |mut set: ChannelSet| {
        let gives = gives.clone();
        async move {
            let session = set.session().clone();
            let _ = gives.send((set.take_writer(1).unwrap(), session));
            let _set = set;
            pending().await
        }
    });
    let (request, wire) = hold(&Head::to("/")).await;
    let mut answer: Pin<Box<dyn Future<Output = Response<Answer>> + Send>> =
        Box::pin(service.oneshot(request).map(Result::unwrap));
    let first = poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx).is_pending())).await;
    assert!(first, "undecided");
    let (writer, session) = given.try_recv().unwrap();
    Undecided {
        answer,
        wire,
        writer,
        session,
    }
}

impl Undecided {
    /// Lets the answer go out, and reads it.
    async fn accepted(self) -> (tokio::io::DuplexStream, ChannelWriter, Session) {
        let response = soon(self.answer).await;
        assert_eq!(response.status(), 101);
        let mut client = self.wire.answer(response);
        let head = soon(read_head(&mut client)).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        (client, self.writer, self.session)
    }
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

/// A writer of a session that is over.
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

/// Which call of `accept` it is does not matter, nor what becomes of its future.
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
        /// In the poll that called `accept`, and never waited for it.
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

// Too late.

#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_accept_is_a_504_that_says_what_is_missing() {
    let (drops, mut dropped) = mpsc::unbounded_channel();
    let service = layer()
        .config(config().accept_timeout(secs(4)))
        .layer(service_fn(move |set: ChannelSet| {
            let guard = Dropped(drops.clone());
            async move {
                let _guard = guard;
                set.session().ended().await;
                Ok::<_, BoxError>(())
            }
        }));
    let start = Instant::now();
    let refusal = refused(service, &Head::to("/"), 504, RejectionKind::NotReady).await;
    let at = start.elapsed();
    assert!(at >= secs(4) && at <= secs(4) + EXACT, "{at:?}");
    assert!(
        refusal.message.contains("Session::accept"),
        "{}",
        refusal.message
    );
    assert_eq!(refusal.reason, "Timeout");
    let dropped = dropped.try_recv().expect("dropped with the answer");
    assert!(dropped - start <= secs(4) + EXACT);
}

#[tokio::test(start_paused = true)]
async fn readiness_and_acceptance_share_their_time() {
    for (ready_after, accept_after, in_time) in [(3, 6, true), (6, 6, false), (0, 9, true)] {
        let places = Arc::new(Semaphore::new(1));
        let taken = Arc::clone(&places).acquire_owned().await.unwrap();
        tokio::spawn(async move {
            sleep(secs(ready_after)).await;
            drop(taken);
        });
        let service = ServiceBuilder::new()
            .layer(layer())
            .layer(GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(
                &places,
            )))
            .service_fn(move |set: ChannelSet| async move {
                sleep(secs(accept_after)).await;
                set.session().accept().await;
                Ok::<_, BoxError>(())
            });
        let (request, _wire) = hold(&Head::to("/")).await;
        let start = Instant::now();
        let response = service.oneshot(request).await.unwrap();
        let expected = secs(ready_after + accept_after).min(secs(10));
        let at = start.elapsed();
        assert!(at >= expected && at <= expected + EXACT, "{at:?}");
        if in_time {
            assert_eq!(response.status(), 101);
        } else {
            let refusal = refusal(response, 504, RejectionKind::NotReady).await;
            assert!(refusal.message.contains("Session::accept"));
            assert_eq!(places.available_permits(), 1, "its place is free again");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_acceptance_in_the_last_moment_is_one() {
    let service = layer()
        .config(config().accept_timeout(secs(4)))
        .layer(service_fn(async |set: ChannelSet| {
            sleep(Duration::from_millis(3999)).await;
            set.session().accept().await;
            sleep(secs(60)).await;
            Ok::<_, BoxError>(())
        }));
    let transcript = told(service).await;
    assert_eq!(
        transcript.close_code,
        Some(1000),
        "the timeout is over, too"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_before_the_answer_leaves_nothing_behind() {
    let (drops, mut dropped) = mpsc::unbounded_channel();
    let places = Arc::new(Semaphore::new(1));
    let service = ServiceBuilder::new()
        .layer(layer().config(config().accept_timeout(LONG)))
        .layer(GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(
            &places,
        )))
        .service_fn(move |set: ChannelSet| {
            let guard = Dropped(drops.clone());
            async move {
                let _guard = guard;
                set.session().ended().await;
                Ok::<_, BoxError>(())
            }
        });
    let before = tasks();
    let mut client = serve_in_memory(service);
    client.write_all(&Head::to("/").bytes()).await.unwrap();
    sleep(secs(20)).await;
    assert_eq!(tasks(), before + 1, "hyper's own");
    assert_eq!(places.available_permits(), 0);
    assert!(dropped.try_recv().is_err());
    drop(client);
    sleep(EXACT).await;
    assert!(dropped.try_recv().is_ok());
    assert_eq!(tasks(), before);
    assert_eq!(places.available_permits(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_dropped_takes_the_service_with_it() {
    let undecided = undecided().await;
    let before = tasks();
    let (mut writer, session) = (undecided.writer, undecided.session);
    drop(undecided.answer);
    let error = writer.write(b"x").await.unwrap_err();
    assert_eq!(cause(&error), &EndCause::Aborted);
    assert_eq!(soon(session.ended()).await, EndCause::Aborted);
    soon(session.accept()).await;
    assert!(!session.is_accepted(), "there is nothing to wait for");
    assert_eq!(tasks(), before);
}

// The mapping of errors.

/// Where an error comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum From {
    Readiness,
    FirstPoll,
    LaterPoll,
}

/// Fails with "secret" somewhere.
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

        // The mapping's own panic.
        let service = layer()
            .config(config().map_rejection(|_| panic!("password=hunter2")))
            .layer(Failing(from));
        let refusal = refused(service, &Head::to("/"), 500, RejectionKind::Internal).await;
        assert!(!refusal.message.contains("hunter2") && !refusal.message.contains("secret"));

        // The default one.
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

/// A later poll of `Immediate` is the end of a session, and no answer.
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

// Commands.

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

/// Behind the acceptance there is no answer that it could be, awaited or not.
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

/// Its ready message is queued already.
/// The budget takes it at once, though it leaves when the client is seen to read.
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
    // For this client output is held.
    let exec = exec(subprotocols::V5).header(header::USER_AGENT, "Go-http-client/1.1");
    let mut client = exec.connect(service).await.unwrap();
    // Does not answer the Ping that would end the hold.
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

// Ends that are asked for before the beginning.

#[tokio::test(start_paused = true)]
async fn a_close_before_the_acceptance_is_the_close_of_the_session() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Then {
        Accepts,
        Returns,
        Fails,
        Nothing,
    }
    for then in [Then::Accepts, Then::Returns, Then::Fails, Then::Nothing] {
        let service = explicit(move |mut set: ChannelSet| async move {
            let mut stdout = set.take_writer(1).unwrap();
            look_up().await;
            let session = set.session().clone();
            session.close(4000, "enough").unwrap();
            let error = stdout.write(b"x").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            match then {
                Then::Accepts => {
                    session.accept().await;
                    session.ended().await;
                    Ok(())
                }
                Then::Returns => Ok(()),
                Then::Fails => Err(Rejection::new(StatusCode::GONE, "gone").into()),
                Then::Nothing => pending().await,
            }
        });
        match then {
            Then::Accepts | Then::Returns => {
                let transcript = told(service).await;
                assert_eq!(transcript.close_code, Some(4000), "{then:?}");
                assert!(transcript.messages.is_empty());
                // Until the tasks of the connection are over.
                sleep(LONG).await;
            }
            Then::Fails => {
                refused(service, &Head::to("/"), 410, RejectionKind::Custom).await;
            }
            Then::Nothing => {
                refused(service, &Head::to("/"), 504, RejectionKind::NotReady).await;
            }
        }
    }
}
