//! The client's whole SPDY: what kubectl sends for each connection, and a reader of heads.

use flate2::{Compress, Compression, FlushCompress};

use crate::wire::ws_frame;

#[path = "../../../../src/spdy/dictionary.rs"]
mod dictionary;

/// What the server sent, apart from data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Reply(u32),
    Fin(u32),
    Reset(u32),
    Ping(u32),
    /// GOAWAY, or a Close frame.
    Over,
}

/// Makes frames. Through the tunnel, each field of a frame is a message of its own, because
/// that is how kubectl writes them.
pub struct Writer {
    tunnel: bool,
    headers: Compress,
}

impl Writer {
    pub fn new(tunnel: bool) -> Self {
        let mut headers = Compress::new(Compression::best(), true);
        let sum = headers
            .set_dictionary(&dictionary::DICTIONARY)
            .expect("a dictionary");
        assert_eq!(sum.to_be_bytes(), dictionary::ID);
        Self { tunnel, headers }
    }

    fn fields(&self, out: &mut Vec<u8>, fields: &[&[u8]]) {
        for field in fields {
            match self.tunnel {
                true => ws_frame(out, 2, field),
                false => out.extend_from_slice(field),
            }
        }
    }

    /// A SYN_STREAM of port-forward. Its headers have the size of kubectl's.
    pub fn open(&mut self, out: &mut Vec<u8>, stream: u32, kind: &str, request: u32) {
        let request = request.to_string();
        let headers = [
            ("streamtype", kind),
            ("port", "9000"),
            ("requestid", &request),
        ];
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [*name, *value]) {
            plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
            plain.extend_from_slice(text.as_bytes());
        }
        let mut block = Vec::with_capacity(256);
        self.headers
            .compress_vec(&plain, &mut block, FlushCompress::Sync)
            .expect("it packs");
        let length = (block.len() as u32 + 10).to_be_bytes();
        let stream = stream.to_be_bytes();
        self.fields(
            out,
            &[
                &[0x80, 3],
                &[0, 1],
                &length,
                &stream,
                &[0; 4],
                &[0],
                &[0],
                &block,
            ],
        );
    }

    pub fn data(&self, out: &mut Vec<u8>, stream: u32, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        self.fields(out, &[&stream.to_be_bytes(), &length, payload]);
    }

    /// Empty data that ends a direction, whose payload is an empty message.
    pub fn fin(&self, out: &mut Vec<u8>, stream: u32) {
        self.fields(out, &[&stream.to_be_bytes(), &[1, 0, 0, 0], &[]]);
    }

    pub fn ping(&self, out: &mut Vec<u8>, id: u32) {
        self.fields(
            out,
            &[&[0x80, 3], &[0, 6], &[0, 0, 0, 4], &id.to_be_bytes()],
        );
    }
}

/// Walks over the server's frames without copying, and counts them.
#[derive(Default)]
pub struct Reader {
    tunnel: bool,
    /// The rest of a message.
    message: u64,
    /// The head of a message that is not complete.
    message_head: Gathered,
    /// The rest of the payload of a DATA frame.
    payload: usize,
    /// The stream whose payload ends it.
    ending: Option<u32>,
    /// A head, or a control frame, that is not complete.
    frame: Gathered,
    /// Bytes of payload.
    pub bytes: u64,
    /// Frames of data with a payload.
    pub frames: u64,
    /// Messages that carry them.
    pub messages: u64,
    pub events: Vec<Event>,
    /// The last bytes of payload, for a sink's answer.
    pub last: Vec<u8>,
    pub keep_last: bool,
    pub bad: u64,
}

/// The first bytes of something that arrives in parts.
#[derive(Default)]
struct Gathered(Vec<u8>);

impl Gathered {
    /// Returns the first `len` bytes once they are there, and takes what is missing.
    fn up_to(&mut self, len: usize, bytes: &mut &[u8]) -> bool {
        let n = len.saturating_sub(self.0.len()).min(bytes.len());
        self.0.extend_from_slice(&bytes[..n]);
        *bytes = &bytes[n..];
        self.0.len() >= len
    }
}

impl Reader {
    pub fn new(tunnel: bool) -> Self {
        Self {
            tunnel,
            ..Self::default()
        }
    }

    pub fn feed(&mut self, mut bytes: &[u8]) {
        if !self.tunnel {
            return self.frames(bytes);
        }
        while !bytes.is_empty() {
            if self.message == 0 {
                match self.message_head(&mut bytes) {
                    Some(length) => self.message = length,
                    None => return,
                }
            }
            let n = self.message.min(bytes.len() as u64) as usize;
            self.frames(&bytes[..n]);
            self.message -= n as u64;
            bytes = &bytes[n..];
        }
    }

