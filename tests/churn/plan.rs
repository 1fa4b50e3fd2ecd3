//! The plan of a session. A run depends on nothing else.

use std::{fmt, io, time::Duration};

/// The number of channels: 0 and 4 are inbound, 1 and 2 are outbound, and 3 is both.
pub(crate) const CHANNELS: usize = 5;
pub(crate) const READABLE: [u8; 3] = [0, 3, 4];
pub(crate) const WRITABLE: [u8; 3] = [1, 2, 3];

/// Milliseconds.
pub(crate) type Millis = u64;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) setup: Setup,
    /// The steps of the client, which also reads meanwhile.
    pub(crate) client: Vec<Act>,
    /// The first reads of the client: at most so many bytes, after a wait. Then it reads as fast as it can.
    pub(crate) reads: Vec<(usize, Millis)>,
    /// The steps of the service, and of other tasks with channels of the session.
    pub(crate) tasks: Vec<Vec<Step>>,
    pub(crate) end: End,
}

/// The transport and the settings of the session.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setup {
    pub(crate) kind: Kind,
    pub(crate) transport: Transport,
    pub(crate) subprotocol: &'static str,
    /// The bytes that the connection holds in each direction.
    pub(crate) capacity: usize,
    /// The most bytes of one read or write of the server.
    pub(crate) chop: usize,
    pub(crate) fault: Option<Fault>,
    /// The task that has each channel.
    pub(crate) owners: [usize; CHANNELS],
    pub(crate) explicit: bool,
    pub(crate) window: usize,
    pub(crate) budget: usize,
    pub(crate) high_water: usize,
    pub(crate) reserve: usize,
    pub(crate) max_frame: Option<u64>,
    pub(crate) max_message: Option<u64>,
    pub(crate) rate: Option<(u64, u64)>,
    pub(crate) ping: Option<Millis>,
    pub(crate) ping_timeout: Option<Millis>,
    pub(crate) idle: Option<Millis>,
    pub(crate) time_limit: Option<Millis>,
    pub(crate) grace: Millis,
    pub(crate) closed_grace: Millis,
    pub(crate) close_timeout: Millis,
    /// The deadline of the drain that ends a session that does not end by itself.
    pub(crate) drain: Millis,
    /// The time of an early drain, before the plan of both sides is over.
    pub(crate) early_drain: Option<Millis>,
    pub(crate) answers_pings: bool,
    /// The reaction of the client to the server's Close.
    pub(crate) farewell: Farewell,
}

/// The purpose of the session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// The service gets the channels.
    Channels,
    /// The service is a command behind a `RemoteCommandLayer`. It has the channels 0 to 2.
    Command,
    /// The service is called for each connection behind a `PortForwardLayer`. Numbers of channels are
    /// those of connections, which go in both directions.
    Ports,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Transport {
    /// A WebSocket over HTTP/1.1. Connections to ports are SPDY inside of it.
    Http1,
    /// A WebSocket over HTTP/2.
    Http2,
    /// SPDY, by a POST.
    Post,
}

/// An error of the server's side of the connection, after a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) reading: bool,
    pub(crate) after: usize,
    pub(crate) kind: io::ErrorKind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Farewell {
    /// It answers with a Close.
    Answer,
    /// It says nothing, and leaves this long after the end of the connection.
    Silence(Millis),
    /// It sends the end of its bytes without a Close.
    Fin,
    /// It drops the connection.
    Cut,
}

/// A step of the client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    /// A message, in as many frames, and in writes of so many bytes.
    Send {
        channel: u8,
        len: usize,
        frames: usize,
        pings: bool,
        piece: usize,
    },
    /// The first frame of a message without its end.
    Begin {
        channel: u8,
        len: usize,
    },
    /// A frame of which only a part is sent.
    Tear {
        channel: u8,
        len: usize,
        of: usize,
    },
    /// A message for a channel that is not readable, or an empty one.
    Stray {
        first: Option<u8>,
    },
    /// Opens a connection, whose number is above those of all before.
    Open {
        connection: u8,
        halves: Halves,
    },
    /// Resets a connection.
    Reset(u8),
    Ping(usize),
    Pong(usize),
    CloseChannel(u8),
    Close(Option<u16>),
    Violate(Violation),
    Sleep(Millis),
    Fin,
    Cut,
}

/// The streams of a connection, in the order in which a client opens them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Halves {
    ErrorFirst,
    DataFirst,
    OnlyError,
    OnlyData,
}

/// A breach of the protocol.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Violation {
    Reserved,
    Opcode,
    Unmasked,
    Continuation,
    LongPing,
    BadCloseCode,
    ShortClose,
    /// A text message that is not UTF-8.
    Text,
    /// The CLOSE of a channel that does not exist, where there is half-close.
    CloseOfNothing,
}

