use super::mux::StreamMux;
use crate::{
    error::EndCause,
    frame::{Control, Masked, MessageKind, Sink},
};

/// The messages of a WebSocket as the bytes of SPDY. Their boundaries mean nothing: kubectl sends
/// each field of a frame in a message of its own.
#[derive(Debug)]
pub(crate) struct TunnelSink<'a>(pub(crate) &'a mut StreamMux);

/// Only bytes are a part of SPDY. Go's clients fail on text as well.
fn check(kind: MessageKind) -> Result<(), EndCause> {
    match kind {
        MessageKind::Binary => Ok(()),
        MessageKind::Text => Err(EndCause::ProtocolError {
            rule: "the messages of a tunnel are binary",
        }),
    }
}

impl Sink for TunnelSink<'_> {
    type Error = EndCause;

    fn begin(&mut self, kind: MessageKind) -> Result<(), EndCause> {
        check(kind)
    }

    fn room(&mut self) -> usize {
        self.0.room()
    }

    fn payload(&mut self, piece: Masked<'_>) -> Result<(), EndCause> {
        self.0.push(piece)
    }

    fn end(&mut self) -> Result<(), EndCause> {
        Ok(())
    }

    #[inline]
    fn message(&mut self, kind: MessageKind, piece: Masked<'_>) -> Result<bool, EndCause> {
        check(kind)?;
        self.0.push_whole(piece)
    }

    fn control(&mut self, control: Control<'_>) -> Result<(), EndCause> {
        // A Close takes the place of a GOAWAY in the same read, which has no code.
        self.0.control(control);
        Ok(())
    }
}
