//! The span of each request, and the line of the log for its answer.

use std::time::Duration;

use axum::{extract::Request, response::Response};
use tower_wsstream::Rejection;

/// Makes the span of a request, with the path alone: the query of an exec holds its command.
pub(crate) fn span(request: &Request) -> tracing::Span {
    tracing::info_span!("request", method = %request.method(), path = request.uri().path())
}

/// Logs an answer, with the reason of a refusal. The reason is a value of its own, which is
/// escaped: it may quote the request.
pub(crate) fn log_answer<B>(response: &Response<B>, latency: Duration, _: &tracing::Span) {
    let status = response.status().as_u16();
    match response.extensions().get::<Rejection>() {
        Some(rejection) => tracing::info!(status, why = rejection.message(), "refused"),
        None => tracing::debug!(status, ?latency, "answered"),
    }
}
