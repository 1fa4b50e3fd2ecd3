//! The subprotocols of exec and attach, and the channels that a request opens.

use std::sync::Arc;

use http::request::Parts;

use super::{
    channel::{ERROR, RESIZE, STDERR, STDIN, STDOUT},
    options::Options,
};
use crate::{
    ChannelProtocolConfig, ChannelProtocols, ChannelType, Encoding, ProtocolSource, Rejection,
    subprotocols::{BASE64_CHANNEL, CHANNEL, V2, V3, V4, V4_BASE64, V5},
};

/// The subprotocols of exec and attach.
///
/// | name | encoding | last message on channel 3 | half-close of stdin |
/// |---|---|---|---|
/// | `v5.channel.k8s.io` | binary | a JSON Status | yes |
/// | `v4.channel.k8s.io` | binary | a JSON Status | no |
/// | `v4.base64.channel.k8s.io` | text | a JSON Status | no |
/// | `v3.channel.k8s.io`, `v2.channel.k8s.io`, `channel.k8s.io`, or none offered | binary | the text of a failure | no |
/// | `base64.channel.k8s.io` | text | the text of a failure | no |
///
/// Without half-close, a clean Close ends the stdin of a command that has stdin and no terminal, and
/// the command has the [longer grace](crate::SessionConfig::closed_grace). The ordinary grace applies
/// without stdin, where a Close means that the client leaves, and with a terminal, where it means
/// that the terminal hangs up.
///
/// Over SPDY, with the feature `spdy`, `v4.channel.k8s.io` to `v2.channel.k8s.io` and
/// `channel.k8s.io` are accepted, with the same last messages. Each channel is a stream there, and
/// each stream has half-close. The last two have no sizes, because their clients open no stream for
/// them.
///
/// The numbers of the channels are in [`channel`](super::channel). Channels that the client did not
/// ask for are [`Ignore`](ChannelType::Ignore). On `v3.channel.k8s.io`, the size may also arrive on
/// channel 3, because the documentation of Go's package says so.
///
/// # Examples
///
/// ```
/// use tower_wsstream::ChannelType::{Ignore, Read, Write};
/// use tower_wsstream::remotecommand::{Options, Protocols};
///
/// let options = Options::from_query("stdin=true&stdout=true&tty=true")?;
/// let protocols = Protocols::default().for_options(&options);
/// let (_, v5) = protocols.get("v5.channel.k8s.io").unwrap();
/// assert_eq!(v5.channels(), [Read, Write, Ignore, Write, Read]);
/// # Ok::<(), tower_wsstream::Rejection>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Protocols {
    // There is nothing to configure yet. The private field allows adding a choice of versions.
    _private: (),
}

impl Protocols {
    /// Returns the table for a request: all names above, with the channels that its options ask for.
    #[must_use]
    pub fn for_options(&self, options: &Options) -> ChannelProtocols {
        let read = |wanted| {
            if wanted {
                ChannelType::Read
            } else {
                ChannelType::Ignore
            }
        };
        let write = |wanted| {
            if wanted {
                ChannelType::Write
            } else {
                ChannelType::Ignore
            }
        };
        let mut channels = [ChannelType::Ignore; 5];
        channels[usize::from(STDIN)] = read(options.stdin);
        channels[usize::from(STDOUT)] = write(options.stdout);
        channels[usize::from(STDERR)] = write(options.stderr);
        channels[usize::from(ERROR)] = ChannelType::Write;
        channels[usize::from(RESIZE)] = read(options.tty);

        // The published documentation of v3 has sizes on channel 3, while every implementation
        // has them on channel 4. A client sends nothing else on channel 3.
        let mut v3 = channels;
        if options.tty {
            v3[usize::from(ERROR)] = ChannelType::ReadWrite;
        }

        // Sizes are not input, and the Close of a terminal is a hang-up.
        let config = |encoding, channels: Arc<[ChannelType]>| {
            ChannelProtocolConfig::new(encoding, channels)
                .close_ends_input(options.stdin && !options.tty)
        };
        let shared: Arc<[ChannelType]> = Arc::new(channels);
        let raw = config(Encoding::Binary, shared.clone());
        let base64 = config(Encoding::Base64, shared);
        let v3 = config(Encoding::Binary, Arc::new(v3));
        let table = ChannelProtocols::builder()
            .protocol(V5, raw.clone().half_close(true))
            .protocol(V4, raw.clone())
            .protocol(V4_BASE64, base64.clone())
            .protocol(V3, v3)
            .protocol(V2, raw.clone())
            .protocol(CHANNEL, raw.clone())
            .protocol(BASE64_CHANNEL, base64)
            .protocol("", raw.clone());
        #[cfg(feature = "spdy")]
        let table = {
            let with_sizes = raw.over_spdy();
            channels[usize::from(RESIZE)] = ChannelType::Ignore;
            let without = config(Encoding::Binary, Arc::new(channels)).over_spdy();
            table
                .protocol(V4, with_sizes.clone())
                .protocol(V3, with_sizes)
                .protocol(V2, without.clone())
                .protocol(CHANNEL, without)
        };
        table
            .build()
            .expect("different names and five channels make a table")
    }
}

