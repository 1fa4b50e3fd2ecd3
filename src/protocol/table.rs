//! The subprotocols of an endpoint, and the channels of each.

#[cfg(feature = "spdy")]
use std::time::Duration;
use std::{borrow::Cow, sync::Arc};

use super::{config_error::ConfigError, format::Format};

/// Names of the subprotocols of the `channel.k8s.io` family.
///
/// They differ in the last message of a session on channel 3. Only on `v5` can a client end one
/// channel without the others.
///
/// # Examples
///
/// ```
/// use tower_wsstream::subprotocols;
///
/// assert_eq!(subprotocols::V5, "v5.channel.k8s.io");
/// ```
pub mod subprotocols {
    /// Version 1: one channel byte, then the payload.
    pub const CHANNEL: &str = "channel.k8s.io";
    /// Version 1 as text: one character for the channel, then standard base64.
    pub const BASE64_CHANNEL: &str = "base64.channel.k8s.io";
    /// Version 2: the same as version 1 over a WebSocket.
    pub const V2: &str = "v2.channel.k8s.io";
    /// Version 3: adds the resize channel of a terminal.
    pub const V3: &str = "v3.channel.k8s.io";
    /// Version 4: the error channel ends the session with a JSON Status.
    pub const V4: &str = "v4.channel.k8s.io";
    /// Version 4 as text: one character for the channel, then standard base64.
    pub const V4_BASE64: &str = "v4.base64.channel.k8s.io";
    /// Version 5: adds half-close, so that the client can end one channel alone.
    pub const V5: &str = "v5.channel.k8s.io";
}

/// The prefix of an offered entry that is a browser's bearer token instead of a subprotocol.
///
/// It is next to the names because a table must never contain such an entry, which is a secret
/// and is neither selected nor shown.
pub(crate) const CREDENTIAL_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// The largest number of channels of a subprotocol. On the wire, 255 marks a half-close, so the
/// last channel is 254.
const MAX_CHANNELS: usize = 255;

/// The most pairs of channels of a session. A forwarded port, or a connection to one, has a channel
/// for its data and one for its error.
#[cfg(any(feature = "portforward", feature = "spdy"))]
pub(crate) const MAX_PAIRS: usize = MAX_CHANNELS / 2;

/// The largest number of channels with base64, where the character `'0' + channel` stands for a
/// channel. The character for an 80th channel would not be printable ASCII.
const MAX_BASE64_CHANNELS: usize = 79;

/// The directions of a channel, from the server's point of view.
///
/// A server *reads* the data that the client sends.
///
/// # Examples
///
/// ```
/// use tower_wsstream::ChannelType;
///
/// assert!(ChannelType::Read.is_readable());
/// assert!(!ChannelType::Read.is_writable());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChannelType {
    /// The channel exists in the subprotocol, but is not used: incoming data is discarded, and
    /// nothing is sent.
    Ignore,
    /// The server reads data that the client sends.
    Read,
    /// The server writes data that the client receives.
    Write,
    /// The server reads and writes.
    ReadWrite,
}

impl ChannelType {
    /// Returns whether the server reads this channel.
    #[must_use]
    pub const fn is_readable(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    /// Returns whether the server writes to this channel.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

/// The encoding of a payload and its channel number in a WebSocket message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encoding {
    /// One byte for the channel, then the unchanged payload, in binary messages.
    Binary,
    /// The character `'0' + channel`, then the payload in standard base64, in text messages. They
    /// are a third larger than binary ones.
    Base64,
}

/// One subprotocol of a table: its encoding, its channels, and whether it has half-close.
///
/// The number of a channel is its index in the list. Cloning is cheap.
///
/// # Examples
///
/// ```
/// use tower_wsstream::{ChannelProtocolConfig, ChannelType, Encoding};
///
/// let config = ChannelProtocolConfig::new(
///     Encoding::Binary,
///     [ChannelType::Read, ChannelType::Write],
/// )
/// .half_close(true);
///
/// assert_eq!(config.channels()[1], ChannelType::Write);
/// assert!(config.supports_half_close());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelProtocolConfig {
    encoding: Encoding,
    channels: Arc<[ChannelType]>,
    half_close: bool,
    close_ends_input: bool,
    form: Form,
}

