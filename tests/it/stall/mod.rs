//! A channel that is not read: input trickles into the stall reserve, so that an unmodified client
//! lives on, and no byte is lost.

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

/// The size of a loan, and its period. A Pong leaves in every third one.
const CHUNK: usize = 16 * 1024;
const BEAT: Duration = Duration::from_millis(200);
/// Small, and not a multiple of anything relevant.
const WINDOW: usize = 4 * CHUNK;
/// The capacity of the transport.
const BETWEEN: usize = 1000;

/// Enough time after a beat to see its effect.
const AFTER: Duration = Duration::from_millis(50);

fn chunks(n: usize) -> WsStreamLayer {
    layer(n * CHUNK)
}

fn layer(reserve: usize) -> WsStreamLayer {
    let limits = Limits::default().receive_window(WINDOW);
    support::layer().limits(limits.stall_reserve(reserve))
}

/// Returns the byte of the payload at a position. No two pieces of the payload are alike.
fn byte(at: usize) -> u8 {
    (at.wrapping_mul(31) ^ (at >> 8).wrapping_mul(7) ^ (at >> 16)) as u8
}

fn payload(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(byte).collect()
}

/// The division of a payload into messages.
#[derive(Clone, Copy, Debug)]
enum Messages {
    One,
    Of(usize),
}

/// Returns the frames of a client for `total` bytes on channel 0.
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

/// A session whose reader the test holds, and a client that sends to it.
struct Stalled {
    stdin: Option<ChannelReader>,
    resize: Option<ChannelReader>,
    /// The bytes that the client could write.
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

    /// Waits until shortly after the given beat since the pause began.
    async fn beats(&self, n: u32) {
        sleep_until(self.start + n * BEAT + AFTER).await;
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Reads to the end, and checks that it is the payload from `from` on.
    async fn expect(&mut self, from: usize, len: usize) {
        let stdin = self.stdin.as_mut().unwrap();
        let mut all = vec![0; len];
        within(LONG, stdin.read_exact(&mut all)).await.unwrap();
        assert_payload(&all, from);
    }

    fn is_alive(&mut self) -> bool {
        self.ended.try_recv().is_err()
    }

    /// Drops the client without a Close.
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

/// Checks how many bytes were taken, up to the capacity of the transport.
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
