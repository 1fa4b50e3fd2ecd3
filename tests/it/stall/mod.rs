//! A channel that nobody reads: a trickle goes into the stall reserve, so that
//! an unmodified client lives on, and no byte is lost.

mod effects;
mod pace;
mod reserve;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, WriteHalf},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};
use tower_wsstream::{
    BoxError, ChannelReader, ChannelSet, EndCause, SessionConfig, Sessions, WsStreamLayer,
    policy::Limits, subprotocols,
};

use crate::support::{
    self, BINARY, BITE, End, Frame, LONG, PING, PONG, TEXT, Watchdog, base64, frame, on, once_in,
    open_with, protocols, read_out, within,
};

/// What is lent at once, and how often.
const CHUNK: usize = 16 * 1024;
const BEAT: Duration = Duration::from_millis(500);
/// Small, and never a multiple of anything that matters.
const WINDOW: usize = 4 * CHUNK;
/// What memory between the two ends holds.
const BETWEEN: usize = 1000;

/// Time enough to look after what happens at a beat.
const AFTER: Duration = Duration::from_millis(100);

fn chunks(n: usize) -> WsStreamLayer {
    layer(n * CHUNK)
}

fn layer(reserve: usize) -> WsStreamLayer {
    let limits = Limits::default().receive_window(WINDOW);
    support::layer().limits(limits.stall_reserve(reserve))
}

/// The payload's byte at a place: no two pieces of it look alike.
fn byte(at: usize) -> u8 {
    (at.wrapping_mul(31) ^ (at >> 8).wrapping_mul(7) ^ (at >> 16)) as u8
}

fn payload(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(byte).collect()
}

/// How much of a payload lies in one message.
#[derive(Clone, Copy, Debug)]
enum Messages {
    One,
    Of(usize),
}

/// What a client writes for so many bytes on channel 0.
fn wire(offer: &str, messages: Messages, total: usize) -> Vec<u8> {
    let len = match messages {
        Messages::One => total,
        Messages::Of(len) => len,
    };
    let starts = (0..total).step_by(len);
    starts
        .flat_map(|from| {
            let payload = payload(from, len.min(total - from));
            match offer.contains("base64") {
                true => frame(true, TEXT, &base64(0, &payload)),
                false => frame(true, BINARY, &on(0, &payload)),
            }
        })
        .collect()
}

/// A session whose reader is in the test's hands, and what is sent to it.
struct Stalled {
    stdin: Option<ChannelReader>,
    resize: Option<ChannelReader>,
    /// Bytes that the client got rid of.
    taken: Arc<AtomicUsize>,
    sending: JoinHandle<WriteHalf<DuplexStream>>,
    frames: mpsc::UnboundedReceiver<(Frame, Instant)>,
    reading: JoinHandle<()>,
    ended: oneshot::Receiver<(EndCause, Instant)>,
    start: Instant,
}

impl Stalled {
    async fn new(layer: WsStreamLayer, offer: &str, wire: Vec<u8>) -> Self {
        let (give, given) = oneshot::channel();
        let (tell, ended) = oneshot::channel();
        let service = once_in(layer, |mut set: ChannelSet| async move {
            let readers = [set.take_reader(0), set.take_reader(4)];
            assert!(give.send(readers).is_ok());
            let _open = set.take_writer(1);
            let cause = set.session().ended().await;
            let _ = tell.send((cause, Instant::now()));
            Ok::<_, BoxError>(())
        });
        let client = open_with(service, offer, BETWEEN).await;
        let [stdin, resize] = given.await.unwrap();
        let (mut read, mut write) = client.into_halves();
        let (seen, frames) = mpsc::unbounded_channel();
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        Self {
            stdin,
            resize,
            taken,
            sending: tokio::spawn(async move {
                let mut at = 0;
                while at < wire.len() {
                    match write.write(&wire[at..]).await {
                        Ok(n) => at += n,
                        Err(_) => break,
                    }
                    count.store(at, Ordering::Relaxed);
                }
                write
            }),
            frames,
            reading: tokio::spawn(async move {
                while let Some(frame) = read.next().await {
                    let _ = seen.send((frame, Instant::now()));
                }
            }),
            ended,
            start: Instant::now(),
        }
    }

    /// Waits until so many beats after the pause began, and then for a moment.
    async fn beats(&self, n: u32) {
        sleep_until(self.start + n * BEAT + AFTER).await;
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Everything that comes is the payload from `from` on.
    async fn expect(&mut self, from: usize, len: usize) {
        let stdin = self.stdin.as_mut().unwrap();
        let mut all = vec![0; len];
        within(LONG, stdin.read_exact(&mut all)).await.unwrap();
        assert_payload(&all, from);
    }

    fn is_alive(&mut self) -> bool {
        self.ended.try_recv().is_err()
    }

    /// The client is gone, without a word.
    async fn vanish(
        self,
    ) -> (
        Option<ChannelReader>,
        oneshot::Receiver<(EndCause, Instant)>,
    ) {
        self.sending.abort();
        self.reading.abort();
        let _ = self.sending.await;
        let _ = self.reading.await;
        (self.stdin, self.ended)
    }
}

/// So many bytes were taken; what lies between the ends goes in one piece.
#[track_caller]
fn assert_taken(taken: usize, expected: usize, what: impl std::fmt::Debug) {
    let off = taken.abs_diff(expected);
    assert!(off <= BETWEEN, "{taken}, not {expected}: {what:?}");
}

#[track_caller]
fn assert_payload(bytes: &[u8], from: usize) {
    let wrong = (bytes.iter().enumerate()).find(|(at, found)| **found != byte(from + at));
    assert_eq!(wrong, None, "from {from}");
}
