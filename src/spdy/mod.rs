//! SPDY/3.1 as Kubernetes speaks it, without I/O.
//!
//! kubectl's port-forward, older kubectls, `crictl` and every API server in front of a kubelet speak
//! it: as the bytes of a connection after a POST, or as the messages of a WebSocket (the *tunnel*).
//! The peer opens all streams, and this end only answers, so nothing here compresses or opens.
//!
//! ```text
//!  bytes ──> decoder ──> frames ──> ids, streams ──> pipes of the channels
//!                │ header blocks
//!                └──> zlib, inflate ──> headers
//!
//!  pace: how much may be in flight to each of the peer's queues
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | `frame.rs` | the layout of frames, for both directions, with the bound on each |
//! | `decoder.rs` | frames out of bytes that may be cut anywhere |
//! | `zlib.rs` | the compression of header blocks, a zlib stream (RFC 1950) |
//! | `inflate.rs` | what is inside of that stream: blocks of deflate (RFC 1951) |
//! | `history.rs` | the bytes that a header block may refer back to |
//! | `dictionary.rs` | the bytes before the first header block |
//! | `headers.rs` | the header block inside |
//! | `ids.rs` | the order of stream numbers |
//! | `stream.rs` | the states of one stream |
//! | `pairs.rs` | the two streams of a forwarded connection |
//! | `pace.rs` | the frames in flight, and the PINGs that confirm them |
//! | `allowance.rs` | budgets against floods |

mod allowance;
mod decoder;
mod dictionary;
mod frame;
mod headers;
mod history;
mod ids;
mod inflate;
mod pace;
mod pairs;
mod stream;
mod zlib;

#[cfg(test)]
mod differential;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

#[cfg(feature = "__fuzz")]
pub(crate) use self::dictionary::{DICTIONARY, ID as DICTIONARY_ID};
#[cfg(test)]
pub(crate) use self::headers::write as write_headers;
pub(crate) use self::{
    allowance::Allowance,
    decoder::{Decoder, Frame, Want},
    frame::{
        Control, Fault, GoAwayStatus, HEAD, LONGEST, ResetStatus, data_head, encode, fin,
        first_own_frame, go_away, is_ping, own_frame, own_stream, ping, rst_stream, set_data_len,
        syn_reply,
    },
    headers::Headers,
    ids::Ids,
    pace::{LARGEST_DATA, LEAST_DATA, Pace, QUEUES, queue_of},
    pairs::{Matched, Pair, Pairs, Request, StreamKind},
    stream::{Act, Event, State},
    zlib::Inflater,
};
