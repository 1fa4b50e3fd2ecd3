//! The writing half of a client.

use tokio::{io::AsyncWrite, time::Instant};

use crate::{
    facts::{Done, Fault},
    halves::{Cut, Line, Writing},
    pattern::{self, From},
    plan::{Act, Violation},
};

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
pub(crate) const FIN: u8 = 0x80;

/// Returns a masked frame, whose first byte is given.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    announced(first, payload, payload.len())
}

/// Returns the answer to a Ping.
pub(crate) fn pong(payload: &[u8]) -> Vec<u8> {
    frame(FIN | PONG, payload)
}

/// Returns a frame that announces more payload than it has.
fn announced(first: u8, payload: &[u8], len: usize) -> Vec<u8> {
    let mut frame = vec![first];
    match len {
        0..=125 => frame.push(0x80 | len as u8),
        126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    let key = [len as u8, 0x5a, 0xff, payload.len() as u8 ^ 0x80];
    frame.extend(key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k));
    frame
}

pub(super) struct Writer<'a, W> {
    line: Line<'a, W>,
    /// A Close, a breach of the protocol or the start of an endless message was sent: no message may
    /// follow.
    silent: bool,
    base64: bool,
    half_close: bool,
    pings: u8,
}

impl<'a, W: AsyncWrite + Unpin> Writing<'a> for Writer<'a, W> {
    type Io = W;

    fn line(&mut self) -> &mut Line<'a, W> {
        &mut self.line
    }

    async fn answer(&mut self, code: Option<u16>) {
        self.close(code).await;
    }

    async fn act(&mut self, act: Act) -> Result<(), Cut> {
        self.grant().await?;
        match act {
            Act::Sleep(time) => self.wait(time).await?,
            Act::Cut => return Err(Cut),
            Act::Fin => self.line.fin().await,
            Act::Close(code) => self.close(code).await,
            Act::Ping(len) => self.ping(len).await,
            Act::Pong(len) => {
                self.line
                    .put(&frame(FIN | PONG, &vec![b'o'; len]), usize::MAX)
                    .await
            }
            Act::Open { .. } | Act::Reset(_) => {}
            _ if self.silent => {}
            Act::Send {
                channel,
                len,
                frames,
                pings,
                piece,
            } => self.send(channel, len, frames, pings, piece).await?,
            Act::Begin { channel, len } => {
                let message = self.message(channel, len);
                if self.is_too_large(message.len(), message.len()) {
                    self.line.note(Done::Violation(Fault::TooLarge));
                }
                self.begin(channel, len);
                self.silent = true;
                self.line
                    .put(&frame(self.opcode(), &message), usize::MAX)
                    .await;
            }
            Act::Tear { channel, len, of } => {
                let message = self.message(channel, len);
                let announces = message.len() + of;
                if self.is_too_large(announces, announces) {
                    self.line.note(Done::Violation(Fault::TooLarge));
                }
                self.begin(channel, len);
                self.silent = true;
                let torn = announced(FIN | self.opcode(), &message, announces);
                self.line.put(&torn, usize::MAX).await;
                self.line.gone = true;
            }
            Act::Stray { first } => {
                let payload = first.map_or_else(Vec::new, |first| vec![first; 9]);
                if self.is_too_large(payload.len(), payload.len()) {
                    self.silent = true;
                    self.line.note(Done::Violation(Fault::TooLarge));
                }
                self.line
                    .put(&frame(FIN | BINARY, &payload), usize::MAX)
                    .await;
            }
            Act::CloseChannel(channel) => {
                if self.half_close {
                    let too_large = self.is_too_large(2, 2);
                    if too_large {
                        self.silent = true;
                        self.line.note(Done::Violation(Fault::TooLarge));
                    }
                    self.line.facts.borrow_mut().sent[usize::from(channel)].closed |= !too_large;
                    let close = frame(FIN | BINARY, &[255, channel]);
                    self.line.put(&close, usize::MAX).await;
                }
            }
            Act::Violate(violation) => self.violate(violation).await,
        }
        Ok(())
    }
}

impl<'a, W: AsyncWrite + Unpin> Writer<'a, W> {
    pub(super) fn new(line: Line<'a, W>) -> Self {
        let name = line.plan.setup.subprotocol;
        Self {
            line,
            silent: false,
            base64: name.contains("base64"),
            half_close: name.starts_with("v5"),
            pings: 0,
        }
    }

    async fn close(&mut self, code: Option<u16>) {
        if self
            .line
            .facts
            .borrow()
            .any(|done| matches!(done, Done::Close(_)))
        {
            return;
        }
        if !self.line.gone {
            self.line.note(Done::Close(code));
        }
        self.silent = true;
        let mut payload = Vec::new();
        if let Some(code) = code {
            payload.extend(code.to_be_bytes());
            payload.extend(b"on purpose");
        }
        self.line
            .put(&frame(FIN | CLOSE, &payload), usize::MAX)
            .await;
    }

