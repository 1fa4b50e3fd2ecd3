use std::fmt;

use http::{Response, StatusCode, header};

use crate::Status;

/// The error of a refused handshake, which contains the answer.
///
/// # Examples
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_wsstream::{
///     BoxError, ChannelProtocols, ChannelSet, ChannelType, Rejection, WsStreamLayer,
///     testing::{Connect, Refused},
/// };
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), BoxError> {
/// let protocols = ChannelProtocols::standard([ChannelType::Read])?;
/// let service = ServiceBuilder::new()
///     .layer(WsStreamLayer::new(protocols))
///     .service_fn(async |_: ChannelSet| {
///         Err::<(), BoxError>(Rejection::new(http::StatusCode::UNAUTHORIZED, "log in").into())
///     });
///
/// let error = Connect::to("/").connect(service).await.unwrap_err();
/// let refused = error.downcast_ref::<Refused>().ok_or("no answer")?;
/// assert_eq!(refused.status(), 401);
/// assert_eq!(refused.headers()["www-authenticate"], "Bearer");
/// assert!(refused.body().starts_with(br#"{"kind":"Status""#));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Refused(Response<Option<Vec<u8>>>);

impl Refused {
    pub(super) fn new(answer: Response<Option<Vec<u8>>>) -> Self {
        Self(answer)
    }

    /// Returns the status of the answer.
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// Returns the headers of the answer.
    pub fn headers(&self) -> &header::HeaderMap {
        self.0.headers()
    }

    /// Returns the body of the answer. Over HTTP/1.1, this is the part that arrived with the head.
    pub fn body(&self) -> &[u8] {
        self.0.body().as_deref().unwrap_or_default()
    }

    /// Returns the Status in the body, which every refusal of this crate has.
    pub fn refusal(&self) -> Option<Status> {
        Status::from_json(self.body()).ok()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the handshake was refused with {}", self.0.status())?;
        match self.refusal().as_ref().and_then(Status::message) {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refused {}
