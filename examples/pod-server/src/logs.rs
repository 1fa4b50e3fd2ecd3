//! The handler of `log`: the output of the pod's process, and with `follow` its output from then
//! on.
//!
//! It is an ordinary handler whose body is a stream, so any layer over HTTP services fits around
//! it. A client that follows has a place like one that is attached, with the same limit. The
//! process waits for neither.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{FromRequestParts, State},
    http::{
        Version,
        header::{CONTENT_TYPE, HeaderName},
        request::Parts,
    },
    routing::{MethodRouter, get},
};
use bytes::Bytes;
use futures_util::stream;
use tower_wsstream::{Rejection, access::SessionPermits};

use crate::{
    hub::{Attached, Hub, Next},
    pod::Pod,
    refusal::{bad_request, wrong_method},
    seat::Lagged,
    target::{CONTAINER, POD, Pairs},
};

/// The log of this pod, as a service. Each log that is sent holds one of the permits.
pub(crate) fn route(pod: Pod, permits: SessionPermits<()>) -> MethodRouter {
    get(show).fallback(wrong_method).with_state((pod, permits))
}

async fn show(
    State((pod, permits)): State<(Pod, SessionPermits<()>)>,
    http: Version,
    asked: Asked,
) -> Result<([(HeaderName, &'static str); 1], Body), Rejection> {
    let permit = permits.try_acquire(())?;
    tracing::info!(follow = asked.follow, ?http, "log");
    let body = body(&asked, &pod.output(), permit);
    Ok(([(CONTENT_TYPE, "text/plain")], body))
}

/// The parameters of the query.
#[derive(Debug, Default, PartialEq)]
struct Asked {
    follow: bool,
    tail_lines: Option<u64>,
    limit_bytes: Option<u64>,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Rejection;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Result<Self, Rejection> {
        let pairs = Pairs::from_request_parts(head, state).await?;
        let number = |name, least| match pairs.first(name).map(str::parse::<i64>) {
            None => Ok(None),
            Some(Ok(number)) if number >= least => Ok(Some(number.unsigned_abs())),
            Some(_) => Err(bad_request(format!(
                "{name} is not a number, or less than {least}"
            ))),
        };
        // A value that is not false is true: `?follow` too.
        let flag = |name| {
            let value = pairs.first(name);
            value.is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
        };
        if flag("previous") {
            // Without this, the log of the current run would be taken for that of the previous one.
            return Err(bad_request(format!(
                "previous terminated container \"{CONTAINER}\" in pod \"{POD}\" not found"
            )));
        }
        Ok(Self {
            follow: flag("follow"),
            tail_lines: number("tailLines", 0)?,
            limit_bytes: number("limitBytes", 1)?,
        })
    }
}

/// Returns a body that holds `permit` until it is dropped.
fn body(asked: &Asked, hub: &Arc<Hub>, permit: impl Send + 'static) -> Body {
    let reading = Reading::new(asked, hub);
    Body::from_stream(stream::try_unfold(
        (reading, permit),
        |(mut reading, permit)| async {
            let chunk = reading.next().await?;
            Ok::<_, Lagged>(chunk.map(|chunk| (chunk, (reading, permit))))
        },
    ))
}

/// The size of the largest frame of the body. Over HTTP/2, hyper owns a frame that it was given,
/// and keeps the last one in memory until the client reads it.
const PIECE: usize = 16 * 1024;

/// One client's way through the log. Dropping it frees its place.
#[derive(Debug)]
struct Reading {
    /// The part of the current chunk that is left to send. The first chunk is the earlier output.
    chunk: Bytes,
    following: Option<Attached>,
    /// The size of the last chunk from the hub. The chunk counts as written once the next one is
    /// requested.
    in_hand: usize,
    /// The number of bytes that may still be sent.
    left: u64,
}

impl Reading {
    fn new(asked: &Asked, hub: &Arc<Hub>) -> Self {
        let (before, following) = if asked.follow {
            let (before, following) = hub.follow(asked.tail_lines);
            (before, Some(following))
        } else {
            (hub.recent(asked.tail_lines), None)
        };
        Self {
            chunk: before.into(),
            following,
            in_hand: 0,
            left: asked.limit_bytes.unwrap_or(u64::MAX),
        }
    }

    /// Returns the next bytes, or the end. An error means that the client has lost its place: a
    /// log with a gap must not look complete.
    async fn next(&mut self) -> Result<Option<Bytes>, Lagged> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.chunk.is_empty() {
            let Some(following) = &self.following else {
                return Ok(None);
            };
            following.written(std::mem::take(&mut self.in_hand));
            match following.next().await {
                Ok(Next::Output(_, bytes)) => {
                    self.in_hand = bytes.len();
                    self.chunk = bytes.into();
                }
                Ok(Next::Ended(_)) => return Ok(None),
                Err(lagged) => {
                    tracing::info!(%lagged, "log ended");
                    return Err(lagged);
                }
            }
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let piece = self.chunk.len().min(PIECE).min(left);
        self.left -= piece as u64;
        // A copy, because the last piece must not keep all the others.
        Ok(Some(Bytes::copy_from_slice(&self.chunk.split_to(piece))))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if self.following.is_some() {
            tracing::debug!("log no longer followed");
        }
    }
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
