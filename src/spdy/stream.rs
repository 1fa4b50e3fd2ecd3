//! The states of one stream.
//!
//! ```text
//!                Reply              their FIN
//!   Opened ─────────────> Open ─────────────────> Ended by them
//!     │                     │                          │
//!     │ their FIN           │ our FIN                  │ our FIN
//!     v                     v                          v
//!   Opened, ended     Ended by us ─────────────────> Closed
//!   by them                        their FIN
//! ```
//!
//! A reset from either side leads to `Closed` from every state. A reset of ours in `Opened` takes the
//! place of the reply: kubectl then gives up this connection only.

use super::frame::ResetStatus;

/// The state of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The peer has opened the stream and waits for the reply. `ended` is set if it has also ended
    /// its direction.
    Opened { ended: bool },
    /// Data may go in both directions.
    Open,
    /// The peer has ended its direction.
    EndedByThem,
    /// This end has ended its direction.
    EndedByUs,
    /// Nothing goes in either direction.
    Closed,
}

/// An event of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Data arrives. An empty DATA frame is not data.
    Data,
    /// The peer ends its direction.
    TheirFin,
    TheirReset,
    /// This end accepts the stream.
    Reply,
    /// This end ends its direction, and accepts the stream if it has not done so before.
    OurFin,
    OurReset(ResetStatus),
}

/// The consequence of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the peer or the handles wait for it"]
pub(crate) enum Act {
    Nothing,
    /// The data goes to the reader.
    Deliver,
    /// The data is discarded.
    Discard,
    /// The reader gets the end of the input.
    EndInput,
    /// The reader and the writer fail.
    Fail,
    SendReply,
    /// A FIN is sent, behind the reply if `reply` is set.
    SendFin {
        reply: bool,
    },
    /// An RST_STREAM is sent, and the reader and the writer fail.
    SendReset(ResetStatus),
}

impl State {
    /// Returns the state of a stream that the peer has just opened. `fin` is the flag of its
    /// SYN_STREAM. An unidirectional stream is refused: this end could not even reply to it.
    pub(crate) fn opened(fin: bool) -> Self {
        Self::Opened { ended: fin }
    }

    /// Returns the next state and the consequence of an event.
    pub(crate) fn on(self, event: Event) -> (Self, Act) {
        use State::{Closed, EndedByThem, EndedByUs, Open, Opened};
        match (self, event) {
            (Closed, Event::Data) => (Closed, Act::Discard),
            (Closed, _) => (Closed, Act::Nothing),

            (_, Event::TheirReset) => (Closed, Act::Fail),
            (_, Event::OurReset(status)) => (Closed, Act::SendReset(status)),

            (Opened { ended: false } | Open | EndedByUs, Event::Data) => (self, Act::Deliver),
            // The peer sends data behind its own end, or the stream is half closed by its SYN.
            (Opened { ended: true } | EndedByThem, Event::Data) => (self, Act::Discard),

            (Opened { ended: false }, Event::TheirFin) => (Opened { ended: true }, Act::EndInput),
            (Open, Event::TheirFin) => (EndedByThem, Act::EndInput),
            (EndedByUs, Event::TheirFin) => (Closed, Act::EndInput),
            (Opened { ended: true } | EndedByThem, Event::TheirFin) => (self, Act::Nothing),

            (Opened { ended: false }, Event::Reply) => (Open, Act::SendReply),
            (Opened { ended: true }, Event::Reply) => (EndedByThem, Act::SendReply),
            (Open | EndedByThem | EndedByUs, Event::Reply) => (self, Act::Nothing),

            (Opened { ended: false }, Event::OurFin) => (EndedByUs, Act::SendFin { reply: true }),
            (Opened { ended: true }, Event::OurFin) => (Closed, Act::SendFin { reply: true }),
            (Open, Event::OurFin) => (EndedByUs, Act::SendFin { reply: false }),
            (EndedByThem, Event::OurFin) => (Closed, Act::SendFin { reply: false }),
            (EndedByUs, Event::OurFin) => (EndedByUs, Act::Nothing),
        }
    }