impl ProtocolSource for Protocols {
    fn protocols(&self, head: &Parts) -> Result<ChannelProtocols, Rejection> {
        let options = Options::from_query(head.uri.query().unwrap_or_default())?;
        Ok(self.for_options(&options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(query: &str) -> ChannelProtocols {
        Protocols::default().for_options(&Options::from_query(query).unwrap())
    }

    #[test]
    fn all_names_and_what_sets_them_apart() {
        let table = table("stdin=1&stdout=1&stderr=1");
        let names: Vec<_> = table
            .iter()
            .map(|(name, config)| (name, config.encoding(), config.supports_half_close()))
            .collect();
        use Encoding::{Base64, Binary};
        assert_eq!(
            names,
            [
                ("v5.channel.k8s.io", Binary, true),
                ("v4.channel.k8s.io", Binary, false),
                ("v4.base64.channel.k8s.io", Base64, false),
                ("v3.channel.k8s.io", Binary, false),
                ("v2.channel.k8s.io", Binary, false),
                ("channel.k8s.io", Binary, false),
                ("base64.channel.k8s.io", Base64, false),
                ("", Binary, false),
            ]
        );
        assert!(table.get("v5.base64.channel.k8s.io").is_none());
    }

    #[cfg(feature = "spdy")]
    #[test]
    fn v5_is_never_selected_over_spdy() {
        use ChannelType::{Ignore, Read, Write};
        let table = table("stdin=1&stdout=1&tty=1");
        let accepted: Vec<_> = table
            .over_spdy()
            .map(|(name, config)| (name, config.channels()))
            .collect();
        let terminal = [Read, Write, Ignore, Write, Read];
        let no_sizes = [Read, Write, Ignore, Write, Ignore];
        assert_eq!(
            accepted,
            [
                ("v4.channel.k8s.io", &terminal[..]),
                ("v3.channel.k8s.io", &terminal),
                ("v2.channel.k8s.io", &no_sizes),
                ("channel.k8s.io", &no_sizes),
            ]
        );
    }

    #[test]
    fn channels_follow_every_combination_of_options() {
        use ChannelType::{Ignore, Read, ReadWrite, Write};
        for bits in 0..16_u8 {
            let [stdin, stdout, stderr, tty] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
            let query = format!("stdin={stdin}&stdout={stdout}&stderr={stderr}&tty={tty}");
            let Ok(options) = Options::from_query(&query) else {
                continue;
            };
            for (name, config) in Protocols::default().for_options(&options).iter() {
                let error = if tty && name == V3 { ReadWrite } else { Write };
                let expected = [
                    if stdin { Read } else { Ignore },
                    if stdout { Write } else { Ignore },
                    if stderr && !tty { Write } else { Ignore },
                    error,
                    if tty { Read } else { Ignore },
                ];
                assert_eq!(config.channels(), expected, "{name} {query}");
            }
        }
    }
}
