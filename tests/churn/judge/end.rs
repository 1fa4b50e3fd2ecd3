//! The end of a session, as the client was told.

use tower_wsstream::EndCause;

use super::{Evidence, Verdict, runs};
use crate::{
    facts::Done,
    notes::Outcome,
    plan::{Transport, Words},
    service::LAST,
};

/// The status of a RST_STREAM after a failure.
const INTERNAL_ERROR: u32 = 6;

impl Evidence<'_> {
    /// Judges the end that the client was told.
    pub(super) fn end(&self, cause: &EndCause) -> Verdict {
        let (facts, log) = (self.facts, self.log);
        hold!(log.words.len() <= 1, "the last words were asked for twice");
        let summary = &log.summaries[0];
        let Some(code) = self.close_code(cause)? else {
            return Ok(());
        };
        let words = log.words.first();
        let told = match words {
            _ if self.is_command() => self.has_told(cause, summary.close_code)?,
            None => self.outcome() == Some(Outcome::Returned) && self.hears(),
            // They are for the error stream, which only the end of the session ends.
            Some(Words::Message(channel)) => {
                !self.over_spdy() || facts.data[usize::from(*channel)].replied
            }
            Some(Words::Silence) => self.hears(),
            Some(Words::Nothing | Words::Panic) => false,
        };
        // A breach of the protocol in the grace of another end is answered like any other.
        if facts.any(|done| matches!(done, Done::Violation(fault) if fault.code() == code)) {
            return Ok(());
        }
        let expected = match cause {
            EndCause::PeerClosed { code, .. } => *code,
            EndCause::Closed { code, .. } => Some(*code),
            _ if told => Some(1000),
            EndCause::IdleTimeout | EndCause::TimeLimit | EndCause::Drained => Some(1001),
            EndCause::Completed | EndCause::ServiceFailed | EndCause::ServicePanicked => Some(1011),
            _ => return Err(format!("Close {code:?} for {cause:?}")),
        };
        hold!(
            code == expected,
            "Close {code:?} for {cause:?}, not {expected:?}"
        );
        // All that was accepted has come in front of the Close.
        let (came, went) = match self.over_spdy() {
            true => (runs(&facts.messages), runs(&log.accepted)),
            false => (facts.messages.clone(), self.accepted()),
        };
        hold!(
            came == went,
            "{} of {} messages, and Close {code:?}",
            came.len(),
            went.len()
        );
        self.streams(cause, told)?;
        if !self.is_command() {
            let last = match words {
                Some(Words::Message(channel)) if told => Some((*channel, LAST.to_vec())),
                _ => None,
            };
            hold!(facts.odd == last, "the last words are {:?}", facts.odd);
        }
        self.pongs(cause)
    }

    /// Judges the ends of the streams that stand for channels.
    ///
    /// They are reset if the service has an outcome that was not told, because a stream that ends in
    /// order looks complete.
    fn streams(&self, cause: &EndCause, told: bool) -> Verdict {
        let has_outcome = matches!(
            cause,
            EndCause::Completed
                | EndCause::ServiceFailed
                | EndCause::ServicePanicked
                | EndCause::IdleTimeout
                | EndCause::TimeLimit
                | EndCause::StreamsMissing
                | EndCause::Drained
        );
        let fails = has_outcome && !told;
        let streams = self.facts.data.iter().zip(&self.facts.sent).enumerate();
        for (channel, (stream, sent)) in streams.filter(|(_, (stream, _))| stream.replied) {
            // A reset has no effect on a stream that both ends have ended.
            let is_closed = stream.fin && sent.closed;
            let holds = match stream.reset {
                Some(status) => fails && status == INTERNAL_ERROR,
                None => stream.fin && (!fails || is_closed),
            };
            hold!(
                holds,
                "the stream of {channel} has ended with {stream:?} for {cause:?}"
            );
        }
        Ok(())
    }

    /// Returns the code with which the session was closed, as the summary has it, if the client was told.
    pub(super) fn close_code(&self, cause: &EndCause) -> Result<Option<Option<u16>>, String> {
        let facts = self.facts;
        let summary = &self.log.summaries[0];
        let Some(code) = facts.close else {
            let excused = cause.is_lost()
                || self.broken
                || self.drained.1.cut > 0
                || self.reads_too_slowly()
                || self.may_be_given_up()
                || facts.any(|done| !matches!(done, Done::Close(_)));
            hold!(excused || !facts.read_to_end, "no Close, but {cause:?}");
            return Ok(None);
        };
        let said = summary.close_code;
        if self.plan.setup.transport == Transport::Post {
            let status = match said {
                Some(1002 | 1007 | 1009) => 1,
                Some(1011) => 2,
                _ => 0,
            };
            hold!(code == Some(status), "GOAWAY {code:?} for {said:?}");
        } else {
            hold!(
                said == code,
                "Close {code:?}, but the summary says {said:?}"
            );
        }
        Ok(Some(said))
    }

    /// Returns whether a client reads so slowly that the session may give up.
    fn reads_too_slowly(&self) -> bool {
        let waits = self.plan.reads.iter().map(|(_, wait)| *wait);
        waits.sum::<u64>() >= 85_000
    }

    fn pongs(&self, cause: &EndCause) -> Verdict {
        let facts = self.facts;
        let came: Vec<_> = facts.pongs.iter().filter(|pong| !pong.is_empty()).collect();
        let mut left = facts.pings.iter();
        let in_order = came.iter().all(|pong| left.any(|ping| ping == *pong));
        hold!(in_order, "Pongs that nothing asked for");
        if matches!(cause, EndCause::PeerClosed { .. }) && facts.pings.len() <= 16 {
            hold!(
                came.len() == facts.pings.len(),
                "{} Pongs for {} Pings",
                came.len(),
                facts.pings.len()
            );
        }
        Ok(())
    }
}
