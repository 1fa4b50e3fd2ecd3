//! The client: it opens each connection by two streams, sends on them once they are answered, and
//! checks what it gets.

use std::collections::VecDeque;

use super::{ClientEnd, Plan, byte, check};
use crate::{
    spdy::{self, ResetStatus},
    streams::tests::{control, data_frame, syn},
};

/// The client's side of a connection.
pub(super) struct Sent {
    plan: Plan,
    is_open: bool,
    is_answered: bool,
    /// The number of bytes that were sent.
    pub(super) sent: usize,
    pub(super) has_ended: bool,
    pub(super) has_reset: bool,
    /// The number of bytes that came back.
    pub(super) got: usize,
    pub(super) has_fin: bool,
    pub(super) was_reset: bool,
}

pub(super) struct Client {
    pub(super) connections: Vec<Sent>,
    /// The number of connections that were opened. The streams of the connection that was opened as
    /// the nth have the numbers 4n + 1 and 4n + 3.
    order: Vec<usize>,
    unparsed: Vec<u8>,
    /// The PINGs that were not answered.
    pings: VecDeque<u32>,
    /// The streams of errors that were answered, and that the client ends then, as client-go does.
    errors: VecDeque<u32>,
}

impl Client {
    pub(super) fn new(plans: &[Plan]) -> Self {
        let new = |plan: &Plan| Sent {
            plan: plan.clone(),
            is_open: false,
            is_answered: false,
            sent: 0,
            has_ended: false,
            has_reset: false,
            got: 0,
            has_fin: false,
            was_reset: false,
        };
        Self {
            connections: plans.iter().map(new).collect(),
            order: Vec::new(),
            unparsed: Vec::new(),
            pings: VecDeque::new(),
            errors: VecDeque::new(),
        }
    }

    /// Returns the number of the data stream of a connection that was opened.
    fn data_stream(&self, number: usize) -> u32 {
        let at = self.order.iter().position(|other| *other == number);
        4 * at.expect("it is open") as u32 + 3
    }

    /// Opens a connection, or sends a piece of its upload. Returns whether it has sent anything.
    pub(super) fn step(&mut self, number: usize, out: &mut VecDeque<u8>) -> bool {
        if !self.connections[number].is_open {
            let error = 4 * self.order.len() as u32 + 1;
            self.order.push(number);
            self.connections[number].is_open = true;
            // The port is how the service knows which connection it is.
            let (port, request) = ((number + 1).to_string(), error.to_string());
            for (stream, kind) in [(error, "error"), (error + 2, "data")] {
                let fields = [
                    ("streamtype", kind),
                    ("port", &port),
                    ("requestid", &request),
                ];
                out.extend(syn(stream, &fields, stream == 1));
            }
            return true;
        }
        let stream = self.data_stream(number);
        let sent = &mut self.connections[number];
        let n = sent.plan.up_piece.min(sent.plan.up - sent.sent);
        if n == 0 || !sent.is_answered || sent.has_ended || sent.was_reset {
            return false;
        }
        let piece: Vec<u8> = (sent.sent..sent.sent + n)
            .map(|at| byte(number, true, at))
            .collect();
        out.extend(data_frame(stream, false, &piece));
        sent.sent += n;
        true
    }

    /// Ends an upload that is complete, or was refused. Returns whether it has.
    pub(super) fn end(&mut self, number: usize, out: &mut VecDeque<u8>) -> bool {
        let sent = &self.connections[number];
        let waits = sent.plan.client_end == ClientEnd::FinBehindOurs && !sent.has_fin;
        let may_end = sent.is_answered && sent.sent == sent.plan.up && !waits;
        if !may_end || sent.has_ended || sent.was_reset {
            return false;
        }
        let stream = self.data_stream(number);
        let sent = &mut self.connections[number];
        sent.has_ended = true;
        match sent.plan.client_end {
            ClientEnd::Fin | ClientEnd::FinBehindOurs => out.extend(data_frame(stream, true, b"")),
            ClientEnd::Reset => {
                sent.has_reset = true;
                let mut frame = Vec::new();
                spdy::rst_stream(&mut frame, stream, ResetStatus::Cancel);
                out.extend(frame);
            }
        }
        true
    }

    /// Answers the PINGs, and ends the streams of errors. Returns whether there were any.
    pub(super) fn answer(&mut self, out: &mut VecDeque<u8>) -> bool {
        let any = !self.pings.is_empty() || !self.errors.is_empty();
        for stream in self.errors.drain(..) {
            out.extend(data_frame(stream, true, b""));
        }
        for id in self.pings.drain(..) {
            out.extend(control(6, &id.to_be_bytes()));
        }
        any
    }

    /// Reads what the server has sent.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        self.unparsed.extend_from_slice(bytes);
        let unparsed = std::mem::take(&mut self.unparsed);
        let mut rest = &unparsed[..];
        while let Some((head, behind)) = rest.split_at_checked(8) {
            let number = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
            let (first, length) = (number(head), number(&head[4..]));
            let (flags, length) = (length >> 24, (length & 0xff_ffff) as usize);
            let Some((body, behind)) = behind.split_at_checked(length) else {
                break;
            };
            rest = behind;
            match first {
                0x8003_0002 if number(body) % 4 == 1 => self.errors.push_back(number(body)),
                0x8003_0002 => self.connection(number(body), |sent| sent.is_answered = true),
                0x8003_0003 => self.connection(number(body), |sent| sent.was_reset = true),
                0x8003_0006 => self.pings.push_back(number(body)),
                stream if stream < 1 << 31 => self.data(stream, flags == 1, body),
                other => panic!("an unexpected frame: {other:x}"),
            }
        }
        self.unparsed = rest.to_vec();
    }

    /// Changes the connection of a data stream, which the server has not reset before.
    fn connection(&mut self, stream: u32, change: impl FnOnce(&mut Sent)) {
        let number = self.order[stream as usize / 4];
        let sent = &mut self.connections[number];
        if stream % 4 == 3 {
            assert!(!sent.was_reset, "a frame behind a reset");
            change(sent);
        }
    }

    fn data(&mut self, stream: u32, fin: bool, body: &[u8]) {
        let number = self.order[stream as usize / 4];
        if stream % 4 != 3 {
            assert!(body.is_empty(), "a text on the stream of errors");
            return;
        }
        self.connection(stream, |sent| {
            assert!(sent.is_answered && !sent.has_fin, "a frame out of place");
            check(body, number, false, sent.got);
            sent.got += body.len();
            assert!(sent.got <= sent.plan.down, "more than was written");
            sent.has_fin = fin;
        });
    }
}
