//! The `channel.k8s.io` family of subprotocols as data, and its codecs.
//!
//! | type | role |
//! |---|---|
//! | [`ChannelProtocols`], [`ChannelProtocolsBuilder`] | the table of the subprotocols that a server supports |
//! | [`ChannelProtocolConfig`] | one subprotocol: its encoding, its channels, and whether it has half-close |
//! | [`ChannelType`], [`Encoding`] | the directions of a channel, and the encoding of its messages |
//! | [`subprotocols`] | the names that Kubernetes uses |
//! | [`Status`] | the outcome of a command, and the body of a refusal |
//! | [`ConfigError`] | the error of an invalid table or setting |
//!
//! A [`WsStreamLayer`](crate::WsStreamLayer) takes a table, or gets one for each request from a
//! [`ProtocolSource`](crate::ProtocolSource). Nothing in this module does HTTP or I/O.

pub(crate) mod base64;
mod config_error;
mod format;
pub(crate) mod status;
pub(crate) mod table;

pub(crate) use self::format::Format;
#[cfg(any(feature = "portforward", feature = "spdy"))]
pub(crate) use self::table::MAX_PAIRS;
#[cfg(feature = "spdy")]
pub(crate) use self::table::StreamPurpose;
pub use self::{
    config_error::ConfigError,
    status::Status,
    table::{
        ChannelProtocolConfig, ChannelProtocols, ChannelProtocolsBuilder, ChannelType, Encoding,
        subprotocols,
    },
};