/// The way in which a message says what its channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// It begins with the number of its channel.
    Numbered,
    /// It does not say it. Each message is the payload of channel 0.
    Bare,
    /// It is a frame of SPDY, with the number of a stream.
    #[cfg(feature = "spdy")]
    Tunnel(StreamPurpose),
    /// As in a tunnel, but there is no WebSocket around SPDY.
    #[cfg(feature = "spdy")]
    Spdy(StreamPurpose),
}

/// The purpose of the streams of a session over SPDY.
#[cfg(feature = "spdy")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamPurpose {
    /// Each stands for one of the channels, and the client says for which.
    Channels,
    /// They come in pairs, one of data and one for an error, for the connections to ports. A
    /// connection whose data is not read for `stall` is reset once it holds up the session.
    Ports { stall: Option<Duration> },
}

impl ChannelProtocolConfig {
    /// Creates a subprotocol without half-close.
    ///
    /// Pass one `Arc<[ChannelType]>` to several configurations to share it.
    #[must_use]
    pub fn new(encoding: Encoding, channels: impl Into<Arc<[ChannelType]>>) -> Self {
        Self {
            encoding,
            channels: channels.into(),
            half_close: false,
            close_ends_input: true,
            form: Form::Numbered,
        }
    }

    /// Sets whether the client can end one channel with `[255, channel]`. Off by default.
    ///
    /// Base64 has no such signal, so building a table with both fails.
    #[must_use]
    pub fn half_close(mut self, supported: bool) -> Self {
        self.half_close = supported;
        self
    }

    /// Sets whether a clean Close frame may mean that only the client's input has ended, while
    /// the client still waits for output. On by default.
    ///
    /// Without half-close, clients such as kube-rs have no other way to end their input. After
    /// such a Close, the service has the [longer grace](crate::SessionConfig::closed_grace) to
    /// finish its output. Turn this off if a Close can only mean that the client is leaving, as
    /// with a terminal: the ordinary [grace](crate::SessionConfig::grace) then applies. It always
    /// applies with half-close, and without a readable channel.
    #[must_use]
    pub fn close_ends_input(mut self, may: bool) -> Self {
        self.close_ends_input = may;
        self
    }

    /// Returns whether a clean Close may mean that only the client's input has ended.
    ///
    /// It may if this was not [turned off](Self::close_ends_input), there is no half-close, and
    /// there is a readable channel.
    #[must_use]
    pub fn may_close_end_input(&self) -> bool {
        let has_input = self.channels.iter().any(|channel| channel.is_readable());
        self.close_ends_input && !self.supports_half_close() && has_input
    }

    /// Returns the encoding of messages.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Returns the channels, indexed by their numbers.
    #[must_use]
    pub fn channels(&self) -> &[ChannelType] {
        &self.channels
    }

    /// Returns whether the client can end one channel without the others.
    #[must_use]
    pub fn supports_half_close(&self) -> bool {
        #[cfg(feature = "spdy")]
        if self.streams().is_some() {
            return true;
        }
        self.half_close
    }

    /// Leaves the channel number out of messages: each is then the payload of channel 0.
    pub(crate) fn bare(mut self) -> Self {
        self.form = Form::Bare;
        self
    }

    /// Makes this the subprotocol of a tunnel: SPDY in WebSocket messages, with streams for ports.
    #[cfg(feature = "spdy")]
    pub(crate) fn tunnel(mut self, stall: Option<Duration>) -> Self {
        self.form = Form::Tunnel(StreamPurpose::Ports { stall });
        self
    }

    /// Returns the same protocol over SPDY without a WebSocket. In a table, it can only be selected
    /// there.
    #[cfg(feature = "spdy")]
    pub(crate) fn over_spdy(mut self) -> Self {
        self.form = match self.form {
            Form::Numbered | Form::Bare => Form::Spdy(StreamPurpose::Channels),
            Form::Tunnel(streams) | Form::Spdy(streams) => Form::Spdy(streams),
        };
        self
    }

