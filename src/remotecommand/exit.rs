use std::{fmt, process};

use crate::protocol::Status;

/// The number that is added to that of a signal to form an exit code, as shells do.
const SIGNAL_BASE: i32 = 128;

/// The exit code of a command that has none in 0 to 255.
const UNKNOWN_CODE: u8 = 255;

/// The exit code of a command, which the service of exec returns.
///
/// A client such as kubectl exits with the same code.
///
/// # Examples
///
/// ```
/// use tower_wsstream::remotecommand::ExitStatus;
///
/// assert!(ExitStatus::success().is_success());
/// assert_eq!(ExitStatus::from_code(3).to_status().exit_code(), Some(3));
/// assert_eq!(ExitStatus::signal(9).to_string(), "exit status 137");
/// assert_eq!(ExitStatus::signal(9).code(), 137);
/// ```
///
/// The status of a process converts into one, even if a signal ended the process:
///
/// ```
/// use tokio::process::Command;
/// use tower_wsstream::{
///     BoxError,
///     remotecommand::{ExitStatus, RemoteCommand},
/// };
///
/// async fn run(command: RemoteCommand) -> Result<ExitStatus, BoxError> {
///     let (program, arguments) = command.options.command.split_first().ok_or("no command")?;
///     let status = Command::new(program).args(arguments).status().await?;
///     Ok(status.into())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExitStatus {
    code: u8,
}

impl ExitStatus {
    /// Creates the exit status of a command that succeeded, which is 0.
    #[must_use]
    pub const fn success() -> Self {
        Self { code: 0 }
    }

    /// Creates an exit status with this code; 0 means success.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        Self { code }
    }

    /// Creates the exit status of a command that a signal ended: 128 plus the signal's number, as in
    /// a shell.
    ///
    /// A number outside of 1 to 127 is replaced by the nearest one in that range, so that the status
    /// never means success.
    #[must_use]
    pub fn signal(number: i32) -> Self {
        let code = SIGNAL_BASE + number.clamp(1, 127);
        Self {
            code: u8::try_from(code).unwrap_or(UNKNOWN_CODE),
        }
    }

    /// Returns whether the code is 0.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.code == 0
    }

    /// Returns the exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        self.code
    }

    /// Returns the [`Status`] for the error channel.
    #[must_use]
    pub fn to_status(self) -> Status {
        Status::from_exit_code(self.code)
    }
}

impl From<process::ExitStatus> for ExitStatus {
    /// Converts the exit code, or 128 plus the number of the signal.
    ///
    /// A code outside of 0 to 255, which only exists on Windows, becomes 255.
    fn from(status: process::ExitStatus) -> Self {
        if let Some(code) = status.code() {
            return Self::from_code(u8::try_from(code).unwrap_or(UNKNOWN_CODE));
        }
        // Without a code, the process was ended by a signal, which std exposes on Unix only. The
        // trait is part of std, so it adds no dependency.
        #[cfg(unix)]
        if let Some(number) = std::os::unix::process::ExitStatusExt::signal(&status) {
            return Self::signal(number);
        }
        Self::from_code(UNKNOWN_CODE)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit status {}", self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_success_and_nothing_else_is() {
        assert_eq!(ExitStatus::success(), ExitStatus::from_code(0));
        assert!(ExitStatus::from_code(0).to_status().is_success());
        for code in 1..=u8::MAX {
            assert!(!ExitStatus::from_code(code).is_success());
            assert_eq!(
                ExitStatus::from_code(code).to_status().exit_code(),
                Some(code)
            );
        }
    }

    #[test]
    fn signals_are_128_and_their_number() {
        assert_eq!(ExitStatus::signal(9).code(), 137);
        assert_eq!(ExitStatus::signal(15).code(), 143);
        assert_eq!(ExitStatus::signal(127).code(), 255);
        for number in [0, -1, i32::MIN, 128, i32::MAX] {
            assert!(ExitStatus::signal(number).code() > 128, "{number}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_processes_status_is_taken_over() {
        use std::os::unix::process::ExitStatusExt;

        let exited = |code: i32| ExitStatus::from(process::ExitStatus::from_raw(code << 8));
        assert_eq!(exited(0), ExitStatus::success());
        assert_eq!(exited(3), ExitStatus::from_code(3));
        assert_eq!(exited(255), ExitStatus::from_code(255));
        let killed = ExitStatus::from(process::ExitStatus::from_raw(9));
        assert_eq!(killed, ExitStatus::from_code(137));
        // A core dump sets a flag in addition to the signal.
        let dumped = ExitStatus::from(process::ExitStatus::from_raw(11 | 0x80));
        assert_eq!(dumped, ExitStatus::from_code(139));
    }
}
