//! The intake: whether the session accepts writes.
//!
//! ```text
//!   Undecided -- every condition holds --> Accepting
//!       |                                      |
//!       '--------------- refuse ---------------'--> Refused(the first cause)
//! ```
//!
//! Undecided are the states that await a condition, or both. They have no fields, because a field
//! would cost every message a few instructions.

use crate::error::EndCause;

/// A condition for accepting writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The upgrade is accepted.
    Upgrade,
    /// The streams that stand for the channels are open.
    #[cfg(feature = "spdy")]
    Streams,
}

/// The state; see the module's documentation.
#[derive(Debug)]
pub(super) enum Intake {
    /// Writes have to wait for the upgrade.
    AwaitsUpgrade,
    /// Writes have to wait for the streams.
    #[cfg(feature = "spdy")]
    AwaitsStreams,
    /// Writes have to wait for the upgrade and the streams.
    #[cfg(feature = "spdy")]
    AwaitsBoth,
    /// Writes are accepted while there is room.
    Accepting,
    /// Writes fail with this cause.
    Refused(EndCause),
}

impl Intake {
    /// Makes writers wait for this condition.
    pub(super) fn defer(&mut self, condition: Condition) {
        *self = match (std::mem::replace(self, Self::Accepting), condition) {
            (Self::Accepting, Condition::Upgrade) => Self::AwaitsUpgrade,
            #[cfg(feature = "spdy")]
            (Self::Accepting, Condition::Streams) => Self::AwaitsStreams,
            #[cfg(feature = "spdy")]
            (Self::AwaitsUpgrade, Condition::Streams) => Self::AwaitsBoth,
            #[cfg(feature = "spdy")]
            (Self::AwaitsStreams, Condition::Upgrade) => Self::AwaitsBoth,
            (state, _) => state,
        };
    }

    /// Notes that a condition holds. Returns whether writers had to wait for it alone, so that their
    /// writes are accepted from now on.
    pub(super) fn accept(&mut self, condition: Condition) -> bool {
        let before = self.is_undecided();
        *self = match (std::mem::replace(self, Self::Accepting), condition) {
            (Self::AwaitsUpgrade, Condition::Upgrade) => Self::Accepting,
            #[cfg(feature = "spdy")]
            (Self::AwaitsStreams, Condition::Streams) => Self::Accepting,
            #[cfg(feature = "spdy")]
            (Self::AwaitsBoth, Condition::Upgrade) => Self::AwaitsStreams,
            #[cfg(feature = "spdy")]
            (Self::AwaitsBoth, Condition::Streams) => Self::AwaitsUpgrade,
            (state, _) => state,
        };
        before && !self.is_undecided()
    }

    /// Makes writes fail. Only the first cause counts.
    pub(super) fn refuse(&mut self, cause: &EndCause) {
        match self {
            Self::Refused(_) => {}
            _ => *self = Self::Refused(cause.clone()),
        }
    }

    /// Returns the cause with which writes fail, if they do.
    #[inline]
    pub(super) fn refusal(&self) -> Option<&EndCause> {
        match self {
            Self::Refused(cause) => Some(cause),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn is_undecided(&self) -> bool {
        #[cfg(feature = "spdy")]
        if let Self::AwaitsStreams | Self::AwaitsBoth = self {
            return true;
        }
        matches!(self, Self::AwaitsUpgrade)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Intake {
        Intake::Refused(EndCause::TooLarge)
    }

    #[test]
    fn an_acceptance_frees_writers_once() {
        let mut intake = Intake::Accepting;
        intake.defer(Condition::Upgrade);
        assert!(intake.accept(Condition::Upgrade));
        assert!(matches!(intake, Intake::Accepting));
        assert!(!intake.accept(Condition::Upgrade));
        assert!(matches!(intake, Intake::Accepting));
    }

    #[test]
    #[cfg(feature = "spdy")]
    fn writers_wait_for_every_condition() {
        for [first, last] in [
            [Condition::Upgrade, Condition::Streams],
            [Condition::Streams, Condition::Upgrade],
        ] {
            let mut intake = Intake::Accepting;
            intake.defer(first);
            intake.defer(last);
            assert!(!intake.accept(first) && intake.is_undecided());
            assert!(!intake.accept(first), "it holds already");
            assert!(intake.accept(last) && !intake.is_undecided());
        }
    }

    #[test]
    fn only_an_undecided_intake_keeps_writers_waiting() {
        for mut intake in [Intake::AwaitsUpgrade, Intake::Accepting] {
            intake.defer(Condition::Upgrade);
            assert!(intake.is_undecided() && intake.refusal().is_none());
        }
        assert!(!Intake::Accepting.is_undecided());
        assert!(!refused().is_undecided());
    }

    #[test]
    fn a_refusal_stays_with_its_first_cause() {
        for mut intake in [Intake::AwaitsUpgrade, Intake::Accepting, refused()] {
            intake.refuse(&EndCause::TooLarge);
            intake.refuse(&EndCause::Aborted);
            intake.defer(Condition::Upgrade);
            assert!(!intake.accept(Condition::Upgrade));
            assert_eq!(intake.refusal(), Some(&EndCause::TooLarge));
        }
    }
}
