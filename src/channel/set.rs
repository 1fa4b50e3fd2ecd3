use std::{borrow::Cow, fmt, sync::Arc};

use http::request::Parts;

use super::{Channel, ChannelReader, ChannelWriter, tap::Records};
use crate::{protocol::ChannelProtocolConfig, session::Session, unwind::Quiet, wire::Wire};

/// What the inner service of a [`WsStreamLayer`](crate::WsStreamLayer) gets for
/// each session: its channels, typed by the selected subprotocol.
///
/// Take what the service needs and let the set go: a reader that was not taken
/// is dropped with it, and what comes for that channel is discarded; a writer
/// that was not taken is shut down.
///
/// ```
/// use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
/// use tower_wsstream::{BoxError, ChannelSet};
///
/// /// Sends back on channel 1 what comes on channel 0.
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
        }
    }

    /// The subprotocol that was selected; "" where the client offered none.
    pub fn subprotocol(&self) -> &str {
        &self.subprotocol
    }

    /// The configuration of the selected subprotocol: its encoding, its channels, and whether
    /// it has half-close.
    ///
    /// For a gateway, which passes the channels on and should not have to guess these from
    /// the name.
    pub fn config(&self) -> &ChannelProtocolConfig {
        &self.config
    }

    /// The head of the upgrade request, until it was taken.
    pub fn request(&self) -> Option<&Parts> {
        self.request.as_ref().map(|head| &**head.get_ref())
    }

    /// Takes the head of the upgrade request out.
    ///
    /// Its header values and URI keep a whole read buffer of the server alive,
    /// 8 KiB as a rule, so a service that lives long should not keep it.
    pub fn take_request(&mut self) -> Option<Box<Parts>> {
        self.request.take().map(Quiet::into_inner)
    }

    /// The session that the channels belong to.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// How many channels the subprotocol has.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Whether the subprotocol has no channel at all.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Records what will go through the handles that are still here.
    pub(crate) fn tap(&mut self, records: &Arc<Records>) {
        records.attach(&self.session);
        for (reader, writer) in &mut self.channels {
            if let Some(reader) = reader {
                reader.tap(records);
            }
            if let Some(writer) = writer {
                writer.tap(records);
            }
        }
    }

    /// The inbound side of a channel; `None` if its type has none, or it was taken.
    pub fn take_reader(&mut self, id: u8) -> Option<ChannelReader> {
        self.channels.get_mut(usize::from(id))?.0.take()
    }

    /// The outbound side of a channel; `None` if its type has none, or it was taken.
    pub fn take_writer(&mut self, id: u8) -> Option<ChannelWriter> {
        self.channels.get_mut(usize::from(id))?.1.take()
    }

    /// What is left of a channel's sides, as one; `None` if there is none.
    pub fn take(&mut self, id: u8) -> Option<Channel> {
        let (reader, writer) = self.channels.get_mut(usize::from(id))?;
        let (reader, writer) = (reader.take(), writer.take());
        (reader.is_some() || writer.is_some()).then(|| Channel::new(id, reader, writer))
    }

    /// All channels in order, one for each of the subprotocol's, whatever its
    /// type: Go's slice.
    ///
    /// See [`Channel`] for what the sides do that a type does not have.
    pub fn into_channels(self) -> Vec<Channel> {
        (0..)
            .zip(self.channels)
            .map(|(id, (reader, writer))| Channel::new(id, reader, writer))
            .collect()
    }
}

/// Without the request: it may hold credentials.
impl fmt::Debug for ChannelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelSet")
            .field("subprotocol", &self.subprotocol)
            .field("session", &self.session)
            .field("channels", &self.channels)
            .finish_non_exhaustive()
    }
}
