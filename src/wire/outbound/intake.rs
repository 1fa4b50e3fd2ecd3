//! The intake: whether the session accepts writes.
//!
//! ```text
//!   Undecided -- accept --> Accepting
//!       |                       |
//!       '------- refuse --------'--> Refused(the first cause)
//! ```

use crate::error::EndCause;

/// The state; see the module's documentation.
#[derive(Debug)]
pub(super) enum Intake {
    /// The upgrade has not been accepted yet, and writes have to wait for it.
    Undecided,
    /// Writes are accepted while there is room.
    Accepting,
    /// Writes fail with this cause.
    Refused(EndCause),
}

impl Intake {
    /// Makes writers wait until the upgrade is accepted.
    pub(super) fn defer(&mut self) {
        match self {
            Self::Undecided | Self::Accepting => *self = Self::Undecided,
            Self::Refused(_) => {}
        }
    }

    /// Accepts writes from now on. Returns whether writers had to wait for this.
    pub(super) fn accept(&mut self) -> bool {
        match self {
            Self::Undecided => {
                *self = Self::Accepting;
                true
            }
            Self::Accepting | Self::Refused(_) => false,
        }
    }

    /// Makes writes fail. Only the first cause counts.
    pub(super) fn refuse(&mut self, cause: &EndCause) {
        match self {
            Self::Undecided | Self::Accepting => *self = Self::Refused(cause.clone()),
            Self::Refused(_) => {}
        }
    }

    /// Returns the cause with which writes fail, if they do.
    #[inline]
    pub(super) fn refusal(&self) -> Option<&EndCause> {
        match self {
            Self::Refused(cause) => Some(cause),
            Self::Undecided | Self::Accepting => None,
        }
    }

    #[inline]
    pub(super) fn is_undecided(&self) -> bool {
        matches!(self, Self::Undecided)
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
        let mut intake = Intake::Undecided;
        assert!(intake.accept());
        assert!(matches!(intake, Intake::Accepting));
        assert!(!intake.accept());
        assert!(matches!(intake, Intake::Accepting));
    }

    #[test]
    fn only_an_undecided_intake_keeps_writers_waiting() {
        for mut intake in [Intake::Undecided, Intake::Accepting] {
            intake.defer();
            assert!(intake.is_undecided() && intake.refusal().is_none());
        }
        assert!(!Intake::Accepting.is_undecided());
        assert!(!refused().is_undecided());
    }

    #[test]
    fn a_refusal_stays_with_its_first_cause() {
        for mut intake in [Intake::Undecided, Intake::Accepting, refused()] {
            intake.refuse(&EndCause::TooLarge);
            intake.refuse(&EndCause::Aborted);
            intake.defer();
            assert!(!intake.accept());
            assert_eq!(intake.refusal(), Some(&EndCause::TooLarge));
        }
    }
}
