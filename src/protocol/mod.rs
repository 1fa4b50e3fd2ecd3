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
//!
//! # Examples
//!
//! A table of your own, with two versions of a protocol:
//!
//! ```
//! use tower_wsstream::protocol::{
//!     ChannelProtocolConfig, ChannelProtocols, ChannelProtocolsBuilder, ChannelType, ConfigError,
//!     Encoding,
//! };
//!
//! fn table() -> Result<ChannelProtocols, ConfigError> {
//!     let channels = [ChannelType::Read, ChannelType::Write, ChannelType::Ignore];
//!     let v1 = ChannelProtocolConfig::new(Encoding::Base64, channels);
//!     let v2 = ChannelProtocolConfig::new(Encoding::Binary, channels).half_close(true);
//!     let builder: ChannelProtocolsBuilder = ChannelProtocols::builder();
//!     builder.protocol("v2.console.example.com", v2).protocol("v1.console.example.com", v1).build()
//! }
//!
//! let (_, v1) = table()?.get("v1.console.example.com").map(|(n, c)| (n.to_owned(), c.clone())).unwrap();
//! assert_eq!(v1.encoding(), Encoding::Base64);
//! // Its clients have no other way to end their input than to close the session.
//! assert!(v1.may_close_end_input());
//! // A terminal hangs up instead.
//! assert!(!v1.close_ends_input(false).may_close_end_input());
//! # Ok::<(), ConfigError>(())
//! ```

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
