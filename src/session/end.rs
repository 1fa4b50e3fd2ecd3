use std::{error::Error, fmt};

use bytes::Bytes;

use crate::{
    error::{BoxError, EndCause},
    frame::is_valid_close_code,
    protocol::Status,
};

/// How a session's service ended, for
/// [`Session::say_last`](crate::Session::say_last).
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome<'a> {
    /// The service returned `Ok`.
    Returned,
    /// The service returned an error.
    Failed(&'a BoxError),
    /// The service panicked.
    Panicked,
    /// The session ended first, and the service did not return within its grace.
    Ended(&'a EndCause),
}

/// The last message of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWords {
    pub(crate) message: Option<(u8, Bytes)>,
    pub(crate) status: Option<Box<Status>>,
}

impl LastWords {
    /// One message on a channel, its budget notwithstanding.
    pub fn new(channel: u8, message: impl Into<Bytes>) -> Self {
        Self {
            message: Some((channel, message.into())),
            status: None,
        }
    }

    /// No message: the outcome is told by silence, as success is on
    /// subprotocols older than v4.
    pub fn silence() -> Self {
        Self {
            message: None,
            status: None,
        }
    }

    /// Sets the outcome that these words tell, for [`SessionSummary::status`]: metrics and
    /// audits get it there, in whatever form the subprotocol carries it.
    ///
    /// [`SessionSummary::status`]: crate::session::SessionSummary::status
    #[must_use]
    pub fn with_status(mut self, status: Status) -> Self {
        self.status = Some(Box::new(status));
        self
    }
}

/// A code that [`Session::close`](crate::Session::close) does not send.
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
                "close code 1000 says that the outcome was told: return Ok from the service instead",
            ),
            code => write!(
                f,
                "close code {code} must not be sent: use 1001 to 1003, 1007 to 1014, or 3000 to 4999"
            ),
        }
    }
}

impl Error for CloseError {}
