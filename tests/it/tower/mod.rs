//! Layers of tower, tower-http and axum, around a session and inside it.
//!
//! These tests cover the table "Which side of the layer" of `guide::layers`, except for
//! promises that other areas cover:
//!
//! | promise | where |
//! |---|---|
//! | a service that is never ready is 504 after the accept timeout | `refusal` |
//! | `load_shed` inside is 503 with `Retry-After`, and nothing is spawned | `refusal` |
//! | a request that is not an upgrade, or is refused by its head, takes no place of a session | `accept` |
//! | readiness is the fallback's alone | `accept` |
//! | a place comes back when the service is done, not when the client has left | `accept` |

mod axum;
mod buffer;
#[cfg(feature = "axum08")]
mod extractor;
mod inside;
mod limit;
mod outside;
mod rate;
mod types;

use std::{future::pending, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use hyper::body::Incoming;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep, timeout},
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_wsstream::{
    BoxError, ChannelSet, WsStreamLayer,
    testing::{Client, Connect, Received, Refused},
};

use crate::support::{
    self, ACCEPT, Head, assert_after, echo, hears_its_echo, hold, never, read_head, refused_by,
    secs, serve_in_memory, soon, standard,
};

/// Ends an [`echo`].
async fn finish(mut client: Client) {
    client.close(Some(1000)).await.unwrap();
    let transcript = soon(client.read_to_end()).await;
    assert_eq!(transcript.close_code, Some(1000));
}
