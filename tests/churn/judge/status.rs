//! The outcome of a command, which its client is told on the error channel.

use tower_wsstream::EndCause;

use super::Evidence;
use crate::{facts::Done, notes::Outcome};

/// The channel of errors.
const ERROR: u8 = 3;

/// The words for a session that was closed.
const CLOSED: &str = "the session ended before the command did";

impl Evidence<'_> {
    /// Judges what the client was told of a command. Returns whether it was told the outcome.
    pub(super) fn has_told(&self, cause: &EndCause, code: Option<u16>) -> Result<bool, String> {
        let facts = self.facts;
        // The client may have left before its streams were open.
        if self.over_spdy() && !facts.data[usize::from(ERROR)].replied {
            hold!(code != Some(1000), "a success without a stream for it");
            return Ok(false);
        }
        if facts.any(|done| matches!(done, Done::Violation(_))) {
            // Only the Close is sent, or what was told before it.
            return Ok(true);
        }
        let name = self.plan.setup.subprotocol;
        let is_json = name.starts_with("v4") || name.starts_with("v5");
        let expected = self.words(cause);
        let text = match &facts.odd {
            None => "",
            Some((ERROR, text)) => std::str::from_utf8(text).map_err(|e| e.to_string())?,
            Some((channel, _)) => return Err(format!("an outcome on {channel}")),
        };
        let is_success = match is_json {
            true => {
                let status: serde_json::Value =
                    serde_json::from_str(text).map_err(|error| format!("{text:?}: {error}"))?;
                status["status"] == "Success"
            }
            false => text.is_empty(),
        };
        let holds = match expected {
            None => is_success,
            Some(words) => !is_success && text.contains(words),
        };
        // A close does not wait for the command, which may return behind it.
        let closed = matches!(cause, EndCause::Closed { .. }) && text.contains(CLOSED);
        hold!(holds || closed, "{text:?}, not {expected:?}, for {cause:?}");
        Ok(true)
    }

    /// Returns words of the text for this outcome, or `None` for a success.
    fn words(&self, cause: &EndCause) -> Option<&'static str> {
        let outcome = match self.outcome() {
            None | Some(Outcome::Dropped) => None,
            outcome => outcome,
        };
        match (outcome, cause) {
            (Some(Outcome::Returned | Outcome::Exited(0)), _) => None,
            (Some(Outcome::Exited(_)), _) => Some("exit status 17"),
            (Some(Outcome::Failed | Outcome::FailedTarget), _) => Some("failed on purpose"),
            (Some(Outcome::Panicked | Outcome::Dropped), _) => Some("the command's service failed"),
            (None, EndCause::IdleTimeout) => Some("idle for too long"),
            (None, EndCause::TimeLimit) => Some("time limit"),
            (None, EndCause::Drained) => Some("shutting down"),
            (None, _) => Some(CLOSED),
        }
    }
}
