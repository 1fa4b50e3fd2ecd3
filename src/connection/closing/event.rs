//! The events that the machine of the end takes, and the steps that it returns.

use std::io;

use crate::{error::EndCause, frame::ClosePayload};

/// An event in the end of a session.
#[derive(Debug)]
pub(in crate::connection) enum Event {
    /// A cause to end has come. The first one is told; a later one can only make the end
    /// come sooner.
    Cause(EndCause),
    /// The service asked for this Close frame.
    CloseRequested { code: u16, frame: ClosePayload },
    /// The service and its handles know of the cause, after [`Step::Tell`].
    Told,
    /// The last words are queued, or there are none, once
    /// [`may_say_last`](super::Closing::may_say_last) has allowed it. `told` says that the
    /// peer knows the outcome in full.
    LastWordsSaid { told: bool },
    /// The Close frame is queued, after [`Step::Close`], behind this much data.
    CloseQueued { bytes: u64 },
    /// A round of the session's task is over, and wrote what there was to write.
    RoundOver { service_done: bool, output: Output },
    /// The transport was asked to shut down its sending side, after [`Step::ShutDown`].
    ShutDown(Shutdown),
    /// No more can be read: `UnexpectedEof` for a FIN, or an error.
    ReadEnded(io::ErrorKind),
    /// The peer has sent something. This counts only while
    /// [`waits_for_peer`](super::Closing::waits_for_peer).
    Heard,
    /// The task was dropped in the middle of the session.
    TaskDropped,
}

/// The state of the queue at the end of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) enum Output {
    /// Everything is out.
    Gone,
    /// This side holds it back.
    Held { bytes: u64 },
    /// A part has left, or waits for a rate of this side.
    Moving,
    /// The transport has taken none of it.
    Waiting,
}

/// The transport's answer to a shutdown of its sending side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) enum Shutdown {
    Done,
    Pending,
    Failed,
}

/// The next step for the driver.
#[derive(Debug)]
#[must_use = "the end of a session waits for its steps"]
pub(in crate::connection) enum Step {
    /// Nothing, until the next event.
    Wait,
    /// Tells the service of the [cause](super::Closing::cause), and ends its readers where
    /// `readers` says so. [`Event::Told`] follows.
    Tell { readers: bool },
    /// Refuses all writes from now on and queues the Close frame, with `discard` in place of
    /// what is queued. [`Event::CloseQueued`] follows.
    Close { frame: ClosePayload, discard: bool },
    /// Shuts down the sending side. [`Event::ShutDown`] follows.
    ShutDown,
    /// Drops the connection as it is, and fails every handle with this cause.
    Abandon(EndCause),
    /// Lets the socket go, after a complete end.
    Release,
}