/// A step of a task of the service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    Read {
        channel: u8,
        most: usize,
    },
    /// Looks at unread bytes, and takes some of them.
    Peek {
        channel: u8,
        most: usize,
    },
    ReadToEnd(u8),
    /// Takes pieces as `Bytes` up to the end.
    Stream(u8),
    Write {
        channel: u8,
        len: usize,
    },
    WriteAll {
        channel: u8,
        len: usize,
    },
    /// A write that is dropped after a while.
    TryWrite {
        channel: u8,
        len: usize,
        within: Millis,
    },
    /// A read that is dropped after a while.
    TryRead {
        channel: u8,
        within: Millis,
    },
    Send {
        channel: u8,
        len: usize,
    },
    /// Copies everything from one channel to another.
    Echo(u8, u8),
    Flush(u8),
    Shutdown(u8),
    DropReader(u8),
    DropWriter(u8),
    /// Gives all handles of the task to another task that drops them after a while.
    GiveAway(Millis),
    Sleep(Millis),
    Yield,
    Accept,
    Close(u16),
    Hold {
        settle: Millis,
        most: Millis,
    },
    SayLast(Words),
    IgnoreReceives,
    /// Waits for the end of the session.
    Ended,
    /// Ends the service of a connection.
    Leave(End),
}

/// The last words of a session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Words {
    Message(u8),
    Silence,
    Nothing,
    Panic,
}

/// The end of the service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    Ok,
    /// A command exits with this code.
    Exit(u8),
    Fail,
    /// The target of all connections has failed.
    FailTarget,
    Panic,
    Never,
}

impl Setup {
    /// Returns the settings that change the least: the defaults, and a client that does as others do.
    pub(crate) fn calm() -> Self {
        Self {
            kind: Kind::Channels,
            transport: Transport::Http1,
            subprotocol: "v4.channel.k8s.io",
            capacity: 64 * 1024,
            chop: usize::MAX,
            fault: None,
            owners: [0; CHANNELS],
            explicit: false,
            window: 256 * 1024,
            budget: 64 * 1024,
            high_water: 256 * 1024,
            reserve: 16 << 20,
            max_frame: None,
            max_message: None,
            rate: None,
            ping: None,
            ping_timeout: None,
            idle: None,
            time_limit: None,
            grace: 1000,
            closed_grace: 30_000,
            close_timeout: 30_000,
            drain: 10_000_000,
            early_drain: None,
            answers_pings: true,
            farewell: Farewell::Answer,
        }
    }
}

impl Setup {
    pub(crate) fn is_over_spdy(&self) -> bool {
        self.transport == Transport::Post || self.is_tunnel()
    }

    /// Returns whether frames of SPDY are in messages of a WebSocket.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.kind == Kind::Ports && self.transport != Transport::Post
    }
}

impl Plan {
    /// Returns the time that the steps of both sides may wait by themselves.
    pub(crate) fn waits(&self) -> Duration {
        let acts = self.client.iter().map(|act| match act {
            Act::Sleep(time) => *time,
            _ => 0,
        });
        let reads = self.reads.iter().map(|(_, time)| *time);
        let steps = self.tasks.iter().flatten().map(|step| match step {
            Step::TryWrite { within: time, .. }
            | Step::TryRead { within: time, .. }
            | Step::Sleep(time)
            | Step::Hold { most: time, .. }
            | Step::GiveAway(time) => *time,
            _ => 0,
        });
        let farewell = match self.setup.farewell {
            Farewell::Silence(time) => time,
            _ => 0,
        };
        Duration::from_millis(acts.chain(reads).chain(steps).sum::<u64>() + farewell)
    }

    /// Returns the bytes that both sides may have on their way.
    pub(crate) fn bytes(&self) -> u64 {
        let acts = self.client.iter().map(|act| match act {
            Act::Send { len, .. } | Act::Begin { len, .. } | Act::Tear { len, .. } => *len,
            _ => 0,
        });
        let steps = self.tasks.iter().flatten().map(|step| match step {
            Step::Write { len, .. }
            | Step::WriteAll { len, .. }
            | Step::TryWrite { len, .. }
            | Step::Send { len, .. } => *len,
            _ => 0,
        });
        acts.chain(steps).sum::<usize>() as u64
    }

    /// Returns the number of steps.
    pub(crate) fn len(&self) -> usize {
        let steps: usize = self.tasks.iter().map(Vec::len).sum();
        self.client.len() + self.reads.len() + steps
    }
}

/// One line for each step.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:#?}", self.setup)?;
        for act in &self.client {
            writeln!(f, "client: {act:?}")?;
        }
        for (most, wait) in &self.reads {
            writeln!(f, "client: reads up to {most} bytes after {wait} ms")?;
        }
        for (n, task) in self.tasks.iter().enumerate() {
            for step in task {
                writeln!(f, "task {n}: {step:?}")?;
            }
        }
        writeln!(f, "the service ends: {:?}", self.end)
    }
}
