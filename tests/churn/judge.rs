//! The verdict on a session: whether what both ends have seen keeps the promises.

/// Returns an error unless a condition holds.
macro_rules! hold {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*));
        }
    };
}

mod connections;
mod end;
mod status;

use std::{io::ErrorKind, time::Duration};

use tokio::time::Instant;
use tower_wsstream::{EndCause, session::Drained};

use crate::{
    facts::{Answer, Done, Facts},
    notes::{Log, Outcome},
    plan::{Act, Kind, Plan, READABLE, Step, Transport, Words},
    service::LAST,
};

/// A tick of the clock, and of timers that may be late.
const TICK: Duration = Duration::from_millis(5);

/// Everything that is known of a session.
pub(crate) struct Evidence<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) start: Instant,
    pub(crate) facts: &'a Facts,
    pub(crate) log: &'a Log,
    /// When the drain began, and what it has cut.
    pub(crate) drained: (Instant, Drained),
    /// The fault of the connection has shown.
    pub(crate) broken: bool,
}

type Verdict = Result<(), String>;

pub(crate) fn judge(it: &Evidence<'_>) -> Verdict {
    if let Some(wrong) = it.facts.wrong.iter().chain(&it.log.wrong).next() {
        return Err(wrong.clone());
    }
    it.output_is_in_order()?;
    hold!(it.log.summaries.len() <= 1, "two summaries");
    match (it.facts.answer, it.log.summaries.first()) {
        (Answer::Refused(status), None) => it.refusal(status),
        (Answer::Refused(status), Some(_)) => Err(format!("a session behind a {status}")),
        (Answer::Session, None) => Err("a session without a summary".into()),
        (Answer::None, None) => it.lost_handshake(),
        (_, Some(summary)) => {
            let cause = &summary.cause;
            let ended = it.log.ended.as_ref().map(|(_, cause)| cause);
            hold!(ended == Some(cause), "ended by {ended:?} and {cause:?}");
            it.cause(cause)?;
            it.promptness(cause)?;
            if it.plan.setup.kind == Kind::Ports {
                return it.connections(cause);
            }
            it.readers(cause)?;
            it.writers(cause)?;
            it.end(cause)?;
            it.counts()
        }
    }
}

