//! A client's streams, a service, and the frames that come of it.

use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    io,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
    time::{advance, sleep},
};
use tokio_test::task::{Spawn, spawn};
use tower::{ServiceBuilder, limit::GlobalConcurrencyLimitLayer, service_fn};
use tower_layer::Layer;

use super::*;
use crate::{
    channel::tap::Taps,
    portforward::{ForwardError, PortForward, PortForwardLayer},
    streams::tests::Session as Client,
};

/// A client, and the service that it is connected to.
struct Rig<S>
where
    S: Service<ForwardedPort, Response = ()> + Clone,
    S::Error: Into<BoxError>,
{
    client: Client,
    tunnel: Spawn<Running<S>>,
    done: Option<Result<(), BoxError>>,
}

/// A tunnel as a future.
struct Running<S: Service<ForwardedPort>>(Tunnel<S, S::Future>);

impl<S: Service<ForwardedPort>> Unpin for Running<S> {}

impl<S> Future for Running<S>
where
    S: Service<ForwardedPort, Response = ()> + Clone,
    S::Error: Into<BoxError>,
{
    type Output = Result<(), BoxError>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx)
    }
}

impl<S> Rig<S>
where
    S: Service<ForwardedPort, Response = ()> + Clone,
    S::Error: Into<BoxError>,
{
    fn new(service: S, go_errors: bool) -> Self {
        let (client, new) = Client::ports();
        let session = Session::new(Arc::clone(&client.wire));
        let taps = Taps::default();
        let tunnel = Tunnel::new(service, session, None, TappedPairs { new, taps }, go_errors);
        let mut rig = Self {
            client,
            tunnel: spawn(Running(tunnel)),
            done: None,
        };
        rig.poll();
        rig
    }

    fn poll(&mut self) {
        if let Poll::Ready(result) = self.tunnel.poll() {
            self.done = Some(result);
        }
    }

    /// Runs rounds for as long as there is something to do, and returns the frames that are sent.
    fn run(&mut self) -> Vec<String> {
        let mut sent = self.client.round();
        for _ in 0..100 {
            if self.done.is_some() || !self.tunnel.is_woken() {
                return sent;
            }
            self.poll();
            sent.extend(self.client.round());
        }
        panic!("the tunnel wakes itself again and again");
    }

    /// Opens the two streams of a connection, and returns the frames that are sent behind the reply
    /// to the first.
    fn connect(&mut self, error: u32) -> Vec<String> {
        self.client.open(error, "error", &error.to_string());
        assert_eq!(self.run(), [format!("reply {error}")]);
        self.client.open(error + 2, "data", &error.to_string());
        self.run()
    }

    /// Lets time pass, also for the tasks that the service has spawned.
    async fn pass(&mut self, time: Duration) -> Vec<String> {
        advance(time).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        self.run()
    }
}

