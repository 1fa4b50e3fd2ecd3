//! Helpers that several areas use.
#![cfg_attr(
    not(all(
        feature = "axum08",
        feature = "http2",
        feature = "portforward",
        feature = "remotecommand",
        feature = "spdy",
        feature = "testing"
    )),
    allow(dead_code, unused_imports, reason = "some areas are left out")
)]

mod bomb;
mod child;
#[cfg(feature = "testing")]
mod client;
mod end;
#[cfg(feature = "spdy")]
mod frames;
mod handshake;
mod head;
#[cfg(feature = "http2")]
pub(crate) mod http2;
#[cfg(feature = "testing")]
pub(crate) mod logs;
pub(crate) mod proxy;
mod random;
mod raw;
mod serve;
mod sessions;
#[cfg(feature = "spdy")]
pub(crate) mod spdy;
mod time;

#[cfg(feature = "http2")]
#[cfg(feature = "testing")]
pub(crate) use self::client::transports;
#[cfg(feature = "testing")]
pub(crate) use self::client::{AFTERWARDS, hears_its_echo, refused_by};
pub(crate) use self::{
    bomb::Bomb,
    child::in_own_process,
    end::{End, cause, read_out},
    handshake::{
        Answer, Refusal, SERVICE_FAILED, Wire, hold, read_head, refusal, refused, sorted, speak,
        tasks,
    },
    head::{ACCEPT, Head, KEY, TOKEN},
    random::{Random, for_each_seed},
    raw::{BINARY, CLOSE, Frame, PING, PONG, Raw, TEXT, Told, base64, frame, on},
    serve::{HttpService, open, open_tcp, open_watched, open_with, serve, serve_in_memory},
    sessions::{ALL, config, echo, layer, never, once, once_in, protocols, session, standard},
    time::{
        BITE, Dropped, EXACT, LONG, SOON, Watchdog, assert_after, drop_note, millis, secs, soon,
        within,
    },
};
