//! The rule that no end may break: a failure never looks like a success, and a truncation never like
//! an end of file.

use super::{
    carrier::{Carrier, Kind},
    client::StreamEnd,
    end::End,
    outcome::{Outcome, Output, Reader, Told},
};

/// A breach of the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lie {
    /// The service reads EOF, and the client has not ended its input.
    InputLooksComplete,
    /// The client sees an end of the output that was accepted, and does not have all of it.
    OutputLooksComplete,
    /// The client sees a success, and the service has not reported one.
    LooksLikeSuccess,
    /// The session goes on, and nobody uses it any more.
    Endless,
}

/// A breach that cannot be helped.
pub(super) struct Exception {
    pub(super) name: &'static str,
    pub(super) reason: &'static str,
    pub(super) covers: fn(End, Carrier, Lie) -> bool,
}

pub(super) const EXCEPTIONS: &[Exception] = &[
    Exception {
        name: "kubectl's FIN",
        reason: "If a local client aborts its connection, `kubectl port-forward` sends the FIN of an \
                 ordinary end, so an upload that was cut off looks complete.",
        covers: |end, _, lie| end == End::KubectlsAbort && lie == Lie::InputLooksComplete,
    },
    Exception {
        name: "the answer to a Close",
        reason: "A client that sends a Close, or a GOAWAY, gets the same back (RFC 6455, 5.5.1), \
                 whatever the service says. A command tells its outcome on the error channel as \
                 well.",
        covers: |end, carrier, lie| {
            let closes = [
                End::Close1000,
                End::CloseWithoutCode,
                End::Close1000InMessage,
                End::CloseBothClose,
                End::GoAway,
            ];
            closes.contains(&end) && carrier.kind != Kind::Command && lie == Lie::LooksLikeSuccess
        },
    },
];

/// Returns the breaches of a cell.
pub(super) fn lies(end: End, carrier: Carrier, outcome: &Outcome) -> Vec<Lie> {
    let success = looks_like_success(carrier, outcome);
    let ended = outcome.output_end.last() == Some(&StreamEnd::Fin);
    let goes_on = carrier.has_connections()
        && (end.own().is_some()
            || matches!(end, End::EndsInput | End::KubectlsAbort | End::ResetsInput));
    let breaches = [
        (
            outcome.reader == Some(Reader::Eof)
                && !(end.completes_input(carrier) && outcome.whole_input),
            Lie::InputLooksComplete,
        ),
        (
            outcome.output != Output::All && (success || ended),
            Lie::OutputLooksComplete,
        ),
        (success && !outcome.content, Lie::LooksLikeSuccess),
        (outcome.cause.is_none() && !goes_on, Lie::Endless),
    ];
    let broken = breaches.into_iter().filter(|(broken, _)| *broken);
    broken.map(|(_, lie)| lie).collect()
}

/// Returns whether a client that knows its subprotocol would take this for a success.
fn looks_like_success(carrier: Carrier, outcome: &Outcome) -> bool {
    if carrier.has_status() {
        return outcome.told == Told::Success;
    }
    let fin = |ends: &[StreamEnd]| ends == [StreamEnd::Fin];
    let ended = if carrier.has_connections() {
        fin(&outcome.output_end) && fin(&outcome.error_end)
    } else if carrier.is_websocket() {
        matches!(outcome.close, Some(Some(1000) | None))
    } else {
        outcome.go_away == Some(0) && fin(&outcome.error_end)
    };
    outcome.told == Told::Nothing && ended
}
