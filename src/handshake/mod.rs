//! The rules of the opening handshake: the head of a request in, a decision out.
//!
//! | step | file | source |
//! |---|---|---|
//! | is this an upgrade? | `detect` | RFC 6455, 4.2.1; RFC 9110, 7.8 |
//! | is it a valid one? | `validate` | RFC 6455, 4.2.1 and 4.4 |
//! | which subprotocols are spoken here? | `source` | the table of the layer |
//! | which of the offered ones is it? | `negotiate` | RFC 6455, 4.2.2 and 11.3.4 |
//! | the answer that accepts | `accept` | RFC 6455, 4.2.2 |
//!
//! `headers` has the grammar that these steps share. All of them are pure functions that
//! neither wait nor keep state; `opening` runs them in order.

pub(crate) mod accept;
pub(crate) mod detect;
pub(crate) mod headers;
pub(crate) mod negotiate;
pub(crate) mod source;
pub(crate) mod validate;

pub(crate) use self::source::Source;
pub use self::{
    detect::{IsWebSocketRequest, is_websocket_request},
    source::ProtocolSource,
};