fn rig<F, Fut>(
    function: F,
) -> Rig<impl Service<ForwardedPort, Response = (), Error = BoxError, Future = Fut> + Clone>
where
    F: FnMut(ForwardedPort) -> Fut + Clone,
    Fut: Future<Output = Result<(), BoxError>>,
{
    Rig::new(service_fn(function), false)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The way in which a service uses its stream at first.
#[derive(Clone, Copy, Debug)]
enum Use {
    Read,
    Write,
    Flush,
    ShutDown,
    DropWriter,
    DropReader,
    Drop,
}

#[tokio::test(start_paused = true)]
async fn reply_waits_for_the_first_read_or_write() {
    use Use::{Drop, DropReader, DropWriter, Flush, Read, ShutDown, Write};
    for (kind, expected) in [
        (Read, &["reply 3"][..]),
        (Write, &["reply 3", "data 3 x"]),
        (Flush, &["reply 3"]),
        (ShutDown, &["reply 3", "fin 3", "fin 1"]),
        (DropWriter, &["reply 3", "fin 3", "fin 1"]),
        (Drop, &["reply 3", "fin 3", "fin 1"]),
        (DropReader, &[]),
    ] {
        let gate = Arc::new(Semaphore::new(0));
        let open = Arc::clone(&gate);
        let mut rig = rig(move |mut port: ForwardedPort| {
            let gate = Arc::clone(&gate);
            async move {
                assert_eq!((port.port, port.index), (80, 0));
                assert!(port.has_half_close());
                gate.acquire().await?.forget();
                match kind {
                    Read => drop(port.stream.read_u8().await?),
                    Write => port.stream.write_all(b"x").await?,
                    Flush => port.stream.flush().await?,
                    ShutDown => port.stream.shutdown().await?,
                    DropWriter => {
                        let (_reader, writer) = port.stream.into_split();
                        drop(writer);
                        pending().await
                    }
                    DropReader => {
                        let (reader, _writer) = port.stream.into_split();
                        drop(reader);
                        pending().await
                    }
                    Drop => drop(port.stream),
                }
                pending().await
            }
        });
        assert!(rig.connect(1).is_empty(), "{kind:?}");
        assert!(rig.pass(millis(500)).await.is_empty(), "{kind:?}");
        open.add_permits(1);
        assert_eq!(rig.run(), expected, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_not_left_without_an_answer() {
    let mut rig = rig(async |_port: ForwardedPort| pending().await);
    assert!(rig.connect(1).is_empty());
    assert!(rig.pass(millis(18_999)).await.is_empty());
    assert_eq!(rig.pass(millis(1)).await, ["reply 3"]);
    assert!(rig.pass(millis(60_000)).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stream_in_another_task_is_seen_after_a_moment() {
    for writes in [true, false] {
        let mut rig = rig(move |mut port: ForwardedPort| async move {
            tokio::spawn(async move {
                sleep(millis(100)).await;
                if writes {
                    port.stream.write_all(b"x").await.unwrap();
                }
                let _ = port.stream.read_u8().await;
            });
            pending().await
        });
        assert!(rig.connect(1).is_empty());
        for wait in [0, 50, 49] {
            assert!(rig.pass(millis(wait)).await.is_empty());
        }
        // A writer asks, but a reader has to be looked for.
        let mut sent = rig.pass(millis(if writes { 1 } else { 80 })).await;
        sent.extend(rig.pass(millis(0)).await);
        let expected = &["reply 3", "data 3 x"];
        assert_eq!(sent, expected[..if writes { 2 } else { 1 }]);
    }
}

/// The way in which a service fails.
#[derive(Clone, Copy, Debug)]
enum How {
    Error,
    Panic,
    PanicInCall,
    PanicInDrop,
    Refusal,
    Target,
    TargetInside,
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("panicked in its drop, on purpose");
    }
}

async fn fail(how: How) -> Result<(), BoxError> {
    match how {
        How::Error => Err(io::Error::from(io::ErrorKind::ConnectionRefused).into()),
        How::Panic | How::PanicInCall => panic!("panicked on purpose"),
        How::PanicInDrop => {
            let _note = PanicsWhenDropped;
            Err("failed".into())
        }
        How::Refusal => Err(tower::load_shed::error::Overloaded::new().into()),
        How::Target => Err(ForwardError::target("pod web is gone").into()),
        How::TargetInside => Err(io::Error::other(ForwardError::target("pod web is gone")).into()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_dial_takes_the_place_of_the_reply() {
    for (how, wait) in [
        (How::Error, 0),
        (How::Error, 1),
        (How::Panic, 0),
        (How::PanicInCall, 0),
        (How::PanicInDrop, 1),
        (How::Refusal, 0),
    ] {
        let mut rig = rig(move |port: ForwardedPort| {
            if let How::PanicInCall = how {
                panic!("panicked on purpose");
            }
            async move {
                let _port = port;
                if wait > 0 {
                    sleep(millis(wait)).await;
                }
                fail(how).await
            }
        });
        let mut sent = rig.connect(1);
        sent.extend(rig.pass(millis(wait)).await);
        sent.sort();
        assert_eq!(sent, ["fin 1", "rst 3 3"], "{how:?}");
        assert!(rig.done.is_none(), "the tunnel goes on");
        assert!(!rig.connect(5).contains(&"reply 7".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn text_ends_kubectl_and_only_the_target_says_it() {
    const TEXT: &str = "data 1 error forwarding port 80: ";
    for (how, go_errors, text) in [
        (How::Error, false, None),
        (How::Panic, false, None),
        (How::Target, false, Some("pod web is gone")),
        (How::TargetInside, false, Some("pod web is gone")),
        (How::Error, true, Some("connection refused")),
        (How::Panic, true, Some("the port's service failed")),
        (How::Target, true, Some("pod web is gone")),
    ] {
        for answered in [false, true] {
            let service = service_fn(move |mut port: ForwardedPort| async move {
                if answered {
                    port.stream.write_all(b"some").await?;
                }
                fail(how).await
            });
            let mut rig = Rig::new(service, go_errors);
            let sent = rig.connect(1);
            let mut expected = Vec::new();
            if answered {
                expected.extend(["reply 3".to_owned(), "data 3 some".to_owned()]);
            } else if text.is_some() {
                expected.push("reply 3".to_owned());
            }
            expected.extend(text.map(|text| format!("{TEXT}{text}")));
            let (begin, end) = sent.split_at(expected.len());
            assert_eq!(begin, expected, "{how:?} {sent:?}");
            let mut end = end.to_vec();
            end.sort();
            let status = if answered || text.is_some() { 5 } else { 3 };
            assert_eq!(
                end,
                ["fin 1".to_owned(), format!("rst 3 {status}")],
                "{how:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_in_order_with_its_service() {
    for writes in [false, true] {
        let mut rig = rig(move |mut port: ForwardedPort| async move {
            if writes {
                port.stream.write_all(b"all").await?;
            }
            Ok(())
        });
        let mut sent = rig.connect(1);
        let data = sent.iter().position(|frame| frame == "data 3 all");
        let reply = sent.iter().position(|frame| frame == "reply 3");
        let fin = sent.iter().position(|frame| frame == "fin 3");
        assert_eq!(data.is_some(), writes);
        assert!(reply < fin && data <= fin, "{sent:?}");
        sent.sort();
        assert_eq!(sent[sent.len() - 3..], ["fin 1", "fin 3", "reply 3"]);
    }
}

/// Panics when it is cloned, unless it has clones left.
struct Fragile(Arc<AtomicUsize>);

impl Clone for Fragile {
    fn clone(&self) -> Self {
        let left = self.0.fetch_sub(1, Ordering::Relaxed);
        assert!(left > 0, "panicked in a clone, on purpose");
        Self(Arc::clone(&self.0))
    }
}

impl Service<ForwardedPort> for Fragile {
    type Response = ();
    type Error = Infallible;
    type Future = std::future::Pending<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: ForwardedPort) -> Self::Future {
        pending()
    }
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_panics_is_the_failure_of_one_connection() {
    let mut rig = Rig::new(Fragile(Arc::new(AtomicUsize::new(1))), false);
    // Its port was dropped in the call, with the stream.
    assert_eq!(rig.connect(1), ["reply 3", "fin 3", "fin 1"]);
    let mut sent = rig.connect(5);
    sent.sort();
    assert_eq!(sent, ["fin 5", "rst 7 3"]);
    assert!(rig.done.is_none());
}

#[tokio::test(start_paused = true)]
async fn idle_tunnel_holds_no_permit() {
    let permits = Arc::new(Semaphore::new(1));
    let limited = ServiceBuilder::new()
        .layer(GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(
            &permits,
        )))
        .service_fn(async |mut port: ForwardedPort| {
            port.stream.read_u8().await?;
            Ok::<_, BoxError>(())
        });
    let mut service: PortForward<_> = PortForwardLayer::new().layer(limited);
    let ready = poll_fn(|cx| Service::<crate::ChannelSet>::poll_ready(&mut service, cx));
    ready.await.unwrap();
    assert_eq!(permits.available_permits(), 0);
    let (mut client, new) = Client::ports();
    let session = Session::new(Arc::clone(&client.wire));
    let mut channels = crate::ChannelSet::new(
        "".into(),
        None,
        session,
        &client.wire,
        crate::ChannelProtocolConfig::new(crate::Encoding::Binary, []),
    );
    channels.set_pairs(new);
    let mut tunnel = spawn(service.call(channels));
    assert!(tunnel.poll().is_pending());
    assert_eq!(permits.available_permits(), 1);

    // Each connection takes one, and gives it back.
    for error in [1, 5] {
        client.open(error, "error", &error.to_string());
        client.open(error + 2, "data", &error.to_string());
        assert!(tunnel.poll().is_pending());
    }
    assert_eq!(permits.available_permits(), 0);
    client.data(3, b"x");
    client.data(7, b"x");
    for _ in 0..3 {
        assert!(tunnel.poll().is_pending());
    }
    assert_eq!(permits.available_permits(), 1);
}

#[tokio::test(start_paused = true)]
async fn when_a_connection_is_done_all_of_it_is_gone() {
    let running = Arc::new(());
    let mut rig = rig({
        let running = Arc::clone(&running);
        move |mut port: ForwardedPort| {
            let running = Arc::clone(&running);
            async move {
                let _running = running;
                assert_eq!(port.index, 0, "the place of the last one is free");
                let mut all = Vec::new();
                port.stream.read_to_end(&mut all).await?;
                port.stream.write_all(&all).await?;
                Ok(())
            }
        }
    });
    let before = Arc::strong_count(&running);
    for n in 0..300 {
        let (error, data) = (4 * n + 1, 4 * n + 3);
        assert_eq!(rig.connect(error), [format!("reply {data}")]);
        rig.client.fin(error);
        rig.client.data(data, b"there and back");
        rig.client.fin(data);
        let sent = rig.run();
        assert_eq!(
            sent.first(),
            Some(&format!("data {data} there and back")),
            "{n}"
        );
        assert_eq!(sent.len(), 3);
        assert_eq!(Arc::strong_count(&running), before);
        assert_eq!(rig.tunnel.0.open, 0);
        // For a new cooperative budget.
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.tunnel.0.connections.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_ends_with_its_last_connection_once_the_session_ends() {
    let gate = Arc::new(Semaphore::new(0));
    let open = Arc::clone(&gate);
    let mut rig = rig(move |port: ForwardedPort| {
        let gate = Arc::clone(&gate);
        async move {
            let _port = port;
            gate.acquire().await?.forget();
            Ok(())
        }
    });
    rig.connect(1);
    rig.connect(5);
    let drained = crate::wire::End::Error(crate::EndCause::Drained);
    rig.client.mux.end_all(&drained);
    rig.run();
    assert!(rig.done.is_none());
    open.add_permits(1);
    rig.run();
    assert!(rig.done.is_none());
    open.add_permits(1);
    rig.run();
    assert!(matches!(rig.done, Some(Ok(()))));
}
