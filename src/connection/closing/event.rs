//! The events that the closing state machine handles, and the steps that it returns.

use std::io;

use crate::{error::EndCause, frame::ClosePayload, wire::Due};

/// An event that concerns the end of a session.
#[derive(Debug)]
pub(in crate::connection) enum Event {
    /// There is a cause to end. The first one is reported to the service. A later one can only make
    /// the end come sooner.
    Cause(EndCause),
    /// The service requested a close with this Close frame.
    CloseRequested { code: u16, frame: ClosePayload },
    /// The service and its handles know the cause, after [`Step::Tell`].
    Told,
    /// The last words are queued, or there are none, after
    /// [`may_say_last`](super::Closing::may_say_last) has returned `true`. `told` is whether the
    /// peer knows the outcome in full.
    LastWordsSaid { told: bool },
    /// The Close frame is queued behind this data, after [`Step::Close`].
    CloseQueued(Due),
    /// A round of the session's task is over, and has written as much as it could.
    RoundOver { service_done: bool, output: Output },
    /// The transport was asked to shut down its sending side, after [`Step::ShutDown`].
    ShutDown(Shutdown),
    /// Nothing more can be read. `UnexpectedEof` stands for a FIN, other kinds for an error.
    ReadEnded(io::ErrorKind),
    /// The peer has sent something. This only matters while
    /// [`waits_for_peer`](super::Closing::waits_for_peer) returns `true`.
    Heard,
    /// The task was dropped before the session was over.
    TaskDropped,
}

/// The state of the queue at the end of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) enum Output {
    /// Everything has left.
    Gone,
    /// This side holds it back.
    Held(Due),
    /// A part has left, or waits for this side's byte rate.
    Moving,
    /// The transport has accepted none of it.
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
    /// Does nothing until the next event.
    Wait,
    /// Tells the service the [cause](super::Closing::cause), and ends its readers if `readers` is
    /// set. [`Event::Told`] follows.
    Tell { readers: bool },
    /// Refuses all writes from now on and queues the Close frame, which replaces the queue if
    /// `discard` is set. [`Event::CloseQueued`] follows.
    Close { frame: ClosePayload, discard: bool },
    /// Shuts down the sending side. [`Event::ShutDown`] follows.
    ShutDown,
    /// Drops the connection as it is, and fails every handle with this cause.
    Abandon(EndCause),
    /// Releases the socket, after a complete end.
    Release,
}