    /// Takes the head of a message, and returns the length of the payload.
    fn message_head(&mut self, bytes: &mut &[u8]) -> Option<u64> {
        let head = &mut self.message_head;
        if !head.up_to(2, bytes) {
            return None;
        }
        let more = match head.0[1] {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if !head.up_to(2 + more, bytes) {
            return None;
        }
        let long = head.0[2..]
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let length = if more > 0 { long } else { u64::from(head.0[1]) };
        let first = head.0[0];
        head.0.clear();
        match first & 15 {
            0 | 2 => {
                self.messages += u64::from(first >> 7);
                Some(length)
            }
            8 => {
                self.events.push(Event::Over);
                None
            }
            // No run is long enough for a Ping.
            _ => {
                self.bad += 1;
                None
            }
        }
    }

    fn frames(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let n = self.payload.min(bytes.len());
                if self.keep_last {
                    self.last.extend_from_slice(&bytes[..n]);
                }
                self.bytes += n as u64;
                self.payload -= n;
                bytes = &bytes[n..];
                if self.payload == 0 {
                    self.events.extend(self.ending.take().map(Event::Fin));
                }
            } else if self.frame.0.is_empty() && bytes.len() >= 8 && bytes[0] & 0x80 == 0 {
                // The short way.
                let (head, rest) = bytes.split_at(8);
                self.data(head.try_into().unwrap());
                bytes = rest;
            } else if self.frame.up_to(8, &mut bytes) {
                let head: [u8; 8] = self.frame.0[..8].try_into().unwrap();
                if head[0] & 0x80 == 0 {
                    self.frame.0.clear();
                    self.data(head);
                    continue;
                }
                let length = u32::from_be_bytes(head[4..].try_into().unwrap()) & 0xff_ffff;
                if self.frame.up_to(8 + length as usize, &mut bytes) {
                    self.control();
                    self.frame.0.clear();
                }
            }
        }
    }

    fn data(&mut self, head: [u8; 8]) {
        let [a, b, c, d, flags, length @ ..] = head;
        let stream = u32::from_be_bytes([a, b, c, d]);
        self.payload = length
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        self.ending = (flags & 1 != 0).then_some(stream);
        match self.payload {
            0 => self.events.extend(self.ending.take().map(Event::Fin)),
            _ => self.frames += 1,
        }
    }

    fn control(&mut self) {
        let [0x80, 3, 0, kind, _, _, _, _, a, b, c, d, ..] = self.frame.0[..] else {
            self.bad += 1;
            return;
        };
        let id = u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff;
        match kind {
            2 => self.events.push(Event::Reply(id)),
            3 => self.events.push(Event::Reset(id)),
            6 => self.events.push(Event::Ping(id)),
            7 => self.events.push(Event::Over),
            _ => self.bad += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of Go's server, as SPDY.md has recorded them.
    const RECORDED: &[u8] = b"\x80\x03\x00\x02\x00\x00\x00\x0c\x00\x00\x00\x03\x02a\x00\x00\x00\x00\xff\xff\
        \x00\x00\x00\x03\x00\x00\x00\x02hi\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00\x00\x03\x01\x00\x00\x01!\
        \x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x02";

    fn expected(reader: &Reader) {
        use Event::{Fin, Ping, Reply};
        assert_eq!(reader.events, [Reply(3), Fin(1), Fin(3), Ping(2)]);
        assert_eq!((reader.bytes, reader.frames, reader.bad), (3, 2, 0));
    }

    #[test]
    fn frames_cut_anywhere() {
        for piece in 1..=RECORDED.len() {
            let mut reader = Reader::new(false);
            RECORDED.chunks(piece).for_each(|bytes| reader.feed(bytes));
            expected(&reader);
        }
    }

    #[test]
    fn messages_cut_anywhere() {
        let mut messages = vec![];
        for bytes in RECORDED.chunks(7) {
            messages.extend([0x82, bytes.len() as u8]);
            messages.extend(bytes);
        }
        for piece in 1..=messages.len() {
            let mut reader = Reader::new(true);
            messages.chunks(piece).for_each(|bytes| reader.feed(bytes));
            expected(&reader);
        }
    }

    #[test]
    fn the_first_headers_are_as_long_as_those_of_kubectl() {
        let mut writer = Writer::new(false);
        let mut out = vec![];
        writer.open(&mut out, 1, "error", 0);
        // 70 in the recording, where the headers have another order.
        assert!((66..76).contains(&out.len()), "{}", out.len());
        out.clear();
        writer.open(&mut out, 3, "data", 0);
        assert!(out.len() < 40, "{}", out.len());
    }
}
