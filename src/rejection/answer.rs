//! The HTTP response that a refusal becomes.

use http::{
    Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, UPGRADE},
};

use super::Rejection;
use crate::{body::ResponseBody, protocol::Status};

impl Rejection {
    /// Returns the refusal as a [`Status`], with the reason that Kubernetes uses for its code.
    #[must_use]
    pub fn to_status(&self) -> Status {
        let status = self.status();
        Status::failure(
            reason_of(status),
            self.message().to_owned(),
            status.as_u16(),
        )
    }

    /// Turns the refusal into its answer, a [`Status`] as JSON.
    ///
    /// The response's extensions contain the refusal itself. `B` is the body type of a service's
    /// other responses. Use [`NoBody`](crate::body::NoBody) if there are none, as in a middleware
    /// of axum.
    ///
    /// With the feature `axum08`, an axum handler can return the refusal itself, because it
    /// implements `IntoResponse`. This method takes precedence over that of the trait.
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::{Router, extract::Request, middleware::{Next, from_fn}, response::Response};
    /// use http::{StatusCode, header};
    /// use tower_wsstream::{
    ///     Rejection,
    ///     body::{NoBody, ResponseBody},
    /// };
    ///
    /// type Refusal = Response<ResponseBody<NoBody>>;
    ///
    /// async fn authenticate(request: Request, next: Next) -> Result<Response, Refusal> {
    ///     if request.headers().contains_key(header::AUTHORIZATION) {
    ///         return Ok(next.run(request).await);
    ///     }
    ///     let text = "no bearer token: log in and send one";
    ///     Err(Rejection::new(StatusCode::UNAUTHORIZED, text).into_response())
    /// }
    ///
    /// let app: Router = Router::new().layer(from_fn(authenticate));
    /// # let _ = app;
    /// ```
    #[must_use]
    pub fn into_response<B>(self) -> Response<ResponseBody<B>> {
        let json = self.to_status().to_response_json();
        let length = json.len();

        let mut response = Response::new(ResponseBody::full(json));
        *response.status_mut() = self.status();
        *response.headers_mut() = self.inner.headers.clone();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        response.extensions_mut().insert(self);
        response
    }

    /// Returns the answer to a request of this HTTP version.
    pub(crate) fn into_response_over<B>(self, version: Version) -> Response<ResponseBody<B>> {
        self.over(version).into_response()
    }

    /// Logs the refusal of an upgrade, and returns the answer to a request of this HTTP version.
    pub(crate) fn into_answer<B>(self, version: Version) -> Response<ResponseBody<B>> {
        tracing::debug!(rejection = %self, "upgrade refused");
        self.into_response_over(version)
    }

    /// Turns the refusal into one that this HTTP version can carry.
    ///
    /// HTTP/2 has no connection headers (RFC 9113, 8.2.2). A 426, which requires them, becomes a
    /// 400 (RFC 9110, 15.5.22).
    pub(crate) fn over(mut self, version: Version) -> Self {
        if version > Version::HTTP_11 {
            self.inner.headers.remove(CONNECTION);
            self.inner.headers.remove(UPGRADE);
            if self.inner.status == StatusCode::UPGRADE_REQUIRED {
                self.inner.status = StatusCode::BAD_REQUEST;
            }
        }
        self
    }
}

/// Returns the reason that Kubernetes uses for an HTTP status, or `""` if there is none.
fn reason_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::UNAUTHORIZED => "Unauthorized",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
        StatusCode::NOT_ACCEPTABLE => "NotAcceptable",
        StatusCode::CONFLICT => "Conflict",
        StatusCode::GONE => "Gone",
        StatusCode::PAYLOAD_TOO_LARGE => "RequestEntityTooLarge",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "UnsupportedMediaType",
        StatusCode::UNPROCESSABLE_ENTITY => "Invalid",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::INTERNAL_SERVER_ERROR => "InternalError",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        StatusCode::GATEWAY_TIMEOUT => "Timeout",
        _ => "",
    }
}