impl Evidence<'_> {
    fn half_close(&self) -> bool {
        self.plan.setup.subprotocol.starts_with("v5") || self.over_spdy()
    }

    fn over_spdy(&self) -> bool {
        self.plan.setup.is_over_spdy()
    }

    fn is_command(&self) -> bool {
        self.plan.setup.kind == Kind::Command
    }

    /// Returns whether the client hears of a silent success: its streams are open, if it needs some.
    fn hears(&self) -> bool {
        let opened = |channel: usize| self.facts.data[channel].replied;
        !self.over_spdy() || (0..4).all(opened)
    }

    /// Returns the writes that were accepted.
    fn accepted(&self) -> Vec<(u8, usize)> {
        // A command that is not over SPDY says first that it is ready.
        let ready = self.is_command() && !self.over_spdy() && self.log.called;
        let ready = ready.then_some((1, 0)).into_iter();
        ready.chain(self.log.accepted.iter().copied()).collect()
    }

    fn outcome(&self) -> Option<Outcome> {
        self.log.outcome.map(|(_, outcome)| outcome)
    }

    fn steps(&self) -> impl Iterator<Item = &Step> {
        self.plan.tasks.iter().flatten()
    }

    /// The client has received a prefix of the output.
    fn output_is_in_order(&self) -> Verdict {
        let (came, went) = (&self.facts.messages, self.accepted());
        let holds = match self.over_spdy() {
            // Writes have no bounds there, but an order.
            true => is_start(&runs(came), &runs(&went)),
            false => went.starts_with(came),
        };
        hold!(
            holds,
            "the messages that came are others than those that were accepted"
        );
        Ok(())
    }

    fn refusal(&self, status: u16) -> Verdict {
        let log = self.log;
        // An empty message accepts nothing: it is the ready message of a command that may refuse.
        let wrote = log.accepted.iter().any(|(_, len)| *len > 0);
        hold!(!wrote, "{status} behind an accepted write");
        let failed = matches!(self.outcome(), Some(Outcome::Failed | Outcome::Panicked));
        let plausible = match status {
            500 => failed && self.plan.setup.kind == Kind::Channels,
            503 => self.drained.0 <= self.facts.answered.unwrap_or(self.start),
            504 => self.plan.setup.explicit && log.called,
            _ => false,
        };
        hold!(plausible, "refused with {status}");
        if let Some((_, cause)) = &log.ended {
            hold!(*cause == EndCause::Aborted, "refused, and {cause:?}");
        }
        for read in &log.reads {
            hold!(read.bytes == 0, "bytes in front of an answer");
            hold!(read.end != Some(Ok(())), "EOF in front of an answer");
        }
        Ok(())
    }

    /// The connection broke before there was an answer.
    fn lost_handshake(&self) -> Verdict {
        hold!(self.broken, "no answer");
        for read in &self.log.reads {
            hold!(read.end != Some(Ok(())), "EOF without a client");
        }
        Ok(())
    }

    /// The cause is something that has happened.
    fn cause(&self, cause: &EndCause) -> Verdict {
        hold!(self.happened(cause), "{cause:?} has not happened");
        let ended = self.log.ended.as_ref().map_or(self.start, |(at, _)| *at);
        if let Some(most) = self.plan.setup.time_limit
            && let Some(answered) = self.facts.answered
        {
            hold!(
                ended <= answered + Duration::from_millis(most) + TICK,
                "it ended behind its time limit"
            );
        }
        Ok(())
    }

    fn happened(&self, cause: &EndCause) -> bool {
        let setup = &self.plan.setup;
        let ended = self.log.ended.as_ref().map_or(self.start, |(at, _)| *at);
        let age = ended - self.start;
        let millis = Duration::from_millis;
        let did = |is: &dyn Fn(&Done) -> bool| self.facts.any(is);
        match cause {
            // The layer reports errors and panics of a command as its outcome.
            EndCause::Completed if self.is_command() => {
                !matches!(self.outcome(), None | Some(Outcome::Dropped))
            }
            EndCause::Completed => self.outcome() == Some(Outcome::Returned),
            EndCause::ServiceFailed => {
                self.outcome() == Some(Outcome::Failed) && !self.is_command()
            }
            EndCause::ServicePanicked => {
                self.outcome() == Some(Outcome::Panicked) && !self.is_command()
            }
            EndCause::PeerClosed { code, reason, .. } => {
                let reason: &str = reason;
                did(&|done| matches!(done, Done::Close(sent) if sent == code))
                    && (reason == if code.is_some() { "on purpose" } else { "" })
            }
            EndCause::Closed { code, .. } => self.log.closed == Some(*code),
            EndCause::IdleTimeout => setup
                .idle
                .is_some_and(|idle| age >= millis(idle) && self.has_been_idle(ended, millis(idle))),
            EndCause::TimeLimit => setup.time_limit.is_some_and(|most| age >= millis(most)),
            EndCause::Drained => self.drained.0 <= ended,
            EndCause::PeerUnresponsive => self.may_be_unresponsive(age),
            EndCause::ConnectionLost { kind, .. } => {
                let left = self.facts.has_cut() || did(&|done| matches!(done, Done::Fin));
                let fault = setup.fault.filter(|_| self.broken);
                let over_http_2 = setup.transport == Transport::Http2;
                left || self.may_be_given_up()
                    || fault.is_some_and(|fault| {
                        over_http_2 || fault.kind == *kind || *kind == ErrorKind::UnexpectedEof
                    })
            }
            EndCause::UpgradeFailed { .. } => self.broken || self.facts.has_cut(),
            EndCause::ProtocolError { .. } | EndCause::TooLarge | EndCause::InvalidText { .. } => {
                did(&|done| matches!(done, Done::Violation(fault) if fault.is(cause)))
            }
            // A stall does not replace the cause. A session is not aborted before it has another.
            _ => false,
        }
    }

    /// Returns whether no message has moved for this long, as far as the client can know.
    fn has_been_idle(&self, ended: Instant, idle: Duration) -> bool {
        let facts = self.facts;
        let waits = self.plan.reads.iter().any(|(_, wait)| *wait > 0);
        let came = facts.came_at.iter().filter(|_| !waits);
        let sent = facts.sent_at.iter().filter(|_| !self.may_pause());
        came.chain(sent)
            .filter(|at| **at < ended)
            .all(|at| *at + idle <= ended + TICK)
    }

    fn may_be_unresponsive(&self, age: Duration) -> bool {
        let setup = &self.plan.setup;
        let (Some(every), Some(timeout)) = (setup.ping, setup.ping_timeout) else {
            return false;
        };
        let waits = self.plan.reads.iter().any(|(_, wait)| *wait > 0);
        let torn = (self.plan.client.iter()).any(|act| matches!(act, Act::Tear { .. }));
        let fin = self.facts.any(|done| matches!(done, Done::Fin));
        let answers = setup.answers_pings && !waits && !torn && !fin;
        !answers && age >= Duration::from_millis(every + timeout)
    }

    /// Returns whether the session may have to leave something unread.
    fn may_pause(&self) -> bool {
        let setup = &self.plan.setup;
        (self.facts.sent.iter()).any(|sent| sent.all + 3 * 16 * 1024 > setup.window as u64)
            || setup.rate.is_some()
            || setup.explicit
    }

    /// Returns whether h2 may give the connection up: at both ends, it takes many small frames that
    /// wait to be read, such as Pings, for an attack.
    fn may_be_given_up(&self) -> bool {
        let client_may_pause = self.plan.reads.iter().any(|(_, wait)| *wait > 0);
        self.plan.setup.transport == Transport::Http2 && (self.may_pause() || client_may_pause)
    }

    /// An end of the client is noticed at once, if nothing in front of it has to wait.
    fn promptness(&self, cause: &EndCause) -> Verdict {
        let (Some((at, done)), false) = (self.facts.done.first(), self.may_pause()) else {
            return Ok(());
        };
        let ended = self.log.ended.as_ref().map_or(self.start, |(at, _)| *at);
        hold!(ended <= *at + TICK, "{done:?}, but {cause:?} only later");
        Ok(())
    }

    fn readers(&self, cause: &EndCause) -> Verdict {
        let clean = matches!(
            cause,
            EndCause::PeerClosed {
                code: None | Some(1000),
                ..
            }
        );
        // Readers end later than such a service, by what happens then.
        let outlives = matches!(cause, EndCause::ServiceFailed | EndCause::ServicePanicked);
        let cut = |told: &EndCause| *told == EndCause::Aborted && self.drained.1.cut > 0;
        let closes = |done: &Done| matches!(done, Done::Close(None | Some(1000)));
        let clean = clean || (outlives && self.facts.any(closes));
        // Everything in front of the end was read.
        let lost_last = matches!(
            cause,
            EndCause::ConnectionLost {
                kind: ErrorKind::UnexpectedEof,
                ..
            }
        ) && !self.facts.has_cut()
            && !self.broken;
        let all_came = lost_last || matches!(cause, EndCause::PeerClosed { .. });
        for channel in READABLE {
            let sent = &self.facts.sent[usize::from(channel)];
            let read = &self.log.reads[usize::from(channel)];
            let n = read.bytes;
            hold!(n <= sent.begun, "{channel}: {n} bytes of {}", sent.begun);
            let may_be_eof = match self.half_close() {
                true => sent.closed,
                false => clean && !sent.open,
            };
            match &read.end {
                None => continue,
                Some(Ok(())) => {
                    hold!(may_be_eof, "{channel}: EOF, but {cause:?}");
                    let whole = n == sent.whole && sent.whole == sent.begun;
                    hold!(
                        whole || self.log.ignores,
                        "{channel}: EOF after {n} bytes of {}",
                        sent.whole
                    );
                }
                Some(Err(failure)) => {
                    let Some(told) = &failure.cause else {
                        return Err(format!("{channel} failed with {failure:?}"));
                    };
                    hold!(
                        told == cause || (outlives && (self.happened(told) || cut(told))),
                        "{channel} failed with {failure:?}, but {cause:?}"
                    );
                    let expected = kind_of_read(told);
                    hold!(failure.kind == expected, "{channel}: {:?}", failure.kind);
                    hold!(
                        !(may_be_eof && all_came),
                        "{channel}: no EOF, but {cause:?}"
                    );
                }
            }
            if all_came && !self.log.ignores {
                hold!(
                    n >= sent.whole,
                    "{channel}: {n} bytes of {} in front of {cause:?}",
                    sent.whole
                );
            }
        }
        Ok(())
    }

    fn writers(&self, cause: &EndCause) -> Verdict {
        let shuts_down = self.steps().any(|step| matches!(step, Step::Shutdown(_)));
        for failure in &self.log.write_errors {
            let its_own = match &failure.cause {
                None => shuts_down,
                // A peer that is lost in the grace is told as such, and so is a close that was asked
                // for in the moment of another end.
                Some(EndCause::Closed { code, .. }) => self.log.closed == Some(*code),
                Some(told) => told == cause || told.is_lost(),
            };
            hold!(
                failure.kind == ErrorKind::BrokenPipe && its_own,
                "a write failed with {failure:?}, but {cause:?}"
            );
        }
        Ok(())
    }

    /// The summary counts what has moved.
    fn counts(&self) -> Verdict {
        let summary = &self.log.summaries[0];
        for (channel, counted) in summary.channels.iter().enumerate() {
            let last = match self.log.words.first() {
                Some(Words::Message(on)) if usize::from(*on) == channel => LAST.len() as u64,
                _ => 0,
            };
            // The layer tells the outcome of a command.
            if self.is_command() && channel == 3 {
                continue;
            }
            let (written, sent) = (self.log.written[channel], counted.sent.bytes);
            hold!(
                sent == written || sent == written + last,
                "{channel}: {written} bytes were written, and {sent} counted"
            );
            let (all, received) = (self.facts.sent[channel].all, counted.received.bytes);
            hold!(
                received <= all && received >= self.log.reads[channel].bytes,
                "{channel}: {received} bytes were counted of {all}"
            );
        }
        Ok(())
    }
}

