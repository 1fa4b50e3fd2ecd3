use std::{sync::Arc, task::Poll};

use bytes::BytesMut;

use super::inlet::Inlet;
use crate::{
    error::EndCause,
    frame::{Control, FrameError, Masked, MessageKind, Sink},
    protocol::{Format, base64::Base64Decoder},
    wire::{End, Wire},
};

/// The number of base64 characters that are decoded at a time. The decoder passes text on from its
/// stack in pieces of about this size.
const BASE64_PIECE: usize = 4 * 1024;

/// The first byte of a CLOSE message: `[255, channel]` ends that channel on `v5.channel.k8s.io`.
/// Therefore 255 is never the number of a channel.
const CLOSE: u8 = 255;

/// The destination of the next payload byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// The next byte is the number of the channel.
    Prefix,
    /// A readable channel.
    Channel(u8),
    /// A channel that does not exist or is only writable. The message is ignored.
    Ignored,
    /// A CLOSE, with the last byte after the first, and the number of bytes after the first.
    Close(u8, usize),
}

/// The signs of the peer since the driver last took them, for the driver to act on.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// A Close frame, as an [`EndCause::PeerClosed`].
    pub(crate) close: Option<EndCause>,
    /// The payload of a Pong, which is the amount of data that was sent before the Ping that it
    /// answers. It is 0 if the Pong does not answer a Ping of ours.
    pub(crate) pong: Option<u64>,
    /// A message or a piece of one has arrived. An empty message and a CLOSE count as well.
    pub(crate) data: bool,
}

impl Heard {
    /// Notes a control frame, and answers a Ping.
    pub(crate) fn control(&mut self, wire: &Wire, control: Control<'_>) {
        match control {
            Control::Ping(payload) => wire.outbound.pong(payload),
            Control::Pong(mark) => {
                let mark = mark.try_into().map_or(0, u64::from_be_bytes);
                self.pong = self.pong.max(Some(mark));
            }
            Control::Close(close) => {
                let (code, reason) = close.unzip();
                self.close = Some(EndCause::PeerClosed {
                    code,
                    reason: reason.unwrap_or_default().into(),
                });
            }
        }
    }
}

/// The inbound side of all channels of a session.
#[derive(Debug)]
pub(crate) struct Mux {
    wire: Arc<Wire>,
    format: Format,
    half_close: bool,
    target: Target,
    inlet: Inlet,
    base64: Base64Decoder,
    /// Decoded base64, on its way to a pipe.
    scratch: BytesMut,
    /// The session is over for the channels, and incoming data is discarded.
    over: bool,
    /// All data is taken, even if there is no room for it.
    regardless: bool,
    /// The number of messages for channels that do not exist or are only writable.
    pub(crate) ignored: u64,
    pub(crate) heard: Heard,
}

impl Mux {
    pub(crate) fn new(wire: Arc<Wire>, format: Format, half_close: bool) -> Self {
        Self {
            wire,
            format,
            half_close,
            target: Target::Prefix,
            inlet: Inlet::default(),
            base64: Base64Decoder::default(),
            scratch: BytesMut::new(),
            over: false,
            regardless: false,
            ignored: 0,
            heard: Heard::default(),
        }
    }

    /// Commits the data that has arrived, so that readers get it. This is called after each read.
    pub(crate) fn commit(&mut self) {
        self.inlet.commit(&self.wire);
    }

    /// Waits for room for the next payload byte. If it is pending, the driver is woken once there
    /// is room.
    pub(crate) fn poll_room(&mut self) -> Poll<()> {
        self.commit();
        match self.target {
            Target::Channel(channel) if !self.over && !self.regardless => {
                // Four characters of base64 make three bytes, which are never split.
                let wanted = if self.format.is_base64() { 3 } else { 1 };
                let pipe = self.wire.inbound.pipe(channel);
                pipe.map_or(Poll::Ready(()), |pipe| pipe.poll_room(wanted))
            }
            _ => Poll::Ready(()),
        }
    }

