//! From a valid handshake to a session: the first poll, the answer, the upgrade.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    future::{pending, poll_fn, ready},
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{Instant, timeout},
};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok};
use tokio_tungstenite::tungstenite::Message;
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, limit::GlobalConcurrencyLimitLayer, service_fn,
};
use tower_wsstream::{
    BoxError, Channel, ChannelProtocols, ChannelSet, ChannelType, ChannelWriter, EndCause,
    Rejection, RejectionKind, Session, SessionConfig, WsStreamLayer,
    body::{NoBody, ResponseBody},
    remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
    subprotocols,
    testing::{Connect, Received},
};

use crate::support::{
    ACCEPT, Answer, Dropped, Head, LONG, TOKEN, cause, frame, hold, read_head, refusal, serve,
    serve_in_memory, soon, sorted, speak, standard, tasks,
};

trait Inner:
    Service<ChannelSet, Response = (), Error = BoxError, Future: Send + 'static>
    + Clone
    + Send
    + 'static
{
}

impl<S> Inner for S where
    S: Service<ChannelSet, Response = (), Error = BoxError, Future: Send + 'static>
        + Clone
        + Send
        + 'static
{
}

/// A service that hands its channels to the test and stays.
fn handing() -> (impl Inner, mpsc::UnboundedReceiver<ChannelSet>) {
    let (sets, set) = mpsc::unbounded_channel();
    let service = service_fn(move |set: ChannelSet| {
        let _ = sets.send(set);
        pending::<Result<(), BoxError>>()
    });
    (service, set)
}

// The first poll.

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

/// kubectl would try SPDY, and print the answer to that.
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

// Its wakers.

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
    // The task is spawned and has not run: nothing was awaited since.
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

/// Its error is the service's code as well.
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

// What is dropped, and who learns of it.

#[tokio::test(start_paused = true)]
async fn an_answer_dropped_while_the_service_is_not_ready_gives_its_place_back() {
    let places = Arc::new(Semaphore::new(1));
    let (inner, mut sets) = handing();
    let service = ServiceBuilder::new()
        .layer(standard())
        .layer(GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(
            &places,
        )))
        .service(inner);
    let taken = Arc::clone(&places).acquire_owned().await.unwrap();

    let (request, wire) = hold(&Head::to("/")).await;
    let before = tasks();
    let mut answer = tokio_test::task::spawn(service.clone().oneshot(request));
    assert_pending!(answer.poll());
    drop(answer);
    drop(wire);
    drop(taken);
    assert_eq!(
        places.available_permits(),
        1,
        "nobody waits for it any more"
    );
    assert_eq!(tasks(), before);
    assert!(sets.try_recv().is_err(), "never called");

    // One that was never polled holds nothing at all.
    let (request, _wire) = hold(&Head::to("/")).await;
    let answer = service.oneshot(request);
    assert_eq!(places.available_permits(), 1);
    drop(answer);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_while_the_service_is_not_ready_gives_its_place_back() {
    let places = Arc::new(Semaphore::new(1));
    let (inner, _sets) = handing();
    let service = ServiceBuilder::new()
        .layer(standard())
        .layer(GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(
            &places,
        )))
        .service(inner);
    let taken = Arc::clone(&places).acquire_owned().await.unwrap();
    let before = tasks();
    let mut client = serve_in_memory(service);
    client.write_all(&Head::to("/").bytes()).await.unwrap();
    settle().await;
    assert_eq!(tasks(), before + 1, "hyper's own");
    drop(client);
    settle().await;
    assert_eq!(tasks(), before);
    drop(taken);
    assert_eq!(places.available_permits(), 1);
}

