//! Values that are dropped before the answer, and the handles that learn of it.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_answer_dropped_while_the_service_is_not_ready_gives_its_place_back() {
    let (inner, mut sets) = handing();
    let (service, places) = with_one_place(standard(), inner);
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
        "no session waits for it any more"
    );
    assert_eq!(tasks(), before);
    assert!(sets.try_recv().is_err(), "never called");

    // A future that was never polled holds nothing.
    let (request, _wire) = hold(&Head::to("/")).await;
    let answer = service.oneshot(request);
    assert_eq!(places.available_permits(), 1);
    drop(answer);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_while_the_service_is_not_ready_gives_its_place_back() {
    let (inner, _sets) = handing();
    let (service, places) = with_one_place(standard(), inner);
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

#[tokio::test(start_paused = true)]
async fn an_answer_dropped_when_ready_ends_the_session_and_gives_its_place_back() {
    let (inner, mut sets) = handing();
    let (service, places) = with_one_place(standard(), inner);
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

/// The handles that were given away in a first poll, with a pending read.
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
        let (gives, mut given) = mpsc::unbounded_channel();
        let inner = service_fn(move |set: ChannelSet| {
            let _ = gives.send(give_away(set));
            assert!(how != Refused::PanicsInCall, "in the call");
            async move {
                assert!(how != Refused::Panics, "in the first poll");
                Err::<(), BoxError>("refused".into())
            }
        });
        let (service, places) = with_one_place(standard(), inner);
        let (request, _wire) = hold(&Head::to("/")).await;
        let before = tasks();
        let response = service.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 500, "{how:?}");
        assert_aborted(given.recv().await.unwrap());
        assert_eq!(places.available_permits(), 1, "{how:?}");
        assert_eq!(tasks(), before);
    }
}

/// An error that writes in its `source`, through a handle that was given away. This is the moment
/// between the first poll and the refusal, which another thread may hit.
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

/// A flush that is polled again within each wake-up, as another thread might do.
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
    // More than the stream holds, so a flush has to wait.
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

/// Last words may own the session that owns them.
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
