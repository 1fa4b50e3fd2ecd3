//! The subprotocols of exec and attach, and which channels a request opens.

use std::sync::Arc;

use http::request::Parts;

use super::options::Options;
use crate::protocol::subprotocols::{BASE64_CHANNEL, CHANNEL, V2, V3, V4, V4_BASE64, V5};
use crate::protocol::{ChannelProtocolConfig, ChannelProtocols, ChannelType, Encoding};
use crate::{ProtocolSource, Rejection};

/// Number of the channel that carries the client's input.
pub(crate) const STDIN: u8 = 0;
/// Number of the channel that carries output.
pub(crate) const STDOUT: u8 = 1;
/// Number of the channel that carries error output.
pub(crate) const STDERR: u8 = 2;
/// Number of the channel that carries the outcome, last of all.
pub(crate) const ERROR: u8 = 3;
/// Number of the channel that carries the sizes of a terminal.
pub(crate) const RESIZE: u8 = 4;

/// The subprotocols of exec and attach.
///
/// | name | encoding | channel 3 at the end | the client can end stdin alone |
/// |---|---|---|---|
/// | `v5.channel.k8s.io` | binary | a JSON Status | yes |
/// | `v4.channel.k8s.io` | binary | a JSON Status | no |
/// | `v4.base64.channel.k8s.io` | text | a JSON Status | no |
/// | `v3.channel.k8s.io`, `v2.channel.k8s.io`, `channel.k8s.io`, none | binary | a failure's text | no |
/// | `base64.channel.k8s.io` | text | a failure's text | no |
///
/// Where the client cannot end stdin alone, a clean Close of a command with stdin and
/// without a terminal is that end, and the command has the
/// [longer grace](crate::SessionConfig::closed_grace). Without stdin it is a goodbye, and with a
/// terminal it is the terminal's hang-up: the ordinary grace applies.
///
/// On all of them channel 0 is stdin, 1 stdout, 2 stderr, 3 the outcome and 4
/// the size of the terminal; what the client did not ask for is
/// [`Ignore`](ChannelType::Ignore). On `v3.channel.k8s.io` the size may come on channel 3 as
/// well, because that is where the documentation of Go's package has it.
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
    // Nothing to configure yet; private, so that a choice of versions can come.
    _private: (),
}

impl Protocols {
    /// Returns the table of one request: all names above, with the channels
    /// that its options ask for.
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

        // The published documentation of v3 has sizes on channel 3, where everything that
        // speaks it has them on 4. A client has nothing else to say there.
        let mut v3 = channels;
        if options.tty {
            v3[usize::from(ERROR)] = ChannelType::ReadWrite;
        }

        // Sizes are no input, and the Close of a terminal is its hang-up.
        let config = |encoding, channels: Arc<[ChannelType]>| {
            ChannelProtocolConfig::new(encoding, channels)
                .close_ends_input(options.stdin && !options.tty)
        };
        let channels: Arc<[ChannelType]> = Arc::new(channels);
        let raw = config(Encoding::Binary, channels.clone());
        let base64 = config(Encoding::Base64, channels);
        let v3 = config(Encoding::Binary, Arc::new(v3));
        ChannelProtocols::builder()
            .protocol(V5, raw.clone().half_close(true))
            .protocol(V4, raw.clone())
            .protocol(V4_BASE64, base64.clone())
            .protocol(V3, v3)
            .protocol(V2, raw.clone())
            .protocol(CHANNEL, raw.clone())
            .protocol(BASE64_CHANNEL, base64)
            .protocol("", raw)
            .build()
            .expect("eight different names and five channels make a table")
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
