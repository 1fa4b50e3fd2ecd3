use std::{sync::Arc, task::Poll};

use tokio::time::Instant;

use super::{exchange::Exchange, roles::Roles};
use crate::{
    error::EndCause,
    frame::{Control, Masked},
    mux::{Heard, Inlet},
    spdy::{Decoder, Fault, Frame, Want},
    wire::{End, Wire},
};

/// The size of the pieces in which heads and control frames are unmasked. It holds every real header
/// block.
const PIECE: usize = 128;

/// The destination of the payload of a DATA frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// The reader of a channel.
    Slot(u8),
    /// The payload is discarded.
    Discard,
}

/// The inbound side of a SPDY session: bytes that are cut anywhere in, data of channels out.
///
/// It is for streams what a [`Mux`](crate::mux::Mux) is for channels, and the driver treats both in
/// the same way.
#[derive(Debug)]
pub(crate) struct StreamMux {
    decoder: Decoder,
    exchange: Exchange,
    inlet: Inlet,
    /// The destination while the decoder is in a DATA frame.
    target: Target,
    /// The session is over for the channels, and incoming data is discarded.
    over: bool,
    /// All data is taken, even if there is no room for it.
    regardless: bool,
}

impl StreamMux {
    pub(crate) fn new(wire: Arc<Wire>, roles: Roles) -> Self {
        Self {
            decoder: Decoder::new(),
            exchange: Exchange::new(wire, roles, Instant::now()),
            inlet: Inlet::default(),
            target: Target::Discard,
            over: false,
            regardless: false,
        }
    }

    fn wire(&self) -> &Wire {
        &self.exchange.wire
    }

    /// Takes as many bytes as there is room for, and returns their number.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Result<usize, EndCause> {
        let mut taken = 0;
        let result = loop {
            let n = self.room().min(bytes.len() - taken);
            if n == 0 {
                break Ok(taken);
            }
            if let Err(cause) = self.push(Masked::plain(&bytes[taken..taken + n])) {
                break Err(cause);
            }
            taken += n;
        };
        self.commit();
        result
    }

    /// Returns how many of the next bytes can be taken now.
    pub(super) fn room(&mut self) -> usize {
        match self.decoder.want() {
            Want::Bytes(_) if self.exchange.is_congested() && !self.takes_all() => 0,
            Want::Bytes(wanted) => wanted,
            Want::Data { left, .. } => match self.target {
                Target::Slot(slot) if !self.takes_all() => {
                    left.min(self.inlet.room(&self.exchange.wire, slot))
                }
                Target::Slot(_) | Target::Discard => left,
            },
            Want::Skip { left } => left,
        }
    }

    /// Returns whether bytes are taken even if there is no room for them.
    fn takes_all(&self) -> bool {
        self.over || self.regardless
    }

    /// Takes bytes, of which there are no more than there is [room](Self::room) for.
    pub(super) fn push(&mut self, piece: Masked<'_>) -> Result<(), EndCause> {
        self.take(piece)
            .map_err(|Fault { rule }| EndCause::ProtocolError { rule })
    }

    fn take(&mut self, piece: Masked<'_>) -> Result<(), Fault> {
        let len = piece.len();
        match self.decoder.want() {
            Want::Bytes(_) => self.feed(piece),
            Want::Data { .. } => {
                self.exchange.heard.data = true;
                if let (Target::Slot(slot), false) = (self.target, self.over) {
                    // Makes it the current channel, even if there is no room.
                    self.inlet.room(&self.exchange.wire, slot);
                    self.inlet.push(piece);
                }
                match self.decoder.took(len) {
                    Some(Frame::Data { stream, fin }) => self.end_data(stream, fin, false),
                    Some(Frame::Control(_)) | None => Ok(()),
                }
            }
            Want::Skip { .. } => {
                self.decoder.took(len);
                Ok(())
            }
        }
    }

    /// Passes bytes of a head or of a control frame on to the decoder.
    fn feed(&mut self, mut piece: Masked<'_>) -> Result<(), Fault> {
        let mut plain = [0; PIECE];
        while !piece.is_empty() {
            let (now, later) = piece.split_at(piece.len().min(PIECE));
            piece = later;
            match self.decoder.feed(now.copy_to(&mut plain))? {
                Some(Frame::Control(control)) => {
                    // kubectl has nothing but PINGs to say for hours. An answer to a PING of ours would
                    // keep every session from being idle.
                    self.exchange.heard.data |= !control.is_answer();
                    // In front of its end, a reader gets its data.
                    self.inlet.commit(&self.exchange.wire);
                    self.exchange.control(control)?;
                }
                Some(Frame::Data { stream, fin }) => self.end_data(stream, fin, true)?,
                None => match self.decoder.want() {
                    Want::Data { stream, .. } => self.begin_data(stream)?,
                    Want::Skip { .. } => self.exchange.skip()?,
                    Want::Bytes(_) => {}
                },
            }
        }
        Ok(())
    }

    fn begin_data(&mut self, stream: u32) -> Result<(), Fault> {
        self.target = match self.exchange.begin_data(stream)? {
            Some(slot) => {
                self.inlet.room(&self.exchange.wire, slot);
                self.inlet.count();
                Target::Slot(slot)
            }
            None => Target::Discard,
        };
        Ok(())
    }

    fn end_data(&mut self, stream: u32, fin: bool, empty: bool) -> Result<(), Fault> {
        self.target = Target::Discard;
        if fin {
            self.inlet.commit(&self.exchange.wire);
        }
        self.exchange.end_data(stream, fin, empty)
    }

    /// Takes bytes, if there is known to be room for all of them. Returns whether it has.
    #[inline]
    pub(super) fn push_whole(&mut self, piece: Masked<'_>) -> Result<bool, EndCause> {
        let fits = match self.decoder.want() {
            Want::Bytes(wanted) => piece.len() <= wanted && !self.exchange.is_congested(),
            Want::Data { left, .. } => {
                piece.len() <= left
                    && match self.target {
                        Target::Slot(slot) => self.inlet.fits(slot, piece.len()),
                        Target::Discard => true,
                    }
            }
            Want::Skip { left } => piece.len() <= left,
        };
        if fits {
            self.push(piece)?;
        }
        Ok(fits)
    }
}