    async fn ping(&mut self, len: usize) {
        self.pings += 1;
        let payload = vec![self.pings; len];
        let ping = frame(FIN | PING, &payload);
        let closed = |done: &Done| matches!(done, Done::Close(_));
        if !self.line.gone && !self.line.facts.borrow().any(closed) {
            self.line.facts.borrow_mut().pings.push(payload);
        }
        self.line.put(&ping, usize::MAX).await;
    }

    async fn send(
        &mut self,
        channel: u8,
        len: usize,
        frames: usize,
        pings: bool,
        piece: usize,
    ) -> Result<(), Cut> {
        let message = self.message(channel, len);
        self.begin(channel, len);
        let frames = frames.clamp(1, message.len());
        let mut left = &message[..];
        let mut sent = 0;
        for at in 0..frames {
            let n = match at + 1 == frames {
                true => left.len(),
                // Pieces of different lengths, and empty ones among them.
                false => (left.len() * (at % 3)) / frames,
            };
            let (now, rest) = left.split_at(n);
            left = rest;
            let opcode = if at == 0 { self.opcode() } else { CONTINUATION };
            let fin = if at + 1 == frames { FIN } else { 0 };
            sent += n;
            if self.is_too_large(n, sent) {
                self.silent = true;
                self.line.note(Done::Violation(Fault::TooLarge));
            }
            self.line.put(&frame(fin | opcode, now), piece).await;
            if self.silent {
                return Ok(());
            }
            if pings && fin == 0 {
                self.ping(at + 1).await;
                // Control frames may stand between the frames of a message. A Close may not be
                // followed by the rest.
                self.grant().await?;
                if self.silent {
                    return Ok(());
                }
            }
        }
        let mut facts = self.line.facts.borrow_mut();
        if !self.line.gone {
            facts.sent_at.push(Instant::now());
        }
        let channel = &mut facts.sent[usize::from(channel)];
        channel.open = false;
        if !self.line.gone && !channel.closed {
            channel.whole += len as u64;
        }
        Ok(())
    }

    /// Notes that bytes are about to be sent.
    fn begin(&self, channel: u8, len: usize) {
        let mut facts = self.line.facts.borrow_mut();
        let channel = &mut facts.sent[usize::from(channel)];
        channel.all += len as u64;
        if !channel.closed {
            channel.begun += len as u64;
            channel.open = true;
        }
    }

    /// Returns the payload of a message.
    fn message(&self, channel: u8, len: usize) -> Vec<u8> {
        use base64::Engine;
        let offset = self.line.facts.borrow().sent[usize::from(channel)].begun;
        let bytes = pattern::bytes(From::Client, channel, offset, len);
        match self.base64 {
            true => {
                let mut message = vec![b'0' + channel];
                let text = base64::engine::general_purpose::STANDARD.encode(bytes);
                message.extend(text.as_bytes());
                message
            }
            false => [&[channel], &bytes[..]].concat(),
        }
    }

    fn opcode(&self) -> u8 {
        if self.base64 { TEXT } else { BINARY }
    }

    fn is_too_large(&self, frame: usize, message: usize) -> bool {
        let setup = &self.line.plan.setup;
        setup.max_frame.is_some_and(|most| frame as u64 > most)
            || setup.max_message.is_some_and(|most| message as u64 > most)
    }

    async fn violate(&mut self, violation: Violation) {
        let bytes = match violation {
            Violation::Reserved => frame(FIN | 0x40 | BINARY, b"\0x"),
            Violation::Opcode => frame(FIN | 3, b"\0x"),
            Violation::Unmasked => vec![FIN | BINARY, 2, 0, b'x'],
            Violation::Continuation => frame(FIN | CONTINUATION, b"x"),
            Violation::LongPing => frame(FIN | PING, &[7; 126]),
            Violation::BadCloseCode => frame(FIN | CLOSE, &1005_u16.to_be_bytes()),
            Violation::ShortClose => frame(FIN | CLOSE, b"x"),
            Violation::Text if self.is_too_large(2, 2) => return,
            Violation::Text => frame(FIN | TEXT, b"\xff\xff"),
            Violation::CloseOfNothing if !self.half_close || self.is_too_large(2, 2) => return,
            Violation::CloseOfNothing => frame(FIN | BINARY, &[255, 99]),
        };
        self.line.note(Done::Violation(violation.into()));
        self.silent = true;
        self.line.put(&bytes, usize::MAX).await;
    }
}
