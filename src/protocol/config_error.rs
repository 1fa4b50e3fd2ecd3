use std::{borrow::Cow, error::Error, fmt};

/// The error of an invalid configuration. The message says how to correct it.
///
/// # Examples
///
/// ```
/// use tower_wsstream::{ChannelProtocolConfig, ChannelProtocols, ChannelType, ConfigError, Encoding};
///
/// let no_such_thing = ChannelProtocolConfig::new(Encoding::Base64, [ChannelType::Read]).half_close(true);
/// let error: ConfigError = ChannelProtocols::builder()
///     .protocol("v1.example.com", no_such_thing)
///     .build()
///     .unwrap_err();
/// assert!(error.to_string().contains("half-close"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    message: Cow<'static, str>,
}

impl ConfigError {
    pub(crate) fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ConfigError {}
