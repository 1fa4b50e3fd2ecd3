//! The service of `log`: what the pod's process has printed, and with `follow`
//! what it prints from then on.
//!
//! An ordinary HTTP service whose body is a stream, so that any layer over such
//! services fits around it. Neither the process nor anyone else waits for a
//! client: its place is that of an attacher, with the same limit.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tower::Service;
use tower_wsstream::{BoxError, Status};

use crate::api::{self, Body, bad_request};
use crate::discovery::{CONTAINER, POD};
use crate::hub::{Attached, Hub, Lagged, Next};
use crate::pod::Pod;

/// Answers a request for the log of the one pod.
#[derive(Clone, Debug)]
pub(crate) struct Logs {
    pod: Pod,
}

impl Logs {
    pub(crate) fn new(pod: Pod) -> Self {
        Self { pod }
    }
}

impl<B> Service<Request<B>> for Logs {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return ready(Ok(api::wrong_method()));
        }
        let asked = Asked::from_query(request.uri().query().unwrap_or_default());
        ready(Ok(match asked {
            Ok(asked) => {
                tracing::info!(follow = asked.follow, http = ?request.version(), "log");
                answer(&asked, &self.pod.output())
            }
            Err(status) => {
                tracing::info!("log refused: {status}");
                api::refusal(&status)
            }
        }))
    }
}

/// What the client asks for, in the query of its URL.
#[derive(Debug, Default, PartialEq)]
struct Asked {
    follow: bool,
    tail_lines: Option<u64>,
    limit_bytes: Option<u64>,
}

impl Asked {
    /// As the API server reads it: unknown parameters are ignored, the first of
    /// several wins. Nothing is unescaped: neither numbers nor the name of the
    /// container need it, and clients do not escape what needs it not.
    fn from_query(query: &str) -> Result<Self, Status> {
        let first = |name: &str| {
            let mut pairs = query
                .split('&')
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            pairs.find(|pair| pair.0 == name).map(|pair| pair.1)
        };
        let number = |name, least| match first(name).map(str::parse::<i64>) {
            None => Ok(None),
            Some(Ok(number)) if number >= least => Ok(Some(number.unsigned_abs())),
            Some(_) => Err(bad_request(format!(
                "{name} is not a number, or less than {least}"
            ))),
        };
        // Whatever is not false is true: `?follow` too.
        let flag = |name| {
            first(name).is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
        };
        let container = first("container").unwrap_or_default();
        if !container.is_empty() && container != CONTAINER {
            return Err(bad_request(format!(
                "container {container} is not valid for pod {POD}"
            )));
        }
        if flag("previous") {
            // The log of the present run would pass for it.
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

fn answer(asked: &Asked, hub: &Arc<Hub>) -> Response<Body> {
    let reading = Reading::new(asked, hub);
    let chunks = stream::try_unfold(reading, |mut reading| async {
        let chunk = reading.next().await?;
        Ok::<_, Lagged>(chunk.map(|chunk| (Frame::data(chunk), reading)))
    });
    let mut response = Response::new(
        StreamBody::new(chunks)
            .map_err(BoxError::from)
            .boxed_unsync(),
    );
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// The most that one frame of the body holds. Over HTTP/2 a frame is hyper's once it is
/// handed out, and the last one keeps its place there until the client takes it.
const PIECE: usize = 16 * 1024;

/// One client's way through the log. Dropped, its place is free.
#[derive(Debug)]
struct Reading {
    /// What was printed before, and then the last chunk, as far as it is not handed out.
    chunk: Bytes,
    following: Option<Attached>,
    /// Of the last chunk, until the next is asked for: what took it has room
    /// again.
    in_hand: usize,
    /// What may still be sent.
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

    /// The next bytes, or the end. An error means that the client has lost its
    /// place: a log that goes on somewhere else must not look complete.
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
        // A copy: the last one must not keep all the others.
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
