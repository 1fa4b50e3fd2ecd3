//! The `channel.k8s.io` family of subprotocols as data, and its codecs.
//!
//! It has no HTTP, no async and no I/O: everything here is a table, or takes bytes
//! and returns bytes.

pub(crate) mod base64;
mod format;
pub(crate) mod status;
pub(crate) mod table;

pub(crate) use self::format::Format;
pub use self::status::Status;
pub use self::table::{
    ChannelProtocolConfig, ChannelProtocols, ChannelProtocolsBuilder, ChannelType, ConfigError,
    Encoding, subprotocols,
};
