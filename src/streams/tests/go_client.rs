//! A client as client-go is, whose local readers stand still and read on.
//!
//! Its read loop puts each frame into one of five queues, and stops at one that is full. A goroutine
//! serves each queue, and waits at data that a local reader does not take.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    io::AsyncWrite,
    time::{Instant, advance},
};

use super::session::{Session, control, next};
use crate::{
    spdy::{QUEUES, queue_of},
    streams::{NewPair, NewPairs},
};

/// The most frames in a queue, with the one in the hands of its goroutine.
const QUEUE: usize = 51;

/// The time after which the client gives up a stream that is not answered.
const PATIENCE: Duration = Duration::from_secs(30);

/// The size of a message of the service, which is half a write of the largest size.
const MESSAGE: usize = 16 * 1024;

/// Returns the byte at this place of what a service sends.
fn byte(at: usize) -> u8 {
    b'a' + (at % 23) as u8
}

/// A connection of the client. Its number is also its port.
#[derive(Default)]
struct Connection {
    /// The number of messages that the service sends on it, and then ends it.
    messages: usize,
    /// The number of messages after which its local reader stands still.
    stops_after: Option<usize>,
    /// The number of bytes that its local reader has.
    got: usize,
    /// The service has got it, which it has not if the client had the reply to the first of its
    /// streams so late that the stream was given up as half a pair.
    served: bool,
    open: bool,
    ended: bool,
}

impl Connection {
    fn stands_still(&self) -> bool {
        self.stops_after
            .is_some_and(|most| self.got >= most * MESSAGE)
    }
}

/// A stream of a connection.
struct Stream {
    connection: u16,
    is_data: bool,
    opened: Instant,
    answered: bool,
    given_up: bool,
}

struct Client {
    session: Session,
    pairs: NewPairs,
    /// The connections in the hands of the service, with the number of bytes that it has sent.
    served: Vec<(NewPair, usize)>,
    connections: BTreeMap<u16, Connection>,
    streams: BTreeMap<u32, Stream>,
    /// Frames that were sent, and that the read loop has not read.
    unread: VecDeque<String>,
    queues: [VecDeque<String>; QUEUES],
    /// The queue of the next PING.
    phase: usize,
    last_stream: u32,
    last_ping: u32,
    /// Set once the read loop had to stop.
    has_stopped: bool,
}

impl Client {
    fn new() -> Self {
        let (session, pairs) = Session::ports();
        Self {
            session,
            pairs,
            served: Vec::new(),
            connections: BTreeMap::new(),
            streams: BTreeMap::new(),
            unread: VecDeque::new(),
            queues: Default::default(),
            phase: 0,
            last_stream: 0,
            last_ping: 0,
            has_stopped: false,
        }
    }

    /// Begins a connection on which the service sends this many messages.
    fn connect(&mut self, messages: usize, stops_after: Option<usize>) -> u16 {
        let connection = self.connections.len() as u16 + 1;
        let new = Connection {
            messages,
            stops_after,
            ..Connection::default()
        };
        self.connections.insert(connection, new);
        self.open(connection, false);
        self.run();
        connection
    }

    fn open(&mut self, connection: u16, is_data: bool) {
        self.last_stream += 2;
        let id = self.last_stream - 1;
        let stream = Stream {
            connection,
            is_data,
            opened: Instant::now(),
            answered: false,
            given_up: false,
        };
        self.streams.insert(id, stream);
        let number = connection.to_string();
        let kind = if is_data { "data" } else { "error" };
        let fields = [
            ("streamtype", kind),
            ("port", &number),
            ("requestid", &number),
        ];
        self.session.syn(id, &fields);
    }

    /// Runs the service, the session and the client until nothing moves any more.
    fn run(&mut self) {
        loop {
            let served = self.serve();
            let frames = self.session.frames();
            let read = self.read(frames);
            if !served && !read {
                return;
            }
        }
    }

    /// Runs the service of all connections. Returns whether anything has moved.
    fn serve(&mut self) -> bool {
        let mut moved = false;
        while let Some(mut pair) = next(&mut self.pairs) {
            pair.answer.reply();
            self.connections.get_mut(&pair.port).unwrap().served = true;
            self.served.push((pair, 0));
        }
        for (pair, sent) in &mut self.served {
            let all = self.connections[&pair.port].messages * MESSAGE;
            let cx = &mut Context::from_waker(Waker::noop());
            while *sent < all {
                let end = all.min(*sent + MESSAGE);
                let message: Vec<u8> = (*sent..end).map(byte).collect();
                match Pin::new(&mut pair.data).poll_write(cx, &message) {
                    Poll::Ready(Ok(n)) => *sent += n,
                    // The client may have given it up.
                    Poll::Ready(Err(_)) => *sent = all,
                    Poll::Pending => break,
                }
                moved = true;
            }
        }
        let is_done = |(pair, sent): &mut (NewPair, usize)| {
            *sent >= self.connections[&pair.port].messages * MESSAGE
        };
        for (pair, _) in self.served.extract_if(.., is_done) {
            pair.answer.finish();
            moved = true;
        }
        moved
    }

