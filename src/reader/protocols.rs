use std::borrow::Cow;

use http::request::Parts;

use crate::{
    ChannelProtocolConfig, ChannelProtocols, ChannelType, ConfigError, Encoding, ProtocolSource,
    Rejection, protocol::ChannelProtocolsBuilder,
};

/// The subprotocols that a [`WsReaderLayer`](super::WsReaderLayer) supports, with their encodings.
///
/// The default table is that of Go's `NewDefaultReaderProtocols`: no subprotocol,
/// [`BINARY`](Self::BINARY), and [`BASE64_BINARY`](Self::BASE64_BINARY).
#[derive(Clone, Debug)]
pub struct ReaderProtocols(Result<ChannelProtocols, ConfigError>);

impl ReaderProtocols {
    /// The subprotocol in which a message is a piece of the body.
    pub const BINARY: &str = "binary.k8s.io";
    /// The subprotocol in which a message is a piece of the body in base64.
    pub const BASE64_BINARY: &str = "base64.binary.k8s.io";

    /// Creates a table of subprotocols, in the order in which refusals list them.
    ///
    /// The name `""` is for clients that offer none.
    ///
    /// # Errors
    /// Fails if a name is not an HTTP token, or occurs twice.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_wsstream::{Encoding, reader::ReaderProtocols};
    ///
    /// let protocols = ReaderProtocols::new([
    ///     ("v1.raw", Encoding::Binary),
    ///     ("v1.base64", Encoding::Base64),
    /// ])?;
    /// # let _ = protocols;
    /// # Ok::<(), tower_wsstream::ConfigError>(())
    /// ```
    pub fn new<N>(protocols: impl IntoIterator<Item = (N, Encoding)>) -> Result<Self, ConfigError>
    where
        N: Into<Cow<'static, str>>,
    {
        let add = |builder: ChannelProtocolsBuilder, (name, encoding): (N, Encoding)| {
            let config = ChannelProtocolConfig::new(encoding, [ChannelType::Write]);
            builder.protocol(name, config.bare())
        };
        let builder = protocols.into_iter().fold(ChannelProtocols::builder(), add);
        builder.build().map(|table| Self(Ok(table)))
    }
}

impl Default for ReaderProtocols {
    fn default() -> Self {
        let standard = Self::new([
            ("", Encoding::Binary),
            (Self::BINARY, Encoding::Binary),
            (Self::BASE64_BINARY, Encoding::Base64),
        ]);
        standard.unwrap_or_else(|error| Self(Err(error)))
    }
}

impl ProtocolSource for ReaderProtocols {
    fn protocols(&self, _head: &Parts) -> Result<ChannelProtocols, Rejection> {
        self.0.clone().map_err(|error| Rejection::config(&error))
    }
}