/// Lets everything run that can.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_dropped_when_ready_ends_the_session_and_gives_its_place_back() {
    let places = Arc::new(Semaphore::new(1));
    let (inner, mut sets) = handing();
    let service = ServiceBuilder::new()
        .layer(standard())
        .layer(GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(
            &places,
        )))
        .service(inner);
    let before = tasks();
    let (request, wire) = hold(&Head::to("/")).await;
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(places.available_permits(), 0, "a session holds its place");
    drop((response, wire));
    let set = sets.recv().await.unwrap();
    let cause = timeout(LONG, set.session().ended()).await.unwrap();
    assert!(matches!(cause, EndCause::UpgradeFailed { .. }), "{cause}");
    assert_eq!(places.available_permits(), 0, "it has its grace");
    tokio::time::sleep(Duration::from_secs(1)).await;
    settle().await;
    assert_eq!(places.available_permits(), 1);
    assert_eq!(tasks(), before);
}

type Boxed<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;
type Reading = tokio_test::task::Spawn<Boxed<u8>>;

/// Handles that were given away in a first poll, and a read that waits.
struct Given {
    session: Session,
    writer: ChannelWriter,
    reading: Reading,
}

fn give_away(mut set: ChannelSet) -> Given {
    let mut reader = set.take_reader(0).unwrap();
    let read: Boxed<u8> = Box::pin(async move { reader.read_u8().await });
    let mut reading = tokio_test::task::spawn(read);
    assert_pending!(reading.poll());
    Given {
        session: set.session().clone(),
        writer: set.take_writer(1).unwrap(),
        reading,
    }
}

fn assert_aborted(mut given: Given) {
    assert!(given.reading.is_woken());
    let error = assert_ready_err!(given.reading.poll());
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(cause(&error), &EndCause::Aborted);

    let mut writer = given.writer;
    let mut write = tokio_test::task::spawn(writer.write(b"x"));
    let error = assert_ready_err!(write.poll());
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(cause(&error), &EndCause::Aborted);

    let mut ended = tokio_test::task::spawn(given.session.ended());
    assert_eq!(assert_ready!(ended.poll()), EndCause::Aborted);
    assert!(!given.session.is_accepted());
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Refused {
    Fails,
    Panics,
    PanicsInCall,
}

#[tokio::test(start_paused = true)]
async fn handles_given_away_before_a_refusal_learn_of_it() {
    for how in [Refused::Fails, Refused::Panics, Refused::PanicsInCall] {
        let places = Arc::new(Semaphore::new(1));
        let (gives, mut given) = mpsc::unbounded_channel();
        let service = ServiceBuilder::new()
            .layer(standard())
            .layer(GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(
                &places,
            )))
            .service_fn(move |set: ChannelSet| {
                let _ = gives.send(give_away(set));
                assert!(how != Refused::PanicsInCall, "in the call");
                async move {
                    assert!(how != Refused::Panics, "in the first poll");
                    Err::<(), BoxError>("refused".into())
                }
            });
        let (request, _wire) = hold(&Head::to("/")).await;
        let before = tasks();
        let response = service.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 500, "{how:?}");
        assert_aborted(given.recv().await.unwrap());
        assert_eq!(places.available_permits(), 1, "{how:?}");
        assert_eq!(tasks(), before);
    }
}

/// An error in whose `source` a handle that was given away writes: the moment
/// between the first poll and its refusal, which another thread may hit.
struct Sly {
    writer: Mutex<ChannelWriter>,
    wrote: Arc<Mutex<Vec<bool>>>,
}

impl fmt::Debug for Sly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sly")
    }
}

impl fmt::Display for Sly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sly")
    }
}

impl Error for Sly {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let mut writer = self.writer.lock().unwrap();
        let cx = &mut Context::from_waker(Waker::noop());
        let write = Pin::new(&mut *writer).poll_write(cx, b"late");
        let accepted = matches!(write, Poll::Ready(Ok(_)));
        self.wrote.lock().unwrap().push(accepted);
        None
    }
}

#[tokio::test(start_paused = true)]

async fn no_write_is_accepted_once_a_refusal_is_decided() {
    let wrote = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&wrote);
    let service = standard().layer(service_fn(move |mut set: ChannelSet| {
        let sly = Sly {
            writer: Mutex::new(set.take_writer(1).unwrap()),
            wrote: Arc::clone(&notes),
        };
        ready(Err::<(), BoxError>(sly.into()))
    }));
    let (request, _wire) = hold(&Head::to("/")).await;
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 500);
    assert_eq!(
        *wrote.lock().unwrap(),
        [false],
        "what is accepted must be sent"
    );
}

