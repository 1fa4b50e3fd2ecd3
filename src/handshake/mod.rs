//! The opening handshake: the head of a request in, a decision out.
//!
//! | step | file | source |
//! |---|---|---|
//! | is this an upgrade? | `detect` | RFC 6455, 4.2.1; RFC 9110, 7.8 |
//! | is it a valid one? | `validate` | RFC 6455, 4.2.1 and 4.4 |
//! | which subprotocol? | `negotiate` | RFC 6455, 4.2.2 and 11.3.4 |
//! | yes | `accept` | RFC 6455, 4.2.2 |
//!
//! Pure functions: nothing here waits, and nothing is remembered.

pub(crate) mod accept;
pub(crate) mod detect;
pub(crate) mod negotiate;
pub(crate) mod source;
pub(crate) mod validate;

pub use self::detect::{IsWebSocketRequest, is_websocket_request};
pub use self::source::ProtocolSource;
pub(crate) use self::source::Source;
