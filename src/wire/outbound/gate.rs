//! The gate to the transport: whether output may leave now, and whether it ever will.
//!
//! ```text
//!            Installed             Pending
//!   Absent ------------> Open --------------> Full
//!                        |  ^  DriverDue      |  ^
//!              RateSpent |  '-----------------'  |
//!                        |  ^                    |
//!                        |  | RateAllows,        |
//!                        v  | DriverDue          |
//!                       Paced -------------------'
//!                                  Pending
//!
//!   any but Gone   -- Failed(kind) --> Broken(kind), which is final
//!   any but Broken -- Taken ---------> Gone, which is final
//! ```
//!
//! - Each name is a state of the [`Gate`], and the label of an arrow is the [`Event`] on which it is
//!   taken.
//! - [`Event::Installed`] happens once. Any other event without an arrow changes nothing.
//!
//! A writer that finds the gate shut waits. Only the driver opens it again, and wakes the waiting
//! writers at the end of that turn.

use std::io;

/// The state of the gate; see the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// There is no transport yet.
    Absent,
    /// Output may leave.
    Open,
    /// The transport accepts no more, and the driver's waker is registered with it.
    Full,
    /// Data is waiting for the outbound rate. Control frames may leave.
    Paced,
    /// The transport has failed, and nothing will leave any more.
    Broken(io::ErrorKind),
    /// The driver has taken the transport away, and nothing will leave any more.
    Gone,
}

/// An event at the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The driver has installed the transport.
    Installed,
    /// A turn begins in which the driver is due: the socket or a timer may have woken it.
    DriverDue,
    /// The transport returned `Pending`.
    Pending,
    /// Data is waiting for the rate.
    RateSpent,
    /// No data is waiting for the rate.
    RateAllows,
    /// The transport returned an error.
    Failed(io::ErrorKind),
    /// The driver has taken the transport away for good.
    Taken,
}

impl Gate {
    /// Returns the state that follows.
    #[inline]
    pub(super) fn on(self, event: Event) -> Self {
        match (self, event) {
            // The first reason stays: a later error, or that the transport was taken away, explains
            // less.
            (Self::Broken(_) | Self::Gone, _) => self,
            (_, Event::Failed(kind)) => Self::Broken(kind),
            (_, Event::Taken) => Self::Gone,
            (_, Event::Installed) => Self::Open,
            (Self::Absent, _) => Self::Absent,
            (Self::Open | Self::Full | Self::Paced, Event::DriverDue) => Self::Open,
            // Even if it is paced: control frames have found the transport full.
            (Self::Open | Self::Full | Self::Paced, Event::Pending) => Self::Full,
            (Self::Open | Self::Paced, Event::RateSpent) => Self::Paced,
            (Self::Open | Self::Paced, Event::RateAllows) => Self::Open,
            // The socket decides, because its wake-up is certain and a timer would be useless.
            (Self::Full, Event::RateSpent | Event::RateAllows) => Self::Full,
        }
    }

    /// Returns whether data may leave.
    #[inline]
    pub(super) fn is_open(self) -> bool {
        self == Self::Open
    }

    /// Returns whether control frames may leave, which they may regardless of the rate.
    pub(super) fn passes_control(self) -> bool {
        matches!(self, Self::Open | Self::Paced)
    }

    /// Returns the reason why nothing will leave any more, if there is one.
    pub(super) fn failure(self) -> Option<io::ErrorKind> {
        match self {
            Self::Broken(kind) => Some(kind),
            Self::Gone => Some(io::ErrorKind::NotConnected),
            Self::Absent | Self::Open | Self::Full | Self::Paced => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};

    use super::{Event::*, Gate::*, *};

    const EVENTS: [Event; 7] = [
        Installed,
        DriverDue,
        Pending,
        RateSpent,
        RateAllows,
        Failed(ConnectionReset),
        Taken,
    ];

    /// Asserts the next state for each of [`EVENTS`], in their order.
    #[track_caller]
    fn assert_follow(gate: Gate, next: [Gate; 7]) {
        assert_eq!(EVENTS.map(|event| gate.on(event)), next, "from {gate:?}");
    }

    #[test]
    fn without_a_transport_only_one_that_comes_opens_it() {
        let lost = Broken(ConnectionReset);
        assert_follow(Absent, [Open, Absent, Absent, Absent, Absent, lost, Gone]);
    }

    #[test]
    fn an_open_gate_is_shut_by_the_transport_and_by_the_rate() {
        let lost = Broken(ConnectionReset);
        assert_follow(Open, [Open, Open, Full, Paced, Open, lost, Gone]);
    }

    #[test]
    fn a_full_transport_is_tried_again_by_the_driver_only() {
        let lost = Broken(ConnectionReset);
        assert_follow(Full, [Open, Open, Full, Full, Full, lost, Gone]);
    }

    #[test]
    fn the_rate_opens_what_it_has_shut() {
        let lost = Broken(ConnectionReset);
        assert_follow(Paced, [Open, Open, Full, Paced, Open, lost, Gone]);
    }

    #[test]
    fn the_first_error_stays() {
        assert_follow(Broken(BrokenPipe), [Broken(BrokenPipe); 7]);
    }

    #[test]
    fn a_transport_that_was_taken_does_not_come_back() {
        assert_follow(Gone, [Gone; 7]);
    }

    #[test]
    fn only_an_open_gate_lets_data_out() {
        let gates = [Absent, Open, Full, Paced, Broken(BrokenPipe), Gone];
        let open = gates.map(Gate::is_open);
        assert_eq!(open, [false, true, false, false, false, false]);
        let control = gates.map(Gate::passes_control);
        assert_eq!(control, [false, true, false, true, false, false]);
    }

    #[test]
    fn only_the_end_of_the_transport_is_a_failure() {
        let gates = [Absent, Open, Full, Paced, Broken(BrokenPipe), Gone];
        let failures = gates.map(Gate::failure);
        let none = None;
        let end = [Some(BrokenPipe), Some(NotConnected)];
        assert_eq!(failures, [none, none, none, none, end[0], end[1]]);
    }
}
