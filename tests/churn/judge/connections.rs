//! The verdict on the connections of a session, each of which has an end of its own.

use std::{io::ErrorKind, time::Duration};

use tower_wsstream::EndCause;

use super::{Evidence, Verdict, kind_of_read};
use crate::{
    facts::Done,
    notes::Outcome,
    plan::{Act, CHANNELS},
    service::FIRST_PORT,
};

/// The time within which each connection is answered, as long as its client waits.
const ANSWER: Duration = Duration::from_secs(30);

impl Evidence<'_> {
    pub(super) fn connections(&self, cause: &EndCause) -> Verdict {
        let code = self.close_code(cause)?;
        for connection in 0..CHANNELS {
            self.connection(connection, cause, code)
                .map_err(|wrong| format!("connection {connection}: {wrong}"))?;
        }
        self.failed_writes(cause)?;
        match code {
            Some(code) => self.code(cause, code),
            None => Ok(()),
        }
    }

    fn connection(&self, at: usize, cause: &EndCause, code: Option<Option<u16>>) -> Verdict {
        let (facts, log) = (self.facts, self.log);
        let (data, errors) = (&facts.data[at], &facts.errors[at]);
        for stream in [data, errors] {
            if let Some(wrong) = stream.wrong {
                return Err(wrong.into());
            }
        }
        let outcome = log.outcomes[at];
        let is_open = facts.opened[at].is_some();
        hold!(
            log.calls[at] <= usize::from(is_open),
            "{} calls, open: {is_open}",
            log.calls[at]
        );
        let (came, went) = (facts.received[at], log.written[at]);
        hold!(came <= went, "{came} bytes of {went}");
        if data.fin {
            hold!(came == went, "a FIN behind {came} bytes of {went}");
            let its_own = log.ended_output[at] || outcome == Some(Outcome::Returned);
            // Nothing serves a half of a connection, and it ends with the session.
            let is_half = log.calls[at] == 0;
            let closed = matches!(cause, EndCause::Closed { .. });
            hold!(its_own || is_half || closed, "a FIN, and {outcome:?}");
        }
        let text = String::from_utf8_lossy(&facts.texts[at]);
        if !text.is_empty() {
            let port = FIRST_PORT + at as u16;
            let whole = format!("error forwarding port {port}: failed on purpose");
            hold!(
                outcome == Some(Outcome::FailedTarget) && text == whole,
                "{text:?} for {outcome:?}"
            );
        }
        let fault = |done: &Done| matches!(done, Done::Violation(_));
        // Nothing that was accepted is left out in front of the end of the session.
        if code.is_some() && !facts.any(fault) && !facts.has_reset[at] {
            hold!(
                came == went || data.reset.is_some(),
                "{came} bytes of {went}, and no reset"
            );
            if log.calls[at] == 1 && !self.may_lack_a_place() {
                self.told(at, outcome, cause)?;
            }
        }
        self.answered(at)?;
        self.reader(at, cause)
    }

    /// Returns whether the queues of the client may be full, for all that it has said. Ends of streams
    /// have no place there then, and only the GOAWAY follows.
    fn may_lack_a_place(&self) -> bool {
        let torn = (self.plan.client.iter()).any(|act| matches!(act, Act::Tear { .. }));
        let setup = &self.plan.setup;
        // Answers to PINGs wait behind data that this end reads slowly, and count for nothing behind a
        // GOAWAY.
        let unread = setup.ping.is_some() && setup.rate.is_some();
        torn || unread || !setup.answers_pings || !self.plan.reads.is_empty()
    }

    /// Judges what a client was told of the end of a connection.
    fn told(&self, at: usize, outcome: Option<Outcome>, cause: &EndCause) -> Verdict {
        let (facts, log) = (self.facts, self.log);
        let (data, errors) = (&facts.data[at], &facts.errors[at]);
        match outcome {
            Some(Outcome::Returned | Outcome::Exited(_)) => {
                let complete = data.fin && errors.fin;
                hold!(complete || data.reset.is_some(), "no end");
            }
            Some(Outcome::FailedTarget) => {
                // Errors end with the output, but a reset may follow.
                // A close refuses them at once, even in the moment of another end.
                let closed = log.closed.is_some();
                let late = log.ended_output[at] && (data.reset.is_some() || facts.sent[at].closed);
                hold!(!facts.texts[at].is_empty() || closed || late, "no text");
            }
            Some(Outcome::Failed | Outcome::Panicked | Outcome::Dropped) | None => {
                // A close by a service ends all of them in order.
                let closed = matches!(cause, EndCause::Closed { .. });
                let ended = data.fin && (log.ended_output[at] || closed);
                hold!(ended || data.reset.is_some(), "no reset for {outcome:?}");
            }
        }
        Ok(())
    }

    /// Each connection is answered before its client gives it up.
    fn answered(&self, at: usize) -> Verdict {
        let facts = self.facts;
        let ended = self.log.ended.as_ref().map_or(self.start, |(at, _)| *at);
        let may_be_late =
            facts.has_cut() || self.broken || self.may_lack_a_place() || self.may_pause();
        if let Some(opened) = facts.opened[at]
            && !may_be_late
            && !facts.has_reset[at]
            && ended >= opened + ANSWER
        {
            let answered = facts.data[at].replied || facts.data[at].reset.is_some();
            hold!(answered, "no answer");
        }
        Ok(())
    }

    fn reader(&self, at: usize, cause: &EndCause) -> Verdict {
        let (sent, read) = (&self.facts.sent[at], &self.log.reads[at]);
        let n = read.bytes;
        hold!(n <= sent.begun, "{n} bytes of {}", sent.begun);
        let failure = match &read.end {
            None => return Ok(()),
            Some(Ok(())) => {
                let whole = n == sent.begun && sent.whole == sent.begun;
                hold!(sent.closed && whole, "EOF after {n} bytes of {sent:?}");
                return Ok(());
            }
            Some(Err(failure)) => failure,
        };
        let Some(told) = &failure.cause else {
            let reset = self.facts.has_reset[at] || self.facts.data[at].reset.is_some();
            hold!(
                failure.kind == ErrorKind::ConnectionReset && (reset || self.facts.close.is_none()),
                "a read failed with {failure:?}"
            );
            return Ok(());
        };
        hold!(
            told == cause && failure.kind == kind_of_read(told),
            "a read failed with {failure:?}, but {cause:?}"
        );
        // A connection that the client has ended is told as one that has ended.
        let has_left = matches!(cause, EndCause::PeerClosed { .. });
        hold!(!(sent.closed && has_left), "no EOF, but {cause:?}");
        Ok(())
    }

    fn failed_writes(&self, cause: &EndCause) -> Verdict {
        for failure in &self.log.write_errors {
            let its_own = match (failure.kind, &failure.cause) {
                // A connection that was reset, or ended by its own service.
                (ErrorKind::ConnectionReset | ErrorKind::BrokenPipe, None) => true,
                // The connection was given up in front of its answer.
                (ErrorKind::BrokenPipe, Some(EndCause::Aborted)) => true,
                (ErrorKind::BrokenPipe, Some(EndCause::Closed { code, .. })) => {
                    self.log.closed == Some(*code)
                }
                (ErrorKind::BrokenPipe, Some(told)) => told == cause || told.is_lost(),
                _ => false,
            };
            hold!(its_own, "a write failed with {failure:?}, but {cause:?}");
        }
        Ok(())
    }

    fn code(&self, cause: &EndCause, code: Option<u16>) -> Verdict {
        if self
            .facts
            .any(|done| matches!(done, Done::Violation(fault) if fault.code() == code))
        {
            return Ok(());
        }
        let holds = match cause {
            EndCause::PeerClosed { code: theirs, .. } => code == *theirs,
            EndCause::Closed { code: ours, .. } => code == Some(*ours),
            EndCause::IdleTimeout | EndCause::TimeLimit | EndCause::Drained => {
                let done = |outcome: &Option<Outcome>| !matches!(outcome, Some(Outcome::Dropped));
                // The outcome is told if each connection has told its own.
                match self.log.outcomes.iter().all(done) {
                    true => matches!(code, Some(1000 | 1001)),
                    false => code == Some(1001),
                }
            }
            _ => false,
        };
        hold!(holds, "Close {code:?} for {cause:?}");
        Ok(())
    }
}
