use bytes::Bytes;

use crate::{
    error::{BoxError, EndCause},
    protocol::Status,
};

/// The end of a session's service, for the closure of
/// [`Session::say_last`](crate::Session::say_last).
///
/// # Examples
///
/// A layer can tell outcomes as [`RemoteCommandLayer`](crate#what-there-is) does, in a protocol of your
/// own:
///
/// ```
/// use tower_wsstream::{
///     ChannelSet, Status,
///     session::{LastWords, Outcome},
/// };
///
/// const RESULT: u8 = 2;
///
/// fn words(outcome: &Outcome<'_>) -> Option<LastWords> {
///     let status = match outcome {
///         // Silence says that all is well.
///         Outcome::Returned => return Some(LastWords::silence().with_status(Status::success())),
///         Outcome::Failed(error) => Status::internal_error(error.to_string()),
///         Outcome::Panicked => Status::internal_error("a bug: please report it"),
///         Outcome::Ended(cause) => Status::failure("Ended", cause.to_string(), 504),
///         _ => return None,
///     };
///     Some(LastWords::new(RESULT, status.to_json()).with_status(status))
/// }
///
/// async fn session(channels: ChannelSet) -> Result<(), tower_wsstream::BoxError> {
///     // In the first poll, so that no end can come before it.
///     channels.session().say_last(words);
///     // ...
///     Ok(())
/// }
/// # let _ = session;
/// ```
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
///
/// # Examples
///
/// ```
/// use tower_wsstream::{Status, session::LastWords};
///
/// let status = Status::failure("Expired", "the token has expired: log in again", 401);
/// let words = LastWords::new(3, status.to_json()).with_status(status);
/// # let _ = words;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWords {
    pub(crate) message: Option<(u8, Bytes)>,
    pub(crate) status: Option<Box<Status>>,
}

impl LastWords {
    /// Creates a message on a channel, which is sent even if the channel's budget is used up.
    pub fn new(channel: u8, message: impl Into<Bytes>) -> Self {
        Self {
            message: Some((channel, message.into())),
            status: None,
        }
    }

    /// Creates last words without a message, for an outcome that silence reports. On subprotocols
    /// older than v4, this is success.
    pub fn silence() -> Self {
        Self {
            message: None,
            status: None,
        }
    }

    /// Sets the outcome that these words report, which metrics and audits find in
    /// [`SessionSummary::status`]. It does not change the message.
    ///
    /// [`SessionSummary::status`]: crate::session::SessionSummary::status
    #[must_use]
    pub fn with_status(mut self, status: Status) -> Self {
        self.status = Some(Box::new(status));
        self
    }
}