    /// Extends the window of the channel that waits for room, from the stall reserve. Returns
    /// whether there is room now.
    pub(crate) fn extend(&self) -> bool {
        match self.target {
            Target::Channel(channel) if !self.over => self.wire.inbound.extend(channel),
            _ => false,
        }
    }

    /// Takes everything from now on, even without room. This is for the little that is left of a
    /// lost connection.
    pub(crate) fn take_regardless(&mut self) {
        self.regardless = true;
    }

    /// Returns the smallest room of all readable channels.
    pub(crate) fn least_room(&self) -> usize {
        let rooms = self.wire.inbound.pipes().map(|pipe| pipe.room());
        rooms.min().unwrap_or(usize::MAX)
    }

    /// Ends the channels after a Close frame from the peer.
    ///
    /// For a channel that the peer has not ended before, a clean Close is an EOF only if the
    /// subprotocol gives the peer no other way to end it.
    pub(crate) fn end_by_close(&mut self, cause: &EndCause) {
        self.commit();
        let error = End::Error(cause.clone());
        if let Target::Channel(channel) = self.target
            && let Some(pipe) = self.wire.inbound.pipe(channel)
        {
            // The Close came inside a message, whose rest was never sent.
            pipe.end(error.clone());
        }
        let end = match cause {
            EndCause::PeerClosed {
                code: None | Some(1000),
                ..
            } if !self.half_close => End::Eof,
            _ => error,
        };
        self.end_all(&end);
    }

    /// Ends every channel that has not ended yet.
    pub(crate) fn end_all(&mut self, end: &End) {
        self.commit();
        self.over = true;
        for pipe in self.wire.inbound.pipes() {
            pipe.end(end.clone());
        }
    }

    /// Returns the destination of a message that begins with this byte.
    fn choose(&mut self, first: u8) -> Target {
        let channel = self.format.channel(first);
        if self.half_close && first == CLOSE {
            return Target::Close(0, 0);
        }
        match self.wire.inbound.pipe(channel) {
            Some(_) => Target::Channel(channel),
            None => {
                tracing::debug!(
                    channel,
                    "ignored a message for a channel that is not readable"
                );
                self.ignore()
            }
        }
    }

    /// Returns the target of a message in a format without channel numbers.
    fn only_channel(&mut self) -> Target {
        if self.wire.inbound.pipe(0).is_none() {
            return self.ignore();
        }
        if !self.over {
            self.inlet.room(&self.wire, 0);
            self.inlet.count();
        }
        Target::Channel(0)
    }

    /// Counts a message that is ignored.
    fn ignore(&mut self) -> Target {
        self.ignored += 1;
        Target::Ignored
    }

    /// Ends the channel of a CLOSE that had this last byte, and `len` bytes after the first.
    fn close_channel(&mut self, channel: u8, len: usize) -> Result<(), EndCause> {
        if len != 1 || usize::from(channel) >= self.wire.inbound.channels() {
            let rule = "a CLOSE is 255 and the number of one channel";
            return Err(EndCause::ProtocolError { rule });
        }
        self.commit();
        if let Some(pipe) = self.wire.inbound.pipe(channel) {
            pipe.end(End::Eof);
        }
        Ok(())
    }

    /// Decodes a piece of base64 into the current channel.
    fn push_base64(&mut self, piece: Masked<'_>) -> Result<(), EndCause> {
        let mut unmasked = Vec::new();
        let text = match piece.as_plain() {
            Some(text) => text,
            // Base64 in a binary message is rare, so it may be slow.
            None => {
                piece.append_to_vec(&mut unmasked);
                &unmasked
            }
        };
        self.scratch.clear();
        self.base64
            .decode(text, &mut self.scratch)
            .map_err(|_| INVALID_BASE64)?;
        self.inlet.push(Masked::plain(&self.scratch));
        Ok(())
    }
}

const INVALID_BASE64: EndCause = EndCause::InvalidText {
    rule: "the payload is not base64",
};

