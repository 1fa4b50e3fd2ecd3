//! One connection through a tunnel and its two streams: the call of its service, the moment when
//! the client is answered, and the report of how it ends.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, sleep},
};
use tower_service::Service;

use super::{
    call::{Call, PORT_SERVICE},
    failure::Failure,
    pair::say,
    port::ForwardedPort,
    stream::ForwardedWriter,
};
use crate::{BoxError, ChannelWriter, streams::Answer, unwind::drop_quietly};

/// The client is answered after this time, even if the service has not used its stream. kubectl
/// gives the connection up after 30 s, and the driver resets it after 25 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(19);

/// The first pause before another look at a stream that may be used by another task than that of
/// the session. Each further pause is twice as long.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A connection of the client.
///
/// Its data stream is answered once the service uses it: until then, a failure such as that of a
/// dial can take the place of the answer, which kubectl reports best.
pub(super) struct Connection<S, F> {
    call: Call<S, F>,
    asked: Arc<Asked>,
    /// The writer of the data stream, until the stream is answered and the service uses the writer.
    data: Option<(ChannelWriter, oneshot::Sender<ChannelWriter>)>,
    /// `None` once the client is answered.
    patience: Option<Patience>,
    /// `None` once the connection has ended.
    end: Option<End>,
}

/// The parts of a connection that report how it ends.
pub(super) struct End {
    port: u16,
    errors: ChannelWriter,
    answer: Answer,
    go_errors: bool,
}

impl End {
    pub(super) fn new(port: u16, errors: ChannelWriter, answer: Answer, go_errors: bool) -> Self {
        Self {
            port,
            errors,
            answer,
            go_errors,
        }
    }

    /// Ends both streams by the result of the service.
    pub(super) fn report(self, result: Result<(), Failure>) {
        let Err(failure) = result else {
            self.answer.finish();
            return;
        };
        failure.log(self.port);
        let text = failure.text_for_streams(self.port, self.go_errors);
        drop_quietly(failure, PORT_SERVICE);
        let mut answer = self.answer;
        match text {
            Some(text) => {
                // A client whose data stream is refused does not look for a text.
                answer.reply();
                say(&mut self.errors.into_sink(), text.into());
                answer.reset();
            }
            // A text would end all other connections of kubectl.
            None => answer.refuse(),
        }
    }
}

/// Notes whether the service needs the writer of its stream, or has dropped the stream.
#[derive(Debug)]
struct Asked {
    asked: AtomicBool,
    /// The waker of the connection.
    waker: Waker,
}

/// The stream's end of it. It may belong to another task than that of the session.
#[derive(Debug)]
pub(super) struct Ask(Arc<Asked>);

impl Ask {
    /// Asks for the writer.
    pub(super) fn ask(&self) {
        // Relaxed: the flag publishes nothing, and the waker orders what follows it.
        if !self.0.asked.swap(true, Ordering::Relaxed) {
            self.0.waker.wake_by_ref();
        }
    }
}

/// A writer that is dropped unused ends its direction like any other.
impl Drop for Ask {
    fn drop(&mut self) {
        self.ask();
    }
}

/// The time until a client is answered whose stream nothing uses.
struct Patience {
    since: Instant,
    pause: Duration,
    next: Pin<Box<Sleep>>,
}

impl Patience {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            pause: LOOK_AGAIN,
            next: Box::pin(sleep(LOOK_AGAIN)),
        }
    }

    /// Returns whether it is over. Otherwise, the connection is polled for another look.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        while self.next.as_mut().poll(cx).is_ready() {
            let left = ANSWER_WITHIN.saturating_sub(self.since.elapsed());
            if left.is_zero() {
                return true;
            }
            self.pause *= 2;
            let next = Instant::now() + self.pause.min(left);
            self.next.as_mut().reset(next);
        }
        false
    }
}

impl<S, F> Connection<S, F> {
    /// Creates a connection that waits for its service. `port` makes the request of the service
    /// from the writer of its stream.
    pub(super) fn new(
        service: S,
        port: impl FnOnce(ForwardedWriter) -> ForwardedPort,
        data: ChannelWriter,
        waker: Waker,
        end: End,
    ) -> Self {
        let (hand, handed) = oneshot::channel();
        let asked = Arc::new(Asked {
            asked: AtomicBool::new(false),
            waker,
        });
        let writer = ForwardedWriter::unanswered(handed, Ask(Arc::clone(&asked)));
        Self {
            call: Call::new(service, port(writer)),
            asked,
            data: Some((data, hand)),
            patience: Some(Patience::new()),
            end: Some(end),
        }
    }

    /// Passes the writer on if the stream asks for it, once the client is answered. Data in front of
    /// the answer would be lost.
    fn hand_over(&mut self) {
        if self.patience.is_none()
            && self.is_asked()
            && let Some((data, hand)) = self.data.take()
        {
            // Fails if the stream was dropped. The writer is then dropped as well.
            let _ = hand.send(data);
        }
    }

    /// Answers the client once the service uses its stream.
    fn answer(&mut self, cx: &mut Context<'_>) {
        let is_asked = self.is_asked();
        let (Some(patience), Some(end)) = (&mut self.patience, &mut self.end) else {
            return;
        };
        if is_asked || end.answer.is_touched() || patience.is_over(cx) {
            end.answer.reply();
            self.patience = None;
        }
    }

    fn is_asked(&self) -> bool {
        self.asked.asked.load(Ordering::Relaxed)
    }
}

impl<S> Connection<S, S::Future>
where
    S: Service<ForwardedPort, Response = ()>,
    S::Error: Into<BoxError>,
{
    /// Polls a connection that was woken, and returns whether it ended in this poll.
    pub(super) fn poll(&mut self) -> bool {
        let asked = Arc::clone(&self.asked);
        let cx = &mut Context::from_waker(&asked.waker);
        let Poll::Ready(result) = self.call.poll(cx) else {
            self.answer(cx);
            self.hand_over();
            return false;
        };
        if let Some(end) = self.end.take() {
            end.report(result);
        }
        true
    }
}
