//! The actions and the observations of the client.

use std::cell::RefCell;

use tokio::time::Instant;
use tower_wsstream::EndCause;

use crate::plan::{CHANNELS, Violation};

/// Something that a client does only once.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Done {
    Close(Option<u16>),
    Fin,
    Cut,
    Violation(Fault),
}

/// The fault of a client, as the server should see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    Protocol,
    TooLarge,
    Text,
}

impl From<Violation> for Fault {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::Text => Self::Text,
            _ => Self::Protocol,
        }
    }
}

impl Fault {
    /// Returns the code of the Close that answers it.
    pub(crate) fn code(self) -> Option<u16> {
        Some(match self {
            Self::Protocol => 1002,
            Self::TooLarge => 1009,
            Self::Text => 1007,
        })
    }

    pub(crate) fn is(self, cause: &EndCause) -> bool {
        matches!(
            (self, cause),
            (Self::Protocol, EndCause::ProtocolError { .. })
                | (Self::TooLarge, EndCause::TooLarge)
                | (Self::Text, EndCause::InvalidText { .. })
        )
    }
}

/// The answer to the handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Answer {
    #[default]
    None,
    Session,
    Refused(u16),
}

/// The input of a channel as the client has sent it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    /// The bytes of messages that were sent completely.
    pub(crate) whole: u64,
    /// The bytes that may have been sent.
    pub(crate) begun: u64,
    /// Those behind a CLOSE as well, which are counted, and nothing else.
    pub(crate) all: u64,
    /// The client has ended the channel by a CLOSE.
    pub(crate) closed: bool,
    /// The last message has no end.
    pub(crate) open: bool,
}

/// A stream of the client, as the server has treated it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    pub(crate) replied: bool,
    pub(crate) fin: bool,
    pub(crate) reset: Option<u32>,
    pub(crate) wrong: Option<&'static str>,
}

impl Stream {
    pub(crate) fn reply(&mut self) {
        self.check(!self.replied && !self.is_over(), "a second reply");
        self.replied = true;
    }

    pub(crate) fn data(&mut self, fin: bool) {
        self.check(self.replied, "data in front of the reply");
        self.check(!self.is_over(), "data behind the end");
        self.fin |= fin;
    }

    pub(crate) fn reset(&mut self, status: u32) {
        self.check(self.reset.is_none(), "a second reset");
        self.reset = Some(status);
    }

    fn is_over(&self) -> bool {
        self.fin || self.reset.is_some()
    }

    fn check(&mut self, holds: bool, what: &'static str) {
        if !holds {
            self.wrong.get_or_insert(what);
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) answer: Answer,
    pub(crate) answered: Option<Instant>,
    pub(crate) sent: [Sent; CHANNELS],
    pub(crate) done: Vec<(Instant, Done)>,
    /// The payloads of Pings in front of a Close.
    pub(crate) pings: Vec<Vec<u8>>,
    /// The channel and the length of each message, without the last words.
    pub(crate) messages: Vec<(u8, usize)>,
    pub(crate) received: [u64; CHANNELS],
    /// When messages came, and when they had been sent.
    pub(crate) came_at: Vec<Instant>,
    pub(crate) sent_at: Vec<Instant>,
    /// The streams of SPDY, as the server has treated them: those of channels or the data of
    /// connections, and their errors with their text.
    pub(crate) data: [Stream; CHANNELS],
    pub(crate) errors: [Stream; CHANNELS],
    pub(crate) texts: [Vec<u8>; CHANNELS],
    /// The stream of a connection's data is the first of it.
    pub(crate) data_first: [bool; CHANNELS],
    /// When the client began to open both streams of a connection.
    pub(crate) opened: [Option<Instant>; CHANNELS],
    /// The client has reset the connection.
    pub(crate) has_reset: [bool; CHANNELS],
    /// A GOAWAY has come.
    pub(crate) is_going_away: bool,
    /// The streams of SPDY that the server has ended.
    pub(crate) fins: [bool; CHANNELS],
    /// A message that is none of the service's writes.
    pub(crate) odd: Option<(u8, Vec<u8>)>,
    pub(crate) pongs: Vec<Vec<u8>>,
    /// The code of the server's Close, or the status of its GOAWAY.
    pub(crate) close: Option<Option<u16>>,
    /// The client has read to the end of the connection.
    pub(crate) read_to_end: bool,
    /// Breaches of the protocol by the server.
    pub(crate) wrong: Vec<String>,
}

pub(crate) type Shared = RefCell<Facts>;

impl Facts {
    pub(crate) fn note(&mut self, done: Done) {
        self.done.push((Instant::now(), done));
    }

    /// Returns whether the client has left, so that it does not see how the session ends.
    pub(crate) fn has_cut(&self) -> bool {
        self.any(|done| matches!(done, Done::Cut))
    }

    pub(crate) fn any(&self, is: impl Fn(&Done) -> bool) -> bool {
        self.done.iter().any(|(_, done)| is(done))
    }
}
