//! The bodies of the fuzz targets in `fuzz/`. Each takes any bytes, and panics if a promise is broken.
//!
//! This module is not part of the public interface, and changes without notice.
//!
//! | target | what it reads | what has to hold |
//! |---|---|---|
//! | `frame` | frames of a peer | a decoder that has the whole input agrees, however it is cut and whatever room there is; messages that are encoded again are decoded to themselves |
//! | `handshake` | the head of a request | the rules of the RFCs, applied to the lines of the head, give the same verdict; no answer repeats a credential |
//! | `base64` | the text of messages, and payloads | the engine judges the whole text in the same way, however it is cut; nothing wrong comes out in front of an error |
//! | `resize` | the sizes of a terminal | a parser that has the whole stream finds the same sizes |
//! | `status` | JSON | a generic parser finds the same fields; what is written is read back |
//! | `bearer` | the offers of a request | the rules of the layer, applied to the text, give the same headers or the same refusal, which shows no token |
//! | `query` | the query of a URL | a reader of unescaped pairs finds the same options and ports |
//! | `spdy` | frames of a client | a decoder that has the whole input agrees, however it is cut; no more is held than a frame may have |
//! | `inflate` | header blocks | miniz_oxide gives the same bytes, or refuses; the history stays within its bound |
//! | `pairs` | streams of connections | a list of those that wait gives the same verdict |
//!
//! The replay of the corpus is a test of this module, so it needs no fuzzer.

mod base64;
mod bearer;
mod cuts;
mod frame;
mod handshake;
mod head;
mod inflate;
mod pairs;
mod query;
#[cfg(test)]
mod replay;
mod resize;
mod spdy;
mod status;

pub use self::{
    base64::base64, bearer::bearer, frame::frame, handshake::handshake, inflate::inflate,
    pairs::pairs, query::query, resize::resize, spdy::spdy, status::status,
};

/// The name of a target's program, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 10] = [
    ("base64", base64),
    ("bearer", bearer),
    ("frame", frame),
    ("handshake", handshake),
    ("inflate", inflate),
    ("pairs", pairs),
    ("query", query),
    ("resize", resize),
    ("spdy", spdy),
    ("status", status),
];