    /// Returns the purpose of the streams, if data is carried over SPDY.
    #[cfg(feature = "spdy")]
    pub(crate) fn streams(&self) -> Option<StreamPurpose> {
        match self.form {
            Form::Numbered | Form::Bare => None,
            Form::Tunnel(streams) | Form::Spdy(streams) => Some(streams),
        }
    }

    /// Returns whether this can only be selected over SPDY.
    fn is_over_spdy(&self) -> bool {
        !self.format().is_web_socket()
    }

    fn is_tunnel(&self) -> bool {
        match self.form {
            #[cfg(feature = "spdy")]
            Form::Tunnel(_) => true,
            _ => false,
        }
    }

    /// Returns the form of a message on the wire.
    pub(crate) fn format(&self) -> Format {
        match (self.encoding, self.form) {
            (Encoding::Binary, Form::Numbered) => Format::Binary,
            (Encoding::Base64, Form::Numbered) => Format::Base64,
            (Encoding::Binary, Form::Bare) => Format::BareBinary,
            (Encoding::Base64, Form::Bare) => Format::BareBase64,
            #[cfg(feature = "spdy")]
            (_, Form::Tunnel(_)) => Format::Tunnel,
            #[cfg(feature = "spdy")]
            (_, Form::Spdy(_)) => Format::Spdy,
        }
    }

    fn check(&self, name: &str) -> Result<(), ConfigError> {
        let count = self.channels.len();
        if count > MAX_CHANNELS {
            return Err(ConfigError::new(format!(
                "subprotocol {name:?} has {count} channels: use at most {MAX_CHANNELS}, because number 255 is reserved"
            )));
        }
        if self.encoding == Encoding::Base64 {
            if count > MAX_BASE64_CHANNELS {
                return Err(ConfigError::new(format!(
                    "subprotocol {name:?} has {count} channels: use at most {MAX_BASE64_CHANNELS} with base64, or use the binary encoding"
                )));
            }
            if self.half_close {
                return Err(ConfigError::new(format!(
                    "subprotocol {name:?} has half-close and base64: use the binary encoding, or turn half-close off"
                )));
            }
        }
        Ok(())
    }
}

/// The subprotocols of an endpoint, by name.
///
/// A client that offers no subprotocol gets the `""` entry. Names are case-sensitive. Selection
/// follows the client's order, and the refusal of a client that offers only unknown names lists
/// the table in its own order. An empty table refuses every client with a 403. Cloning is cheap.
///
/// # Examples
///
/// The three names of Go's `NewDefaultChannelProtocols`:
///
/// ```
/// use tower_wsstream::{ChannelProtocols, ChannelType};
///
/// let protocols = ChannelProtocols::standard([ChannelType::Read, ChannelType::Write])?;
/// assert!(protocols.get("channel.k8s.io").is_some());
/// assert!(protocols.get("").is_some());
/// # Ok::<(), tower_wsstream::ConfigError>(())
/// ```
///
/// A table of your own:
///
/// ```
/// use tower_wsstream::{ChannelProtocolConfig, ChannelProtocols, ChannelType, Encoding};
///
/// let echo = ChannelProtocolConfig::new(Encoding::Binary, [ChannelType::ReadWrite]);
/// let protocols = ChannelProtocols::builder()
///     .protocol("v1.echo.example.com", echo)
///     .build()?;
/// assert_eq!(protocols.iter().count(), 1);
/// # Ok::<(), tower_wsstream::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelProtocols {
    entries: Arc<[Entry]>,
}