/// A flush that is polled again from inside each wake, as another thread would.
struct Flush {
    future: Mutex<Option<Boxed<()>>>,
    result: Mutex<Option<io::Result<()>>>,
}

impl Flush {
    fn poll(self: &Arc<Self>) {
        let waker = Waker::from(Arc::clone(self));
        let mut future = self.future.lock().unwrap();
        if let Some(flush) = &mut *future
            && let Poll::Ready(result) = flush.as_mut().poll(&mut Context::from_waker(&waker))
        {
            *self.result.lock().unwrap() = Some(result);
            *future = None;
        }
    }
}

impl Wake for Flush {
    fn wake(self: Arc<Self>) {
        self.poll();
    }
}

#[test]

fn handles_outside_learn_that_the_runtime_is_gone() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (inner, mut sets) = handing();
    let service = standard().layer(inner);
    let client = runtime
        .block_on(Connect::to("/").buffer(256).connect(service))
        .unwrap();
    let mut set = sets.try_recv().unwrap();
    let session = set.session().clone();
    let mut writer = set.take_writer(1).unwrap();
    let mut reader = set.take_reader(0).unwrap();
    let mut read = tokio_test::task::spawn(async move { reader.read_u8().await });
    assert_pending!(read.poll());
    // More than the stream holds, so that a flush has to wait.
    runtime.block_on(writer.write_all(&[0; 4096])).unwrap();
    let flush = Arc::new(Flush {
        future: Mutex::new(Some(Box::pin(async move {
            writer.flush().await?;
            unreachable!("the client reads nothing");
        }))),
        result: Mutex::default(),
    });
    flush.poll();
    assert!(flush.result.lock().unwrap().is_none());

    drop(runtime);
    let mut ended = tokio_test::task::spawn(session.ended());
    assert_eq!(assert_ready!(ended.poll()), EndCause::Aborted);
    assert!(read.is_woken());
    let error = assert_ready_err!(read.poll());
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let result = flush.result.lock().unwrap().take();
    let error = result.expect("woken when it can be told").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(cause(&error), &EndCause::Aborted);
    drop(client);
}

/// Also where it keeps the session that keeps it.
#[tokio::test(start_paused = true)]

async fn last_words_that_are_not_said_are_dropped_with_the_session() {
    for refused in [true, false] {
        let (drops, mut dropped) = mpsc::unbounded_channel();
        let service = standard().layer(service_fn(move |set: ChannelSet| {
            let guard = Dropped(drops.clone());
            let session = set.session().clone();
            set.session().say_last(move |_| {
                let _ = (&guard, &session);
                None
            });
            async move {
                if refused {
                    return Err::<(), BoxError>("refused".into());
                }
                set.session().ended().await;
                Ok(())
            }
        }));
        let (request, wire) = hold(&Head::to("/")).await;
        let response = service.oneshot(request).await.unwrap();
        assert_eq!(response.status(), if refused { 500 } else { 101 });
        drop((response, wire));
        let gone = timeout(LONG, dropped.recv()).await;
        assert!(matches!(gone, Ok(Some(_))), "refused: {refused}");
    }
}

// The upgrade that does not come.