    /// Returns whether the peer still waits for the reply.
    pub(crate) fn is_opened(self) -> bool {
        matches!(self, Self::Opened { .. })
    }

    /// Returns whether the peer may still send.
    pub(crate) fn receives(self) -> bool {
        matches!(
            self,
            Self::Opened { ended: false } | Self::Open | Self::EndedByUs
        )
    }

    /// Returns whether this end may still send.
    pub(crate) fn sends(self) -> bool {
        matches!(self, Self::Opened { .. } | Self::Open | Self::EndedByThem)
    }

    pub(crate) fn is_closed(self) -> bool {
        self == Self::Closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 6] = [
        State::Opened { ended: false },
        State::Opened { ended: true },
        State::Open,
        State::EndedByThem,
        State::EndedByUs,
        State::Closed,
    ];

    const EVENTS: [Event; 6] = [
        Event::Data,
        Event::TheirFin,
        Event::TheirReset,
        Event::Reply,
        Event::OurFin,
        Event::OurReset(ResetStatus::Cancel),
    ];

    /// Follows events from a stream that was just opened, and returns the consequences.
    fn acts(events: &[Event]) -> (State, Vec<Act>) {
        let mut state = State::opened(false);
        let acts = events.iter().map(|&event| {
            let (next, act) = state.on(event);
            state = next;
            act
        });
        let acts = acts.collect();
        (state, acts)
    }

    #[test]
    fn the_error_stream_of_the_recorded_session() {
        let events = [Event::Reply, Event::TheirFin, Event::OurFin];
        let (state, acts) = acts(&events);
        let fin = Act::SendFin { reply: false };
        assert_eq!(acts, [Act::SendReply, Act::EndInput, fin]);
        assert!(state.is_closed());
    }

    #[test]
    fn a_failed_dial_takes_the_place_of_the_reply() {
        let refused = ResetStatus::RefusedStream;
        let (state, acts) = acts(&[Event::OurReset(refused), Event::Reply, Event::OurFin]);
        assert_eq!(acts, [Act::SendReset(refused), Act::Nothing, Act::Nothing]);
        assert!(state.is_closed());
    }

    #[test]
    fn half_close_in_both_orders() {
        use Event::{Data, OurFin, Reply, TheirFin};
        let (state, acts_) = acts(&[Reply, TheirFin, Data, OurFin]);
        assert!(state.is_closed());
        assert_eq!(acts_[2], Act::Discard, "data behind their own end");
        let (state, acts_) = acts(&[Reply, OurFin, Data, TheirFin, Data]);
        assert!(state.is_closed());
        assert_eq!(acts_[2..], [Act::Deliver, Act::EndInput, Act::Discard]);
    }

    #[test]
    fn a_service_that_is_done_before_the_reply_still_accepts() {
        let (state, acts) = acts(&[Event::OurFin]);
        assert_eq!(acts, [Act::SendFin { reply: true }]);
        assert_eq!(state, State::EndedByUs);
    }

    #[test]
    fn each_event_in_each_state() {
        for state in STATES {
            for event in EVENTS {
                let (next, act) = state.on(event);
                // A stream never opens again, and its ends stay.
                assert!(
                    !state.is_closed() || next.is_closed(),
                    "{state:?} {event:?}"
                );
                assert!(state.receives() || !next.receives(), "{state:?} {event:?}");
                assert!(
                    state.is_opened() || !next.is_opened(),
                    "{state:?} {event:?}"
                );
                // Data reaches the reader exactly while the peer may send.
                if event == Event::Data {
                    assert_eq!(act == Act::Deliver, state.receives(), "{state:?}");
                }
                // Each end is told once.
                if act == Act::EndInput {
                    assert!(state.receives() && !next.receives(), "{state:?} {event:?}");
                }
                if matches!(event, Event::TheirReset | Event::OurReset(_)) {
                    assert!(next.is_closed(), "{state:?}");
                }
                // The same event again changes nothing.
                let (again, act) = next.on(event);
                assert_eq!(again, next, "{state:?} {event:?}");
                let data = [Act::Deliver, Act::Discard].contains(&act);
                assert!(data || act == Act::Nothing, "{state:?} {event:?}");
            }
        }
    }
}