    /// Runs the read loop and the goroutines. Returns whether anything has moved.
    fn read(&mut self, frames: Vec<String>) -> bool {
        self.unread.extend(frames);
        let mut moved = false;
        while let Some(frame) = self.unread.front() {
            let (kind, id) = parts(frame);
            let queue = if kind == "ping" {
                self.phase
            } else {
                queue_of(id)
            };
            if self.queues[queue].len() == QUEUE {
                // Its goroutine makes room, unless it waits itself.
                let first = &self.queues[queue][0];
                self.has_stopped |= self.must_wait(first);
                break;
            }
            if kind == "ping" {
                self.phase = (self.phase + 1) % QUEUES;
            }
            self.queues[queue].extend(self.unread.pop_front());
            moved = true;
        }
        for queue in 0..QUEUES {
            while let Some(frame) = self.queues[queue].pop_front() {
                if self.must_wait(&frame) {
                    self.queues[queue].push_front(frame);
                    break;
                }
                self.handle(&frame);
                moved = true;
            }
        }
        moved
    }

    /// Returns whether a local reader does not take this frame.
    fn must_wait(&self, frame: &str) -> bool {
        let (kind, id) = parts(frame);
        kind == "data" && self.connections[&self.streams[&id].connection].stands_still()
    }

    fn handle(&mut self, frame: &str) {
        let (kind, id) = parts(frame);
        if kind == "ping" {
            if id.is_multiple_of(2) {
                self.session.feed(&control(6, &id.to_be_bytes()));
            }
            return;
        }
        if kind == "rst" && id >= 0x7fff_fff0 {
            // Of no stream: it only shows that the client's host is there.
            return;
        }
        let stream = self.streams.get_mut(&id).expect("a stream of the client");
        let number = stream.connection;
        let connection = self.connections.get_mut(&number).unwrap();
        match kind {
            "reply" => {
                stream.answered = true;
                if stream.given_up {
                    return;
                }
                if stream.is_data {
                    connection.open = true;
                } else {
                    self.session.fin(id);
                    self.open(number, true);
                }
            }
            "data" => {
                assert!(
                    stream.answered && !stream.given_up,
                    "{frame}: nothing reads it"
                );
                let data = frame.rsplit(' ').next().unwrap().bytes();
                for got in data {
                    assert_eq!(got, byte(connection.got), "{number} at {}", connection.got);
                    connection.got += 1;
                }
            }
            "fin" if stream.is_data && !stream.given_up => {
                connection.ended = true;
                self.session.fin(id);
            }
            "fin" => {}
            "rst" => assert!(
                stream.answered || !stream.given_up,
                "{frame}: it blocks a goroutine"
            ),
            _ => panic!("{frame}"),
        }
    }

    /// Lets time pass, in which both ends send PINGs.
    async fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            advance(Duration::from_secs(1)).await;
            let now = Instant::now();
            assert!(self.session.mux.expire(now).is_none());
            self.session.wire.outbound.expire_pacing(now);
            for stream in self.streams.values_mut() {
                stream.given_up |= !stream.answered && now >= stream.opened + PATIENCE;
            }
            self.last_ping += 2;
            if self.last_ping.is_multiple_of(20) {
                self.session
                    .feed(&control(6, &(self.last_ping - 1).to_be_bytes()));
                self.session.wire.outbound.ping();
            }
            self.run();
        }
    }

    /// Lets all local readers read on, and checks that each gets all of its data.
    async fn read_on(&mut self) {
        for connection in self.connections.values_mut() {
            connection.stops_after = None;
        }
        // An end may wait for 50 ms.
        self.wait(1).await;
        assert!(self.unread.is_empty() && self.queues.iter().all(VecDeque::is_empty));
        for (number, connection) in self
            .connections
            .iter()
            .filter(|(_, it)| it.open && it.served)
        {
            assert_eq!(connection.got, connection.messages * MESSAGE, "{number}");
            assert!(connection.ended, "{number}");
        }
    }
}

/// Returns the kind of a frame, and its stream.
fn parts(frame: &str) -> (&str, u32) {
    let mut words = frame.split(' ');
    let kind = words.next().unwrap();
    (kind, words.next().unwrap().parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stood_still_for_long_gets_all_of_its_data() {
    for stops_after in [0, 1, 17, 18, 36, 50, 100] {
        let mut client = Client::new();
        let stalled = client.connect(300, Some(stops_after));
        let mut served = 0;
        for _ in 0..30 {
            let short = client.connect(20, None);
            client.wait(2).await;
            served += usize::from(client.connections[&short].ended);
        }
        client.wait(15).await;
        assert!(served >= 20, "{served} beside one after {stops_after}");
        assert!(!client.has_stopped);
        let before = &client.connections[&stalled];
        assert!(before.got >= stops_after * MESSAGE && before.stands_still() && !before.ended);
        client.read_on().await;
        assert!(client.connections[&stalled].ended);
        let next = client.connect(100, None);
        assert!(client.connections[&next].ended);
    }
}
