#[cfg(wsstream_loom)]
mod interleavings;
mod model;

#[cfg(feature = "spdy")]
use std::pin::Pin;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
};

#[cfg(feature = "spdy")]
use tokio::io::{AsyncRead, AsyncWrite};

use super::*;
use crate::{
    connection::{Carrier, Driver, DriverParts},
    protocol::Format,
    session::{Session, SessionConfig},
    wire::{StallReserve, TotalReserve, Wire, fixture::SharedLine},
};

#[derive(Default)]
struct Count(AtomicUsize);

impl Count {
    fn new() -> (Arc<Self>, Waker) {
        let count = Arc::new(Self::default());
        (Arc::clone(&count), Waker::from(count))
    }
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns a wire with the writable channels 0 and 1, and no transport yet.
fn wire() -> Arc<Wire> {
    wire_of(Format::Binary)
}

fn wire_of(format: Format) -> Arc<Wire> {
    let config = WireConfig {
        format,
        channels: 2,
        receive_window: 1 << 18,
        send_budget: 1 << 16,
        high_water: 1 << 18,
        stamps: false,
    };
    let reserve = StallReserve::new(0, &TotalReserve::new(0));
    Wire::new(Turn::new(), &config, reserve, |_| false, |_| true)
}

/// Installs a transport that takes this many bytes.
fn install(wire: &Wire, takes: usize) {
    let line = SharedLine::default();
    line.with(|line| {
        line.room = takes;
        line.is_vectored = true;
    });
    wire.outbound.install(WriteHalf::Whole(Box::pin(line)));
}

fn turn(wire: &Wire, due: bool) -> Progress {
    wire.outbound.begin_turn(due);
    wire.outbound.end_turn(&mut Vec::new())
}

#[test]
fn a_flush_is_not_woken_because_its_channel_has_room() {
    let wire = wire();
    let (count, waker) = Count::new();
    let cx = &mut Context::from_waker(&waker);
    assert!(wire.outbound.poll_write(cx, 0, b"x").is_ready());
    assert!(wire.outbound.poll_flush(cx, 0).is_pending());
    turn(&wire, false);
    assert_eq!(
        count.get(),
        0,
        "nothing has left: it would be pending again"
    );
    install(&wire, usize::MAX);
    turn(&wire, true);
    assert_eq!(count.get(), 1);
    assert!(wire.outbound.poll_flush(cx, 0).is_ready());
}

#[test]
fn a_write_is_not_woken_because_its_channel_is_flushed() {
    let wire = wire();
    let (count, waker) = Count::new();
    let cx = &mut Context::from_waker(&waker);
    wire.outbound.send(0, vec![0; 300_000].into()).unwrap();
    assert!(wire.outbound.poll_write(cx, 1, b"x").is_pending());
    turn(&wire, false);
    assert_eq!(count.get(), 0, "the high-water mark is still passed");
    install(&wire, usize::MAX);
    turn(&wire, true);
    assert_eq!(count.get(), 1);
    assert!(wire.outbound.poll_write(cx, 1, b"x").is_ready());
}

#[test]
fn a_flush_is_not_woken_because_writes_are_refused() {
    let wire = wire();
    let (count, waker) = Count::new();
    let cx = &mut Context::from_waker(&waker);
    assert!(wire.outbound.poll_write(cx, 0, b"x").is_ready());
    wire.outbound
        .refuse_writers(&EndCause::Closed { code: 4000 });
    assert!(
        wire.outbound.poll_flush(cx, 0).is_pending(),
        "it goes out before the Close"
    );
    turn(&wire, false);
    assert_eq!(count.get(), 0);
    drop(wire.outbound.take_transport());
    turn(&wire, false);
    assert_eq!(count.get(), 1);
    assert!(matches!(
        wire.outbound.poll_flush(cx, 0),
        Poll::Ready(Err(_))
    ));
}

#[test]
fn a_flush_of_what_was_discarded_fails_at_once() {
    let wire = wire();
    let (count, waker) = Count::new();
    let cx = &mut Context::from_waker(&waker);
    assert!(wire.outbound.poll_write(cx, 0, b"x").is_ready());
    assert!(wire.outbound.poll_flush(cx, 0).is_pending());
    wire.outbound.refuse_writers(&EndCause::TooLarge);
    wire.outbound
        .close(&crate::frame::close_payload(Some(1009), ""), true);
    install(&wire, usize::MAX);
    assert!(turn(&wire, true).idle);
    assert!(count.get() > 0);
    assert!(matches!(
        wire.outbound.poll_flush(cx, 0),
        Poll::Ready(Err(_))
    ));
}

#[test]
fn a_vectored_write_of_another_task_has_the_transport_flushed() {
    let wire = wire();
    let (count, waker) = Count::new();
    // The session's task is asleep, and its transport has room.
    install(&wire, usize::MAX);
    turn(&wire, true);
    sleep(&wire, &waker);
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(wire.outbound.poll_write(cx, 0, &[7; 30_000]).is_ready());
    let flushed = !wire.outbound.lock().unflushed;
    assert!(
        flushed || count.get() > 0,
        "the transport will never be flushed"
    );
}

/// Puts the task to sleep with this waker, which counts wake-ups from here on.
fn sleep(wire: &Wire, waker: &Waker) {
    wire.turn.register(waker);
    wire.turn.begin();
    wire.turn.take_service();
    assert!(wire.turn.end());
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_is_used_up_between_two_turns_sets_a_timer() {
    let wire = wire();
    let (count, waker) = Count::new();
    install(&wire, usize::MAX);
    let rate = crate::policy::ByteRate::default().outbound(1000);
    wire.outbound
        .limit_rate(rate.outbound_bucket(Instant::now()));
    turn(&wire, true);
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    // This exceeds the burst, so that later data has to wait.
    let write = || {
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(wire.outbound.poll_write(cx, 0, &[7; 100]).is_ready());
    };
    write();
    assert!(turn(&wire, true).throttled.is_none());
    sleep(&wire, &waker);
    write();
    assert_eq!(count.get(), 1, "no timer would ever let it leave");
    // The turn sets a timer, so the writers do not have to wake the task.
    assert!(turn(&wire, true).throttled.is_some());
    sleep(&wire, &waker);
    write();
    assert_eq!(count.get(), 1, "the timer is set already");
    // The data leaves in a turn before the timer expires, which then has no timer.
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    assert!(turn(&wire, false).throttled.is_none());
    sleep(&wire, &waker);
    write();
    assert_eq!(count.get(), 2, "no timer would ever let it leave");
}

/// A waker that polls at once, like a worker thread that is faster than the current one.
struct Eager {
    wire: Arc<Wire>,
    /// Set if the last poll was ready, or a wake-up came after it.
    ready: Mutex<bool>,
    me: Mutex<Option<Waker>>,
}

impl Eager {
    fn poll(self: &Arc<Self>) {
        let waker = self.me.lock().unwrap().take();
        let waker = waker.unwrap_or_else(|| Waker::from(Arc::clone(self)));
        let result = self
            .wire
            .outbound
            .poll_flush(&mut Context::from_waker(&waker), 0);
        *self.ready.lock().unwrap() = result.is_ready();
    }
}

impl Wake for Eager {
    fn wake(self: Arc<Self>) {
        self.poll();
    }
}

#[test]
fn a_flush_on_a_faster_thread_ends_with_its_session() {
    let wire = wire();
    let session = Session::new(Arc::clone(&wire));
    let driver = Driver::new(DriverParts {
        wire: Arc::clone(&wire),
        session,
        config: Arc::new(SessionConfig::default()),
        carrier: Carrier::Channels {
            format: Format::Binary,
            half_close: true,
        },
        close_ends_input: false,
        expiry: None,
        subprotocol: "".into(),
        peer: None,
    });
    install(&wire, 0);
    wire.outbound.send(0, vec![7; 10].into()).unwrap();
    let eager = Arc::new(Eager {
        wire,
        ready: Mutex::new(false),
        me: Mutex::new(None),
    });
    eager.poll();
    assert!(!*eager.ready.lock().unwrap());
    drop(driver);
    assert!(*eager.ready.lock().unwrap(), "the flush waits for ever");
}

// A writer in another task may outlive the grace, and write while the last words are sent.
#[test]
fn nothing_is_accepted_behind_the_last_words() {
    let wire = wire();
    install(&wire, 1 << 20);
    assert!(wire.outbound.send(0, Bytes::from_static(b"before")).is_ok());
    let cause = EndCause::TimeLimit;
    wire.outbound
        .last_words(&cause, 1, Bytes::from_static(b"last"));
    assert!(wire.outbound.send(0, Bytes::from_static(b"after")).is_err());
    assert!(turn(&wire, true).idle);
}

/// A transport that remembers what it was shown when it was full, and takes nothing else in its place.
#[cfg(feature = "spdy")]
#[derive(Default)]
struct Stubborn {
    room: usize,
    shown: Vec<u8>,
    taken: Vec<u8>,
}

#[cfg(feature = "spdy")]
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Stubborn>>);

#[cfg(feature = "spdy")]
impl AsyncRead for Shared {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[cfg(feature = "spdy")]
impl AsyncWrite for Shared {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.lock().unwrap();
        let same = inner.shown.len().min(buf.len());
        assert!(inner.shown[..same] == buf[..same], "other bytes than shown");
        let n = buf.len().min(inner.room);
        inner.room -= n;
        if n == 0 {
            inner.shown = buf.to_vec();
            return Poll::Pending;
        }
        inner.shown.clear();
        inner.taken.extend_from_slice(&buf[..n]);
        Poll::Ready(Ok(n))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
#[cfg(feature = "spdy")]
async fn small_writes_leave_as_one_frame_when_the_transport_was_full() {
    let wire = wire_of(Format::Spdy);
    wire.outbound.open(0, 1);
    wire.outbound.pace();
    let transport = Shared::default();
    wire.outbound
        .install(WriteHalf::Whole(Box::pin(transport.clone())));
    let write = |times| {
        let cx = &mut Context::from_waker(Waker::noop());
        for n in 0..times {
            assert!(wire.outbound.poll_write(cx, 0, &[n as u8; 64]).is_ready());
        }
    };
    write(1);
    turn(&wire, true);
    // The first frame was shown to the transport, and stays as it is.
    write(400);
    turn(&wire, true);
    transport.0.lock().unwrap().room = usize::MAX;
    turn(&wire, true);
    let taken = std::mem::take(&mut transport.0.lock().unwrap().taken);
    let mut expected = b"\0\0\0\x01\0\0\0\x40".to_vec();
    expected.extend([0; 64]);
    expected.extend(b"\0\0\0\x01\0\0\x64\0");
    expected.extend((0..400_usize).flat_map(|n| [n as u8; 64]));
    assert!(taken == expected, "401 writes as two frames");
}

/// Returns how much of one large write was accepted by a wire with a transport that takes `takes`
/// bytes, and how much is queued then.
#[cfg(feature = "spdy")]
fn large_write(format: Format, takes: usize, prepare: impl Fn(&Wire)) -> (usize, usize) {
    let wire = wire_of(format);
    if format.has_streams() {
        wire.outbound.open(0, 1);
    }
    install(&wire, takes);
    turn(&wire, true);
    prepare(&wire);
    let cx = &mut Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(accepted)) = wire.outbound.poll_write(cx, 0, &[7; 1 << 20]) else {
        panic!("not accepted");
    };
    let queued = wire.outbound.lock().queue.queued();
    (accepted, queued)
}

#[test]
#[cfg(feature = "spdy")]
fn a_large_write_of_a_stream_is_one_frame_if_it_is_not_copied() {
    // The high-water mark without a budget.
    const LARGE: usize = (256 - 64) * 1024;
    for format in [Format::Spdy, Format::Tunnel] {
        let all = large_write(format, usize::MAX, |_| {});
        assert_eq!(all, (LARGE, 0), "{format:?}");
        // There is room left for another channel.
        let (accepted, queued) = large_write(format, 1, |_| {});
        assert_eq!(accepted, LARGE);
        assert!(queued < LARGE + 18, "{format:?}: {queued}");
        // A full transport is shown no more.
        let (accepted, _) = large_write(format, 0, |wire| {
            wire.outbound.send(0, Bytes::from_static(b"x")).unwrap();
            turn(wire, false);
        });
        assert_eq!(accepted, WRITE_CUT, "{format:?}");
    }
    assert_eq!(large_write(Format::Binary, usize::MAX, |_| {}).0, WRITE_CUT);
}

#[tokio::test(start_paused = true)]
#[cfg(feature = "spdy")]
async fn a_rate_is_kept_with_small_frames() {
    let (accepted, _) = large_write(Format::Spdy, usize::MAX, |wire| {
        let rate = crate::policy::ByteRate::default().outbound(1 << 20);
        let bucket = rate.outbound_bucket(Instant::now());
        wire.outbound.limit_rate(bucket);
    });
    assert_eq!(accepted, WRITE_CUT);
}

#[tokio::test(start_paused = true)]
#[cfg(feature = "spdy")]
async fn a_slow_reader_gets_small_frames() {
    let wire = wire_of(Format::Spdy);
    wire.outbound.open(0, 1);
    wire.outbound.pace();
    install(&wire, usize::MAX);
    turn(&wire, true);
    let cx = &mut Context::from_waker(Waker::noop());
    let mut ping = 2;
    let mut frames = Vec::new();
    for _ in 0..400 {
        match wire.outbound.poll_write(cx, 0, &[7; 1 << 20]) {
            Poll::Ready(accepted) => frames.push(accepted.unwrap()),
            Poll::Pending => {
                tokio::time::advance(std::time::Duration::from_millis(1500)).await;
                wire.outbound.expire_pacing(Instant::now());
                while wire.outbound.answered(ping).is_some() {
                    ping += 2;
                }
            }
        }
    }
    assert_eq!(frames[0], WRITE_CUT);
    assert_eq!(*frames.last().unwrap(), 8 * 1024);
}
