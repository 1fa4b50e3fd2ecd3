use std::{error::Error, fmt};

use crate::frame::is_valid_close_code;

/// The error for a close code that [`Session::close`](crate::Session::close) does not send.
///
/// # Examples
///
/// ```
/// use tower_wsstream::{Session, session::CloseError};
///
/// fn end(session: &Session, code: u16) -> Result<(), CloseError> {
///     // Fails for 1000, 1005 and others that must not be sent.
///     session.close(code, "the pod has moved: connect again")
/// }
/// # let _ = end;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseError {
    code: u16,
}

impl CloseError {
    pub(super) fn check(code: u16) -> Result<u16, Self> {
        if is_valid_close_code(code) && code != 1000 {
            Ok(code)
        } else {
            Err(Self { code })
        }
    }
}

impl fmt::Display for CloseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            1000 => f.write_str(
                "close code 1000 means that the outcome was reported: return Ok from the service instead",
            ),
            code => write!(
                f,
                "close code {code} must not be sent: use 1001 to 1003, 1007 to 1014, or 3000 to 4999"
            ),
        }
    }
}

impl Error for CloseError {}
