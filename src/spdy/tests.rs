//! All parts together, on the recorded session and on random bytes.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::{
    Act, Control, Decoder, Event, Fault, Frame, Headers, Ids, Inflater, Matched, Pairs, State,
    Want,
    fixture::{bytes, up},
    headers,
};

/// A server that answers every stream, ends its direction when the peer does, and returns all data.
struct Server {
    inflater: Inflater,
    ids: Ids,
    pairs: Pairs,
    streams: Vec<(u32, State)>,
    replied: bool,
    /// The ports of the pairs that were complete.
    ports: Vec<u16>,
    over: bool,
    out: Vec<u8>,
}

impl Server {
    fn new() -> Self {
        Self {
            inflater: Inflater::default(),
            ids: Ids::default(),
            pairs: Pairs::new(8),
            streams: Vec::new(),
            replied: false,
            ports: Vec::new(),
            over: false,
            out: Vec::new(),
        }
    }

    fn on(&mut self, stream: u32, event: Event) {
        let Some((_, state)) = self.streams.iter_mut().find(|(id, _)| *id == stream) else {
            return;
        };
        let (next, act) = state.on(event);
        *state = next;
        match act {
            Act::SendReply => self.reply(stream),
            Act::SendFin { reply } => {
                if reply {
                    self.reply(stream);
                }
                super::fin(&mut self.out, stream);
            }
            Act::SendReset(status) => super::rst_stream(&mut self.out, stream, status),
            Act::EndInput => self.on(stream, Event::OurFin),
            Act::Nothing | Act::Deliver | Act::Discard | Act::Fail => {}
        }
    }

    fn reply(&mut self, stream: u32) {
        let first = !std::mem::replace(&mut self.replied, true);
        super::syn_reply(&mut self.out, stream, first);
    }

    fn control(&mut self, control: Control<'_>) -> Result<(), Fault> {
        match control {
            Control::SynStream {
                stream, fin, block, ..
            } => {
                let unpacked = self.inflater.block(block)?;
                let headers = Headers::read(unpacked)?;
                self.ids.open(stream)?;
                let verdict = self.pairs.open(stream, &headers);
                self.streams.push((stream, State::opened(fin)));
                let event = match verdict {
                    Matched::Half(_) => Event::Reply,
                    Matched::Complete { pair, .. } => {
                        self.ports.push(pair.port);
                        Event::Reply
                    }
                    Matched::Refuse(status) => Event::OurReset(status),
                    Matched::Duplicate { first, .. } => {
                        self.on(first, Event::OurFin);
                        Event::OurFin
                    }
                };
                self.on(stream, event);
            }
            Control::Block { block } => {
                self.inflater.block(block)?;
            }
            Control::RstStream { stream } => {
                self.pairs.forget(stream);
                self.on(stream, Event::TheirReset);
            }
            Control::Ping { id } => super::ping(&mut self.out, id),
            Control::GoAway => self.over = true,
        }
        Ok(())
    }

    /// Handles bytes, of which no more than `cut` are taken at a time.
    fn feed(&mut self, decoder: &mut Decoder, mut bytes: &[u8], cut: usize) -> Result<(), Fault> {
        while !bytes.is_empty() && !self.over {
            let most = cut.min(bytes.len());
            let (n, frame) = match decoder.want() {
                Want::Bytes(wanted) => {
                    let n = wanted.min(most);
                    (n, decoder.feed(&bytes[..n])?)
                }
                Want::Data { stream, left } => {
                    let n = left.min(most);
                    self.on(stream, Event::Data);
                    (n, decoder.took(n))
                }
                Want::Skip { left } => {
                    let n = left.min(most);
                    (n, decoder.took(n))
                }
            };
            match frame {
                None => {}
                Some(Frame::Control(control)) => self.control(control)?,
                Some(Frame::Data { stream, fin: true }) => self.on(stream, Event::TheirFin),
                Some(Frame::Data { fin: false, .. }) => {}
            }
            bytes = &bytes[n..];
        }
        Ok(())
    }
}