/// A service that tells the cause of the end, and does not go by itself.
fn staying() -> (
    impl Inner,
    mpsc::UnboundedReceiver<(EndCause, Instant)>,
    mpsc::UnboundedReceiver<Instant>,
) {
    let (tells, told) = mpsc::unbounded_channel();
    let (drops, dropped) = mpsc::unbounded_channel();
    let service = service_fn(move |set: ChannelSet| {
        let tells = tells.clone();
        let guard = Dropped(drops.clone());
        async move {
            let cause = set.session().ended().await;
            let _ = tells.send((cause, Instant::now()));
            pending::<()>().await;
            drop(guard);
            Ok::<_, BoxError>(())
        }
    });
    (service, told, dropped)
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_gone_before_the_101_is_lost_at_once() {
    let (inner, mut told, mut dropped) = staying();
    let service = standard().layer(inner);
    let before = tasks();
    let (request, wire) = hold(&Head::to("/")).await;
    let response = service.oneshot(request).await.unwrap();
    let started = Instant::now();
    drop((response, wire));
    let (cause, at) = soon(told.recv()).await.unwrap();
    assert!(matches!(cause, EndCause::UpgradeFailed { .. }), "{cause}");
    assert_eq!(at, started);
    let at = soon(dropped.recv()).await.unwrap();
    assert_eq!((at - started).as_millis() / 10, 100, "one second of grace");
    settle().await;
    assert_eq!(tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_never_handed_over_is_lost_in_time() {
    let short = || {
        standard().config(
            SessionConfig::default()
                .upgrade_timeout(Duration::from_secs(2))
                .grace(Duration::from_secs(3)),
        )
    };
    for (layer, upgrade, grace) in [(standard(), 10, 1), (short(), 2, 3)] {
        let (inner, mut told, mut dropped) = staying();
        let service = layer.layer(inner);
        let before = tasks();
        // Neither is driven on: no answer leaves, and no upgrade comes.
        let (request, _wire) = hold(&Head::to("/")).await;
        let _response = service.oneshot(request).await.unwrap();
        let started = Instant::now();
        let (cause, at) = soon(told.recv()).await.unwrap();
        let EndCause::UpgradeFailed { kind, .. } = cause else {
            panic!("{cause}");
        };
        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert_eq!((at - started).as_millis() / 10, upgrade * 100);
        let at = soon(dropped.recv()).await.unwrap();
        assert_eq!((at - started).as_millis() / 10, (upgrade + grace) * 100);
        settle().await;
        assert_eq!(tasks(), before);
    }
}

/// What was accepted meanwhile waits within its budget, and then fails.
#[tokio::test(start_paused = true)]
async fn handles_of_a_session_that_is_never_upgraded_wait_and_then_fail() {
    let (inner, mut sets) = handing();
    let (request, _wire) = hold(&Head::to("/")).await;
    let _response = standard().layer(inner).oneshot(request).await.unwrap();
    let mut set = sets.recv().await.unwrap();
    let mut writer = set.take_writer(1).unwrap();
    let mut reader = set.take_reader(0).unwrap();
    writer.write_all(&[0; 32 * 1024]).await.unwrap();
    let mut flush = tokio_test::task::spawn(async move {
        writer.flush().await.unwrap_err();
        writer.write(b"x").await.unwrap_err()
    });
    assert_pending!(flush.poll());
    let error = timeout(LONG, reader.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(flush.is_woken());
    let error = assert_ready!(flush.poll());
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(matches!(cause(&error), EndCause::UpgradeFailed { .. }));
}

/// "Never" is a duration too.
#[tokio::test(start_paused = true)]

async fn durations_without_end_do_not_panic() -> Result<(), BoxError> {
    let layer = standard().config(
        SessionConfig::default()
            .accept_timeout(Duration::MAX)
            .upgrade_timeout(Duration::MAX)
            .grace(Duration::MAX)
            .closed_grace(Duration::MAX)
            .close_timeout(Duration::MAX),
    );
    let service = layer.layer(service_fn(async |set: ChannelSet| {
        set.session().ended().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok::<_, BoxError>(())
    }));
    let mut client = Connect::to("/").connect(service).await?;
    client.close(None).await?;
    assert_eq!(
        timeout(LONG, client.receive()).await?,
        Received::Closed {
            code: None,
            reason: "".into()
        }
    );
    Ok(())
}

// Readiness and places.

#[tokio::test(start_paused = true)]
async fn what_is_no_upgrade_or_refused_by_its_head_takes_no_place() {
    let places = Arc::new(Semaphore::new(1));
    let (inner, _sets) = handing();
    let (fallback, mut requests) =
        tower_test::mock::pair::<Request<Incoming>, Response<http_body_util::Empty<Bytes>>>();
    let service = ServiceBuilder::new()
        .layer(standard().fallback(fallback))
        .layer(GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(
            &places,
        )))
        .service(inner);
    let (request, _wire) = hold(&Head::plain("/")).await;
    // Kept: what its readiness took, it would keep too.
    let mut kept = service.clone();
    let answer = tokio::spawn(kept.ready().await.unwrap().call(request));
    let (_request, respond) = requests.next_request().await.unwrap();
    assert_eq!(places.available_permits(), 1, "while the fallback works");
    respond.send_response(Response::new(http_body_util::Empty::new()));
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);

    // Not even where there is none.
    let _taken = places.acquire().await.unwrap();
    for head in [
        Head::to("/").offer("unknown"),
        Head::to("/").line("POST / HTTP/1.1"),
    ] {
        let (request, _wire) = hold(&head).await;
        let mut answer = tokio_test::task::spawn(service.clone().oneshot(request));
        let response = assert_ready_ok!(answer.poll());
        assert!(response.status().is_client_error());
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_is_the_fallbacks_alone() {
    type Fallback = tower_test::mock::Mock<Request<Incoming>, Response<ResponseBody<NoBody>>>;
    for inner_allows in [0, 1] {
        let (inner, mut inner_handle) = tower_test::mock::pair::<ChannelSet, ()>();
        let (fallback, mut handle): (Fallback, _) = tower_test::mock::pair();
        inner_handle.allow(inner_allows);
        handle.allow(0);
        let mut service = tokio_test::task::spawn(standard().fallback(fallback).layer(inner));
        let mut poll = || service.enter(|cx, mut service| service.poll_ready(cx));
        assert_pending!(poll());
        handle.allow(1);
        assert_ready_ok!(poll());
        inner_handle.send_error("the inner service is gone");
        assert_ready_ok!(poll());
        handle.send_error("the fallback is gone");
        assert_ready_err!(poll());
    }
}

// The answer.

async fn answered(head: &Head) -> (String, DuplexStream) {
    let service = standard().layer(service_fn(async |_: ChannelSet| {
        pending::<Result<(), BoxError>>().await
    }));
    let mut client = serve_in_memory(service);
    client.write_all(&head.bytes()).await.unwrap();
    (read_head(&mut client).await, client)
}

#[tokio::test(start_paused = true)]
async fn the_101_says_this_and_nothing_else() {
    let head = Head::to("/").with("Sec-WebSocket-Extensions", "permessage-deflate");
    for (head, selected) in [
        (head.clone(), None),
        (
            head.clone()
                .offer("x, base64.channel.k8s.io, channel.k8s.io"),
            Some("base64.channel.k8s.io"),
        ),
        (
            head.offer("base64url.bearer.authorization.k8s.io.c2VjcmV0")
                .offer("channel.k8s.io"),
            Some("channel.k8s.io"),
        ),
    ] {
        let (answer, _client) = answered(&head).await;
        let mut lines = answer.trim_end().lines();
        assert_eq!(lines.next(), Some("HTTP/1.1 101 Switching Protocols"));
        let mut lines: Vec<_> = lines.filter(|line| !line.starts_with("date: ")).collect();
        lines.sort_unstable();
        let accept = format!("sec-websocket-accept: {}", ACCEPT);
        let selected = selected.map(|name| format!("sec-websocket-protocol: {name}"));
        let mut expected = vec!["connection: Upgrade", &accept];
        expected.extend(selected.as_deref());
        expected.push("upgrade: websocket");
        assert_eq!(lines, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn the_body_of_the_101_is_at_its_end_and_says_so() {
    let (inner, _sets) = handing();
    let (request, _wire) = hold(&Head::to("/")).await;
    let response = standard().layer(inner).oneshot(request).await.unwrap();
    assert_eq!(sorted(response.headers()).len(), 3);
    assert!(response.body().is_end_stream());
    assert_eq!(response.body().size_hint().exact(), Some(0));
}

/// A handshake and frames behind it in one packet.
fn eager() -> Vec<u8> {
    let mut bytes = Head::to("/").bytes();
    bytes.extend(frame(true, 2, b"\x00early"));
    bytes.extend(frame(true, 2, b"\x00 frames"));
    bytes.extend(frame(true, 8, &1000u16.to_be_bytes()));
    bytes
}

fn echo_at_end() -> impl Inner {
    service_fn(async |mut set: ChannelSet| {
        let mut all = Vec::new();
        set.take_reader(0).unwrap().read_to_end(&mut all).await?;
        set.take_writer(1).unwrap().write_all(&all).await?;
        Ok::<_, BoxError>(())
    })
}

async fn hears_its_echo<T>(mut client: T)
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    client.write_all(&eager()).await.unwrap();
    let answer = read_head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"\x82\x0d\x01early frames\x88\x02\x03\xe8");
}

#[tokio::test(start_paused = true)]
async fn frames_in_the_packet_of_the_request_are_not_lost() {
    let client = serve_in_memory(standard().layer(echo_at_end()));
    timeout(LONG, hears_its_echo(client)).await.unwrap();
}

#[tokio::test]
async fn frames_in_the_packet_of_the_request_are_not_lost_over_tcp() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    serve(listener.accept().await?.0, standard().layer(echo_at_end()));
    timeout(Duration::from_secs(20), hears_its_echo(client)).await?;
    Ok(())
}

// What nobody may see.

fn with_token(target: &str) -> Connect {
    Connect::to(target)
        .offer(format!("base64url.bearer.authorization.k8s.io.{TOKEN}"))
        .header(http::header::AUTHORIZATION, format!("Bearer {TOKEN}"))
}

fn hides(what: &impl fmt::Debug) {
    for text in [format!("{what:?}"), format!("{what:#?}")] {
        assert!(!text.contains(TOKEN) && !text.contains("Bearer"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn debug_shows_no_credential() {
    let (inner, mut sets) = handing();
    let service = standard().layer(inner);
    hides(&service);
    let accepted = with_token("/").offer(subprotocols::CHANNEL);
    let _client = accepted.connect(service.clone()).await.unwrap();
    let mut set = sets.recv().await.unwrap();
    hides(&set);
    hides(set.session());
    hides(&set.take(0));
    hides(&set.into_channels());

    let head = Head::to("/").offer(&format!("base64url.bearer.authorization.k8s.io.{TOKEN}"));
    let (request, _wire) = hold(&head).await;
    let response = service.oneshot(request).await.unwrap();
    hides(&response);
    hides(response.extensions().get::<Rejection>().unwrap());
    assert!(
        !response
            .extensions()
            .get::<Rejection>()
            .unwrap()
            .to_string()
            .contains(TOKEN)
    );
    let refusal = refusal(response, 403, RejectionKind::NoCommonSubprotocol).await;
    hides(&refusal);
}

// The cases of Go's wsstream for connections.

fn go_table() -> WsStreamLayer {
    use ChannelType::{Ignore, Read, ReadWrite, Write};
    let channels = [ReadWrite, ReadWrite, Ignore, Read, Write];
    WsStreamLayer::new(ChannelProtocols::standard(channels).unwrap())
}

async fn open(subprotocol: Option<&str>) -> (tower_wsstream::testing::Client, ChannelSet) {
    let (inner, mut sets) = handing();
    let connect = Connect::to("/");
    let connect = match subprotocol {
        Some(name) => connect.offer(name),
        None => connect,
    };
    let client = connect.connect(go_table().layer(inner)).await.unwrap();
    assert_eq!(client.subprotocol(), subprotocol.unwrap_or_default());
    (client, sets.recv().await.unwrap())
}

async fn read(channel: &mut Channel) -> Vec<u8> {
    let mut buf = [0; 64];
    let n = timeout(LONG, channel.read(&mut buf))
        .await
        .expect("does not block");
    buf[..n.unwrap()].to_vec()
}

const TABLES: [Option<&str>; 3] = [
    None,
    Some(subprotocols::CHANNEL),
    Some(subprotocols::BASE64_CHANNEL),
];

#[tokio::test(start_paused = true)]
async fn channels_go_both_ways_by_their_type() -> Result<(), BoxError> {
    for subprotocol in TABLES {
        let (mut client, set) = open(subprotocol).await;
        let mut channels = set.into_channels();
        assert_eq!(channels.len(), 5);

        client.send(0, b"client").await?;
        assert_eq!(read(&mut channels[0]).await, b"client");
        channels[1].write_all(b"server").await?;
        assert_eq!(
            client.receive().await,
            Received::Message(1, Bytes::from("server"))
        );
        // The same the other way round: both are for both.
        channels[0].write_all(b"zero").await?;
        assert_eq!(
            client.receive().await,
            Received::Message(0, Bytes::from("zero"))
        );
        client.send(1, b"one").await?;
        assert_eq!(read(&mut channels[1]).await, b"one");
        // One direction each.
        client.send(3, b"three").await?;
        assert_eq!(read(&mut channels[3]).await, b"three");
        channels[4].write_all(b"four").await?;
        assert_eq!(
            client.receive().await,
            Received::Message(4, Bytes::from("four"))
        );
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_side_that_a_channel_does_not_have_blocks_nobody() -> Result<(), BoxError> {
    for subprotocol in TABLES {
        let (mut client, set) = open(subprotocol).await;
        let mut channels = set.into_channels();
        // More than any budget, so that something that waits would show.
        let large = vec![0; 512 * 1024];
        for id in [2, 3] {
            timeout(LONG, channels[id].write_all(&large)).await??;
            timeout(LONG, channels[id].flush()).await??;
        }
        for id in [2, 4] {
            assert_eq!(read(&mut channels[id]).await, b"");
            for piece in large.chunks(32 * 1024) {
                timeout(LONG, client.send(u8::try_from(id)?, piece)).await??;
            }
            assert_eq!(read(&mut channels[id]).await, b"");
        }
        // Nothing of it was sent, and nothing of it was taken for another's.
        client.send(0, b"after").await?;
        assert_eq!(read(&mut channels[0]).await, b"after");
        channels[1].write_all(b"after").await?;
        assert_eq!(
            client.receive().await,
            Received::Message(1, Bytes::from("after"))
        );
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_typed_set_gives_only_the_sides_there_are() {
    let (_client, mut set) = open(None).await;
    let sides = [
        (true, true),
        (true, true),
        (false, false),
        (true, false),
        (false, true),
    ];
    for (id, (reads, writes)) in (0..).zip(sides) {
        assert_eq!(set.take_reader(id).is_some(), reads, "{id}");
        assert_eq!(set.take_writer(id).is_some(), writes, "{id}");
        assert!(
            set.take(id).is_none() && set.take_reader(id).is_none(),
            "taken: {id}"
        );
    }
    assert!(set.take(5).is_none() && set.take(255).is_none());
}

/// As bytes, because the client of the other tests decodes by our own rules.
#[tokio::test(start_paused = true)]
async fn messages_of_both_encodings_byte_by_byte() {
    for (subprotocol, sent, received) in [
        (
            subprotocols::CHANNEL,
            Message::binary(&b"\x00client"[..]),
            Message::binary(&b"\x01server"[..]),
        ),
        (
            subprotocols::CHANNEL,
            Message::text("\0client"),
            Message::binary(&b"\x01server"[..]),
        ),
        (
            subprotocols::BASE64_CHANNEL,
            Message::text("0Y2xpZW50"),
            Message::text("1c2VydmVy"),
        ),
        (
            subprotocols::BASE64_CHANNEL,
            Message::binary(&b"0Y2xpZW50"[..]),
            Message::text("1c2VydmVy"),
        ),
    ] {
        let (inner, mut sets) = handing();
        let mut client = serve_in_memory(go_table().layer(inner));
        client
            .write_all(&Head::to("/").offer(subprotocol).bytes())
            .await
            .unwrap();
        read_head(&mut client).await;
        let mut client = speak(client).await;
        let mut channels = sets.recv().await.unwrap().into_channels();
        client.send(sent).await.unwrap();
        assert_eq!(read(&mut channels[0]).await, b"client");
        channels[1].write_all(b"server").await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), received);
    }
}