/// The methods for the driver, which are those of a [`Mux`](crate::mux::Mux).
impl StreamMux {
    /// Commits the data that has arrived, so that readers get it, and queues the answers to it. This
    /// is called after each read.
    pub(crate) fn commit(&mut self) {
        self.inlet.commit(&self.exchange.wire);
        self.exchange.flush();
    }

    /// Waits for room for the next byte. If it is pending, the driver is woken once a reader makes
    /// room, or has to look again once output has left: see [`StreamMux::waits_for_output`].
    pub(crate) fn poll_room(&mut self) -> Poll<()> {
        self.commit();
        if self.takes_all() {
            return Poll::Ready(());
        }
        match (self.decoder.want(), self.target) {
            (Want::Bytes(_), _) => {
                self.exchange.check_congestion();
                match self.exchange.is_congested() {
                    true => Poll::Pending,
                    false => Poll::Ready(()),
                }
            }
            (Want::Data { .. }, Target::Slot(slot)) => self.exchange.poll_room(slot),
            (Want::Data { .. } | Want::Skip { .. }, _) => Poll::Ready(()),
        }
    }

    /// Returns whether reading is paused until answers to the peer have left.
    pub(crate) fn waits_for_output(&self) -> bool {
        let asks = matches!(self.decoder.want(), Want::Bytes(_));
        asks && self.exchange.is_congested() && !self.takes_all()
    }

    /// Extends the window of the channel that waits for room, from the stall reserve. Returns
    /// whether there is room now.
    pub(crate) fn extend(&self) -> bool {
        match (self.decoder.want(), self.target) {
            (Want::Data { .. }, Target::Slot(slot)) if !self.over => self.exchange.extend(slot),
            _ => false,
        }
    }

    /// Takes everything from now on, even without room. This is for the little that is left of a
    /// lost connection.
    pub(crate) fn take_regardless(&mut self) {
        self.regardless = true;
    }

    /// Returns the room of the channel that data arrives for.
    pub(crate) fn least_room(&self) -> usize {
        match self.target {
            Target::Slot(slot) => {
                let pipe = self.wire().inbound.pipe(slot);
                pipe.map_or(usize::MAX, |pipe| pipe.room())
            }
            Target::Discard => usize::MAX,
        }
    }

    /// Ends the channels after the peer has closed the session. The peer can end each stream, so one
    /// that it has not ended is cut off.
    pub(crate) fn end_by_close(&mut self, cause: &EndCause) {
        self.end_all(&End::Error(cause.clone()));
    }

    /// Ends every channel that has not ended yet.
    pub(crate) fn end_all(&mut self, end: &End) {
        self.commit();
        self.over = true;
        self.exchange.accept_no_more();
        for pipe in self.wire().inbound.pipes() {
            pipe.end(end.clone());
        }
    }

    /// Takes the signs of the peer since the last call.
    pub(crate) fn take_heard(&mut self) -> Heard {
        std::mem::take(&mut self.exchange.heard)
    }

    /// Handles a control frame of the WebSocket.
    pub(super) fn control(&mut self, control: Control<'_>) {
        let Exchange { wire, heard, .. } = &mut self.exchange;
        heard.control(wire, control);
    }

    /// Returns the number of DATA frames that no reader was there for.
    pub(crate) fn ignored(&self) -> u64 {
        self.exchange.ignored
    }
}

/// The methods for the driver that a session of channels has no use for.
impl StreamMux {
    /// Returns whether all streams of a command are open, so that it may start.
    pub(crate) fn is_complete(&self) -> bool {
        self.exchange.is_complete()
    }

    /// Returns whether this end may still send on the stream of a channel.
    pub(crate) fn sends(&self, channel: u8) -> bool {
        self.exchange.sends(channel)
    }

    /// Collects what the service and its handles have left for this end to do. This is called after
    /// the service was polled, and before output is sent.
    pub(crate) fn end_round(&mut self) {
        self.exchange.end_round();
        self.leave_a_closed_stream();
    }

    /// Returns the earliest deadline of the streams.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.exchange.next_due()
    }

    /// Handles the deadlines that have expired. Returns a cause if one ends the session.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<EndCause> {
        let cause = self.exchange.expire(now);
        self.leave_a_closed_stream();
        cause
    }

    /// Discards the rest of a DATA frame whose stream was closed, because its channel may stand for
    /// another stream by now.
    fn leave_a_closed_stream(&mut self) {
        if self.target != Target::Discard && self.exchange.is_amid_a_closed_stream() {
            self.inlet.commit(&self.exchange.wire);
            self.target = Target::Discard;
        }
    }

    /// Ends this end's direction of all streams, in front of the Close frame or the GOAWAY. After a
    /// failure of the service, they are reset.
    pub(crate) fn end_streams(&mut self, failed: bool) {
        self.exchange.end_streams(failed);
    }
}
