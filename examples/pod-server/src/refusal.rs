//! The refusals that several handlers share. Each is answered with a Status, as a real server does.

use axum::http::{
    StatusCode,
    header::{ALLOW, HeaderValue},
};
use tower_wsstream::Rejection;

pub(crate) fn bad_request(message: impl Into<String>) -> Rejection {
    Rejection::new(StatusCode::BAD_REQUEST, message)
}

pub(crate) fn not_found(message: impl Into<String>) -> Rejection {
    Rejection::new(StatusCode::NOT_FOUND, message)
}

/// The handler for every other method of a resource that can only be read.
pub(crate) async fn wrong_method() -> Rejection {
    Rejection::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "the server does not allow this method on the requested resource",
    )
    .with_header(ALLOW, HeaderValue::from_static("GET, HEAD"))
}