type Entry = (Cow<'static, str>, ChannelProtocolConfig);

impl ChannelProtocols {
    /// Returns the table of `""`, `channel.k8s.io` and `base64.channel.k8s.io`, all with these
    /// channels and without half-close.
    ///
    /// The `v4` and `v5` subprotocols of kubectl are not included: for them, use the builder or
    /// `remotecommand::Protocols`.
    ///
    /// # Errors
    ///
    /// Fails with more than 79 channels, which base64 cannot number.
    pub fn standard(channels: impl Into<Arc<[ChannelType]>>) -> Result<Self, ConfigError> {
        let channels = channels.into();
        let raw = ChannelProtocolConfig::new(Encoding::Binary, channels.clone());
        Self::builder()
            .protocol("", raw.clone())
            .protocol(subprotocols::CHANNEL, raw)
            .protocol(
                subprotocols::BASE64_CHANNEL,
                ChannelProtocolConfig::new(Encoding::Base64, channels),
            )
            .build()
    }

    /// Returns a builder for a table, which is empty at first.
    pub fn builder() -> ChannelProtocolsBuilder {
        ChannelProtocolsBuilder {
            entries: Vec::new(),
        }
    }

    /// Returns the subprotocol with this exact name, and the name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<(&str, &ChannelProtocolConfig)> {
        self.iter().find(|(stored, _)| *stored == name)
    }

    /// Returns an iterator over the subprotocols, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ChannelProtocolConfig)> {
        self.entries
            .iter()
            .filter(|(_, config)| !config.is_over_spdy())
            .map(|(name, config)| (&**name, config))
    }

    /// Returns an iterator over the protocols that can be selected over SPDY.
    #[cfg(feature = "spdy")]
    pub(crate) fn over_spdy(&self) -> impl Iterator<Item = (&str, &ChannelProtocolConfig)> + Clone {
        self.entries
            .iter()
            .filter(|(_, config)| config.is_over_spdy())
            .map(|(name, config)| (&**name, config))
    }

    /// Returns the entry of a name, with a copy of the name that outlives the table. The copy costs
    /// nothing if the name is a constant.
    pub(crate) fn select(&self, name: &str) -> Option<(Cow<'static, str>, ChannelProtocolConfig)> {
        self.entries
            .iter()
            .find(|(stored, config)| stored == name && !config.is_over_spdy())
            .cloned()
    }
}

/// Builds a [`ChannelProtocols`] table.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ChannelProtocolsBuilder {
    entries: Vec<Entry>,
}

impl ChannelProtocolsBuilder {
    /// Adds a subprotocol. The name `""` is for clients that offer none.
    pub fn protocol(
        mut self,
        name: impl Into<Cow<'static, str>>,
        config: ChannelProtocolConfig,
    ) -> Self {
        self.entries.push((name.into(), config));
        self
    }

    /// Checks the table and returns it.
    ///
    /// # Errors
    ///
    /// Fails for a name that occurs twice, looks like a bearer token, or cannot be offered because
    /// it is not an HTTP token (RFC 9110, 5.6.2). Also fails for more than 255 channels, for more
    /// than 79 with base64, and for half-close with base64.
    pub fn build(self) -> Result<ChannelProtocols, ConfigError> {
        for (index, (name, config)) in self.entries.iter().enumerate() {
            // The name of a tunnel is no token, because Go's clients offer it as it is.
            let is_token = name.bytes().all(is_token_byte) || config.is_tunnel();
            if !name.is_empty() && !is_token {
                return Err(ConfigError::new(format!(
                    "subprotocol {name:?} cannot be offered by a client: use letters, digits and !#$%&'*+-.^_`|~ only"
                )));
            }
            if name.starts_with(CREDENTIAL_PREFIX) {
                // The message does not contain the name, which may be a real token.
                return Err(ConfigError::new(format!(
                    "a subprotocol must not begin with {CREDENTIAL_PREFIX:?}, which marks a bearer token: choose another name"
                )));
            }
            let clashes =
                |(other, its): &Entry| other == name && its.is_over_spdy() == config.is_over_spdy();
            if self.entries[..index].iter().any(clashes) {
                return Err(ConfigError::new(format!(
                    "subprotocol {name:?} is in the table twice: remove one"
                )));
            }
            config.check(name)?;
        }
        Ok(ChannelProtocols {
            entries: self.entries.into(),
        })
    }
}

