//! The rules of the opening handshake, which decide on a request by its head.
//!
//! | file | step | source |
//! |---|---|---|
//! | `detect` | finds out whether the request asks for an upgrade | RFC 6455, 4.2.1; RFC 9110, 7.8 |
//! | `validate` | checks that the handshake is valid | RFC 6455, 4.2.1 and 4.4 |
//! | `source` | provides the table of subprotocols | the layer |
//! | `negotiate` | selects one of the offered subprotocols | RFC 6455, 4.2.2 and 11.3.4 |
//! | `accept` | builds the answer that accepts | RFC 6455, 4.2.2 |
//! | `spdy` | selects one of the protocols that are offered over SPDY, and accepts | Go's `httpstream.Handshake` |
//!
//! `headers` has the grammar that these steps share. All of them are pure functions, which neither
//! wait nor keep state. `opening` runs them in order.

pub(crate) mod accept;
pub(crate) mod detect;
pub(crate) mod headers;
pub(crate) mod negotiate;
pub(crate) mod source;
#[cfg(feature = "spdy")]
pub(crate) mod spdy;
pub(crate) mod validate;

#[cfg(feature = "spdy")]
pub use self::detect::is_spdy_request;
pub(crate) use self::source::Source;
pub use self::{
    detect::{IsWebSocketRequest, is_websocket_request},
    source::ProtocolSource,
};