#[test]
fn the_recorded_session_is_answered_byte_for_byte() {
    let expected = bytes(
        "8003000200000014000000017801000400fbff00000000000000ffff\
         0000000101000000\
         800300020000001200000003000400fbff00000000000000ffff\
         0000000301000000\
         800300020000001200000005000400fbff00000000000000ffff\
         0000000501000000\
         800300020000001200000007000400fbff00000000000000ffff\
         0000000701000000\
         800300060000000400000001",
    );
    for cut in [1, 3, 4, 8, 64, usize::MAX] {
        let (mut server, mut decoder) = (Server::new(), Decoder::new());
        server.feed(&mut decoder, &up(), cut).unwrap();
        assert!(server.over && decoder.is_between_frames());
        assert_eq!(server.out, expected, "{cut}");
        assert_eq!(server.ports, [9000, 9000]);
        assert_eq!(server.ids.last(), 7);
        assert_eq!(server.pairs.waiting(), 0);
        assert!(server.streams.iter().all(|(_, state)| state.is_closed()));
    }
}

/// Returns a header block in one stored block.
fn packed(fields: &[(&str, &str)], first: bool) -> Vec<u8> {
    let block = headers::write(fields);
    let length = block.len() as u16;
    let mut out = if first { vec![0x78, 0x01] } else { Vec::new() };
    out.push(0);
    out.extend(length.to_le_bytes());
    out.extend((!length).to_le_bytes());
    out.extend(block);
    out.extend([0, 0, 0, 0xff, 0xff]);
    out
}

/// Returns a frame of a client, most of which are valid.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let control = |kind: u16, flags: u8, body: Vec<u8>| {
        let mut out = vec![0x80, 3];
        out.extend(kind.to_be_bytes());
        out.extend((u32::from(flags) << 24 | body.len() as u32).to_be_bytes());
        out.extend(body);
        out
    };
    let number = prop_oneof![8 => 0..30_u32, 1 => any::<u32>()];
    let kind = prop_oneof![Just("data"), Just("error"), Just("resize")];
    let request = prop_oneof![Just("0"), Just("1"), Just("")];
    let port = prop_oneof![8 => Just("80"), 1 => Just("0")];
    prop_oneof![
        4 => (number.clone(), any::<(u8, bool)>(), kind, port, request).prop_map(
            move |(stream, (flags, first), kind, port, request)| {
                let mut body = stream.to_be_bytes().to_vec();
                body.extend([0; 6]);
                let fields = [("streamtype", kind), ("port", port), ("requestid", request)];
                body.extend(packed(&fields, first));
                control(1, flags, body)
            }
        ),
        4 => (number.clone(), any::<bool>(), vec(any::<u8>(), 0..40)).prop_map(
            |(stream, fin, data)| {
                let mut out = Vec::new();
                super::data_head(&mut out, stream, fin, data.len());
                out.extend(data);
                out
            }
        ),
        2 => (2..12_u16, number, vec(any::<u8>(), 0..12)).prop_map(
            move |(kind, number, more)| {
                let mut body = number.to_be_bytes().to_vec();
                body.extend(more);
                control(kind, 0, body)
            }
        ),
    ]
}

proptest! {
    /// Nothing panics, no bound is passed, and the cuts between reads change nothing.
    #[test]
    fn any_bytes_are_answered(
        frames in vec(frame(), 0..20),
        broken in proptest::option::of(any::<(Index, u8)>()),
        cut in 1..200_usize,
    ) {
        let mut stream = frames.concat();
        if let Some((at, byte)) = broken && !stream.is_empty() {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        let (mut whole, mut pieces) = (Server::new(), Server::new());
        let one = whole.feed(&mut Decoder::new(), &stream, usize::MAX);
        let other = pieces.feed(&mut Decoder::new(), &stream, cut);
        prop_assert_eq!(one, other);
        prop_assert_eq!(whole.out, pieces.out);
        prop_assert_eq!(whole.ports, pieces.ports);
        prop_assert_eq!(whole.streams.len(), pieces.streams.len());
        prop_assert!(whole.pairs.waiting() <= 32);
    }
}
