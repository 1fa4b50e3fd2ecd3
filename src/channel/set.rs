use std::{borrow::Cow, fmt, sync::Arc};

use http::request::Parts;

#[cfg(feature = "spdy")]
use super::tap::Taps;
use super::{Channel, ChannelReader, ChannelWriter, tap::Records};
#[cfg(feature = "spdy")]
use crate::streams::NewPairs;
use crate::{protocol::ChannelProtocolConfig, session::Session, unwind::Quiet, wire::Wire};

/// The channels of a session, which are the request to the inner service of a
/// [`WsStreamLayer`](crate::WsStreamLayer).
///
/// The selected subprotocol decides how many channels there are, and in which directions each can
/// be used. Take the handles that the service needs, and drop the set. This drops the readers that
/// were not taken, so their incoming data is discarded, and shuts down the remaining writers.
///
/// ```
/// use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
/// use tower_wsstream::{BoxError, ChannelSet};
///
/// /// Sends everything from channel 0 back on channel 1.
/// async fn echo(mut channels: ChannelSet) -> Result<(), BoxError> {
///     let (Some(mut stdin), Some(mut stdout)) =
///         (channels.take_reader(0), channels.take_writer(1))
///     else {
///         return Err("this subprotocol has no stdin and stdout".into());
///     };
///     drop(channels);
///     loop {
///         let bytes = stdin.fill_buf().await?;
///         if bytes.is_empty() {
///             return Ok(());
///         }
///         stdout.write_all(bytes).await?;
///         let read = bytes.len();
///         stdin.consume(read);
///     }
/// }
/// ```
pub struct ChannelSet {
    subprotocol: Cow<'static, str>,
    config: ChannelProtocolConfig,
    request: Option<Quiet<Box<Parts>>>,
    session: Session,
    channels: Box<[Sides]>,
    /// The connections of a tunnel, which has no channels when the session begins.
    #[cfg(feature = "spdy")]
    pairs: Option<TappedPairs>,
}

/// The connections of a tunnel, and the taps of their handles.
#[cfg(feature = "spdy")]
pub(crate) struct TappedPairs {
    pub(crate) new: NewPairs,
    pub(crate) taps: Taps,
}

type Sides = (Option<ChannelReader>, Option<ChannelWriter>);

impl ChannelSet {
    pub(crate) fn new(
        subprotocol: Cow<'static, str>,
        request: Option<Quiet<Box<Parts>>>,
        session: Session,
        wire: &Arc<Wire>,
        config: ChannelProtocolConfig,
    ) -> Self {
        let channels = (0..)
            .zip(config.channels())
            .map(|(id, channel)| {
                let reader = || ChannelReader::new(Arc::clone(wire), id);
                let writer = || ChannelWriter::new(Arc::clone(wire), id);
                (
                    channel.is_readable().then(reader),
                    channel.is_writable().then(writer),
                )
            })
            .collect();
        Self {
            subprotocol,
            config,
            request,
            session,
            channels,
            #[cfg(feature = "spdy")]
            pairs: None,
        }
    }

    /// Adds the connections of a tunnel.
    #[cfg(feature = "spdy")]
    pub(crate) fn set_pairs(&mut self, new: NewPairs) {
        let taps = Taps::default();
        self.pairs = Some(TappedPairs { new, taps });
    }

    /// Takes the connections of a tunnel. Returns `None` for a session of channels.
    #[cfg(feature = "spdy")]
    pub(crate) fn take_pairs(&mut self) -> Option<TappedPairs> {
        self.pairs.take()
    }

    /// Returns the selected subprotocol, or "" if the client offered none.
    pub fn subprotocol(&self) -> &str {
        &self.subprotocol
    }

    /// Returns the configuration of the selected subprotocol: its encoding, its channels, and
    /// whether it has half-close.
    ///
    /// A gateway that passes the channels on needs this, and should not have to guess it from the
    /// name.
    pub fn config(&self) -> &ChannelProtocolConfig {
        &self.config
    }

    /// Returns the head of the upgrade request, or `None` if it was taken.
    pub fn request(&self) -> Option<&Parts> {
        self.request.as_ref().map(|head| &**head.get_ref())
    }

    /// Takes the head of the upgrade request.
    ///
    /// Its header values and its URI keep a whole read buffer of the server alive, usually 8 KiB,
    /// so a long-lived service should not hold on to it.
    pub fn take_request(&mut self) -> Option<Box<Parts>> {
        self.request.take().map(Quiet::into_inner)
    }

    /// Returns the session that the channels belong to.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Returns the number of channels that the subprotocol has.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Returns whether the subprotocol has no channels.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Attaches a tap to the handles that were not taken yet.
    pub(crate) fn tap(&mut self, records: &Arc<Records>) {
        records.attach(&self.session);
        #[cfg(feature = "spdy")]
        if let Some(pairs) = &mut self.pairs {
            pairs.taps.add(records);
        }
        for (reader, writer) in &mut self.channels {
            if let Some(reader) = reader {
                reader.tap(records);
            }
            if let Some(writer) = writer {
                writer.tap(records);
            }
        }
    }

    /// Takes the inbound side of a channel. Returns `None` if its type has none, or if it was taken
    /// before.
    pub fn take_reader(&mut self, id: u8) -> Option<ChannelReader> {
        self.channels.get_mut(usize::from(id))?.0.take()
    }

    /// Takes the outbound side of a channel. Returns `None` if its type has none, or if it was
    /// taken before.
    pub fn take_writer(&mut self, id: u8) -> Option<ChannelWriter> {
        self.channels.get_mut(usize::from(id))?.1.take()
    }

    /// Takes the remaining sides of a channel as one handle. Returns `None` if none remains.
    pub fn take(&mut self, id: u8) -> Option<Channel> {
        let (reader, writer) = self.channels.get_mut(usize::from(id))?;
        let (reader, writer) = (reader.take(), writer.take());
        (reader.is_some() || writer.is_some()).then(|| Channel::new(id, reader, writer))
    }

    /// Returns all channels of the subprotocol in order, of any type, like the slice in Go.
    ///
    /// [`Channel`] describes how a side behaves that the type does not have.
    pub fn into_channels(self) -> Vec<Channel> {
        (0..)
            .zip(self.channels)
            .map(|(id, (reader, writer))| Channel::new(id, reader, writer))
            .collect()
    }
}

/// Leaves out the request, which may hold credentials.
impl fmt::Debug for ChannelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelSet")
            .field("subprotocol", &self.subprotocol)
            .field("session", &self.session)
            .field("channels", &self.channels)
            .finish_non_exhaustive()
    }
}