/// Joins what follows each other on the same channel, and leaves out what is empty.
fn runs(writes: &[(u8, usize)]) -> Vec<(u8, usize)> {
    let mut runs: Vec<(u8, usize)> = Vec::new();
    for (channel, len) in writes {
        match runs.last_mut() {
            Some((last, sum)) if last == channel => *sum += len,
            _ if *len > 0 => runs.push((*channel, *len)),
            _ => {}
        }
    }
    runs
}

/// Returns whether some runs are the beginning of others.
fn is_start(came: &[(u8, usize)], went: &[(u8, usize)]) -> bool {
    let Some(((channel, len), before)) = came.split_last() else {
        return true;
    };
    went.starts_with(before)
        && (went.get(before.len())).is_some_and(|(on, most)| on == channel && len <= most)
}

/// Returns the kind of error of a reader, by the table in the documentation of `EndCause`.
fn kind_of_read(cause: &EndCause) -> ErrorKind {
    match cause {
        EndCause::ConnectionLost { .. } | EndCause::UpgradeFailed { .. } | EndCause::Aborted => {
            ErrorKind::ConnectionReset
        }
        EndCause::ProtocolError { .. } | EndCause::TooLarge | EndCause::InvalidText { .. } => {
            ErrorKind::InvalidData
        }
        EndCause::IdleTimeout | EndCause::TimeLimit | EndCause::PeerUnresponsive => {
            ErrorKind::TimedOut
        }
        _ => ErrorKind::ConnectionAborted,
    }
}