/// Returns whether this byte may occur in a subprotocol (RFC 6455, 4.1): whether it is a `tchar`
/// of RFC 9110, 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(encoding: Encoding, channels: usize) -> Result<ChannelProtocols, ConfigError> {
        let config = ChannelProtocolConfig::new(encoding, vec![ChannelType::Read; channels]);
        ChannelProtocols::builder().protocol("x", config).build()
    }

    fn named(name: &'static str) -> Result<ChannelProtocols, ConfigError> {
        let config = ChannelProtocolConfig::new(Encoding::Binary, [ChannelType::Read]);
        ChannelProtocols::builder().protocol(name, config).build()
    }

    #[test]
    fn directions_are_the_servers() {
        use ChannelType::*;
        let table = [
            (Ignore, false, false),
            (Read, true, false),
            (Write, false, true),
            (ReadWrite, true, true),
        ];
        for (channel, readable, writable) in table {
            assert_eq!(
                (channel.is_readable(), channel.is_writable()),
                (readable, writable)
            );
        }
    }

    #[test]
    fn standard_has_the_three_names_of_go_in_order() {
        let protocols = ChannelProtocols::standard([ChannelType::ReadWrite]).unwrap();
        let names: Vec<_> = protocols
            .iter()
            .map(|(name, config)| (name, config.encoding(), config.supports_half_close()))
            .collect();
        assert_eq!(
            names,
            [
                ("", Encoding::Binary, false),
                ("channel.k8s.io", Encoding::Binary, false),
                ("base64.channel.k8s.io", Encoding::Base64, false),
            ]
        );
    }

    #[test]
    fn names_are_compared_exactly() {
        let protocols = named("v5.channel.k8s.io").unwrap();
        assert!(protocols.get("v5.channel.k8s.io").is_some());
        assert!(protocols.get("V5.channel.K8S.io").is_none());
        assert!(protocols.get("").is_none());
    }

    #[test]
    fn channel_255_is_reserved() {
        assert!(with(Encoding::Binary, 0).is_ok());
        assert!(with(Encoding::Binary, 255).is_ok());
        let error = with(Encoding::Binary, 256).unwrap_err();
        assert!(error.to_string().contains("at most 255"), "{error}");
    }

    #[test]
    fn base64_takes_79_channels() {
        assert!(with(Encoding::Base64, 79).is_ok());
        let error = with(Encoding::Base64, 80).unwrap_err();
        assert!(error.to_string().contains("at most 79"), "{error}");
        assert!(ChannelProtocols::standard(vec![ChannelType::Read; 80]).is_err());
    }

    #[test]
    fn half_close_needs_the_binary_encoding() {
        let base64 = ChannelProtocolConfig::new(Encoding::Base64, []).half_close(true);
        assert!(
            ChannelProtocols::builder()
                .protocol("x", base64)
                .build()
                .is_err()
        );
        let binary = ChannelProtocolConfig::new(Encoding::Binary, []).half_close(true);
        assert!(
            ChannelProtocols::builder()
                .protocol("x", binary)
                .build()
                .is_ok()
        );
    }

    #[test]
    fn names_must_be_tokens_or_empty() {
        assert!(named("").is_ok());
        assert!(named("v1.a+b~c").is_ok());
        for name in ["a b", "a,b", "a/b", "\u{e9}", "a\n", "a\"b"] {
            assert!(named(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_bearer_entry_is_no_name_and_is_not_repeated() {
        let error = named("base64url.bearer.authorization.k8s.io.c2VjcmV0").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("c2VjcmV0"));
    }

    #[test]
    fn duplicate_names_are_refused() {
        let config = ChannelProtocolConfig::new(Encoding::Binary, [ChannelType::Read]);
        let error = ChannelProtocols::builder()
            .protocol("a", config.clone())
            .protocol("b", config.clone())
            .protocol("a", config)
            .build()
            .unwrap_err();
        assert!(error.to_string().contains("\"a\""), "{error}");
    }

    #[test]
    fn an_empty_table_is_allowed() {
        let protocols = ChannelProtocols::builder().build().unwrap();
        assert_eq!(protocols.iter().count(), 0);
    }
}