impl From<FrameError> for EndCause {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Protocol(rule) => Self::ProtocolError { rule },
            FrameError::TooLarge => Self::TooLarge,
            FrameError::Utf8 => Self::InvalidText {
                rule: "text is not UTF-8",
            },
        }
    }
}

impl Sink for Mux {
    type Error = EndCause;

    fn begin(&mut self, _: MessageKind) -> Result<(), EndCause> {
        self.target = match self.format.has_channels() {
            true => Target::Prefix,
            false => self.only_channel(),
        };
        self.heard.data = true;
        Ok(())
    }

    fn room(&mut self) -> usize {
        match self.target {
            _ if self.over => usize::MAX,
            Target::Prefix => 1,
            Target::Channel(channel) => {
                let room = self.inlet.room(&self.wire, channel);
                let room = if self.regardless { usize::MAX } else { room };
                match self.format {
                    Format::Base64 | Format::BareBase64 => {
                        // Up to three characters of a group of four may wait in the decoder, and
                        // count as a part of the piece.
                        let quads = room / 3;
                        (quads.saturating_mul(4))
                            .saturating_sub(3)
                            .min(BASE64_PIECE)
                    }
                    _ => room,
                }
            }
            Target::Ignored | Target::Close(..) => usize::MAX,
        }
    }

    fn payload(&mut self, piece: Masked<'_>) -> Result<(), EndCause> {
        // Set at each piece and not only at the first, because a message may take hours.
        self.heard.data = true;
        if self.over {
            return Ok(());
        }
        match self.target {
            Target::Prefix => {
                let (first, rest) = piece.split_at(1);
                self.target = first
                    .first()
                    .map_or(Target::Ignored, |first| self.choose(first));
                if let Target::Channel(channel) = self.target {
                    // This makes it the current channel, even if there is no room.
                    self.inlet.room(&self.wire, channel);
                    self.inlet.count();
                }
                debug_assert!(rest.is_empty(), "`room` is 1 before the prefix");
            }
            Target::Channel(_) if self.format.is_base64() => {
                self.push_base64(piece)?;
            }
            Target::Channel(_) => self.inlet.push(piece),
            Target::Ignored => {}
            Target::Close(_, len) => {
                let channel = piece.first().unwrap_or_default();
                self.target = Target::Close(channel, len.saturating_add(piece.len()));
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), EndCause> {
        if self.over {
            return Ok(());
        }
        match std::mem::replace(&mut self.target, Target::Prefix) {
            Target::Close(channel, len) => self.close_channel(channel, len)?,
            Target::Channel(_) if self.format.is_base64() => {
                self.base64.finish().map_err(|_| INVALID_BASE64)?;
            }
            Target::Prefix | Target::Channel(_) | Target::Ignored => {}
        }
        Ok(())
    }

    #[inline]
    fn message(&mut self, _: MessageKind, piece: Masked<'_>) -> Result<bool, EndCause> {
        if self.over {
            self.heard.data = true;
            return Ok(true);
        }
        if self.format != Format::Binary {
            return Ok(false);
        }
        let (prefix, payload) = piece.split_at(1);
        self.heard.data = true;
        let Some(first) = prefix.first() else {
            return Ok(true);
        };
        if self.inlet.fits(first, payload.len()) {
            self.inlet.count();
            self.inlet.push(payload);
            return Ok(true);
        }
        match self.wire.inbound.pipe(first) {
            // An empty message needs no room.
            Some(_) if self.inlet.room(&self.wire, first) < payload.len() => Ok(false),
            Some(_) => {
                self.inlet.count();
                self.inlet.push(payload);
                Ok(true)
            }
            None if self.half_close && first == CLOSE => {
                let channel = payload.first().unwrap_or_default();
                self.close_channel(channel, payload.len()).map(|()| true)
            }
            None => {
                self.ignored += 1;
                Ok(true)
            }
        }
    }

    fn control(&mut self, control: Control<'_>) -> Result<(), EndCause> {
        self.heard.control(&self.wire, control);
        Ok(())
    }
}
