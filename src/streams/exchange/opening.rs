//! New streams, and halves of pairs.
//!
//! A new stream whose answer would wait in the client is postponed as a whole, while the queue holds
//! the frames of a stream that is open. The client takes the end of an open stream however late it
//! comes. But data behind a late answer blocks the client, so an answer that waited would have to be
//! taken back, together with the channel, the deadlines and the call of the service behind it.

use std::mem;

use tokio::time::Instant;

use super::{Exchange, Roles};
use crate::{
    spdy::{self, Event, Fault, Headers, Pair, Request, ResetStatus, StreamKind},
    streams::{
        handoff::{Complete, Verdict},
        roles::Role,
        streams::LATE,
    },
};

/// The number of new streams that wait until an answer to them reaches the client.
const MAX_POSTPONED: usize = 64;

/// A new stream for which the client has no place at the moment.
#[derive(Debug)]
pub(super) struct Postponed {
    stream: u32,
    fin: bool,
    unidirectional: bool,
    /// Its headers, unpacked.
    headers: Vec<u8>,
    since: Instant,
}

impl Exchange {
    /// Handles a SYN_STREAM.
    pub(super) fn open(
        &mut self,
        stream: u32,
        fin: bool,
        unidirectional: bool,
        block: &[u8],
    ) -> Result<(), Fault> {
        let refused = self.refusal(unidirectional);
        let now = self.now();
        // Also for a stream that is refused: the next block depends on this one.
        let unpacked = self.inflater.block(block)?;
        let headers = Headers::read(unpacked)?;
        self.ids.open(stream)?;
        // Nothing is opened later once the session ends.
        if self.accepts && self.wire.outbound.stands_still(stream) {
            // An answer could reach the client when it has given the stream up, and then everything
            // behind it in the client's queue would wait for ever.
            if self.postponed.len() < MAX_POSTPONED {
                self.postponed.push(Postponed {
                    stream,
                    fin,
                    unidirectional,
                    headers: unpacked.to_vec(),
                    since: now,
                });
            }
            return self.count_idle_frame();
        }
        let opened = match refused {
            Some(status) => Opened::Refused(status),
            None => Opened::new(&mut self.roles, stream, &headers),
        };
        let is_refused = opened.is_refused();
        self.open_as(stream, fin, opened);
        match is_refused {
            true => self.count_idle_frame(),
            false => Ok(()),
        }
    }

    /// Opens the streams that were postponed, as far as the client gets the answers. Forgets those
    /// that the client gives up about now: it does so by itself.
    pub(super) fn open_postponed(&mut self) {
        if self.postponed.is_empty() {
            return;
        }
        let now = self.now();
        for postponed in mem::take(&mut self.postponed) {
            if now.saturating_duration_since(postponed.since) >= LATE {
                continue;
            }
            let stream = postponed.stream;
            if self.wire.outbound.stands_still(stream) {
                self.postponed.push(postponed);
                continue;
            }
            let opened = match self.refusal(postponed.unidirectional) {
                Some(status) => Opened::Refused(status),
                // They were read before.
                None => match Headers::read(&postponed.headers) {
                    Ok(headers) => Opened::new(&mut self.roles, stream, &headers),
                    Err(_) => Opened::Refused(ResetStatus::ProtocolError),
                },
            };
            // Its deadlines count from its arrival.
            self.now = Some(postponed.since);
            self.open_as(stream, postponed.fin, opened);
            self.now = Some(now);
        }
    }

    /// Forgets a stream that was not opened yet. Returns whether there was one.
    pub(super) fn forget_postponed(&mut self, stream: u32) -> bool {
        let before = self.postponed.len();
        self.postponed
            .retain(|postponed| postponed.stream != stream);
        self.postponed.len() < before
    }

    /// Refuses a stream that was not opened yet, and for which data or its end has come. Neither is
    /// kept until the stream is opened.
    pub(super) fn refuse_postponed(&mut self, stream: u32) {
        if self.forget_postponed(stream) && self.has_room_for_answer() {
            spdy::rst_stream(&mut self.answers, stream, ResetStatus::RefusedStream);
        }
    }

    /// Returns why a new stream cannot be opened, whatever it is for.
    fn refusal(&self, unidirectional: bool) -> Option<ResetStatus> {
        if unidirectional {
            // Not even a reply could be sent on it.
            return Some(ResetStatus::ProtocolError);
        }
        let refused = !self.accepts || self.streams.are_full();
        refused.then_some(ResetStatus::RefusedStream)
    }

    fn open_as(&mut self, stream: u32, fin: bool, opened: Opened) {
        match opened {
            Opened::Refused(status) => {
                if self.has_room_for_answer() {
                    spdy::rst_stream(&mut self.answers, stream, status);
                }
                return;
            }
            Opened::Role(role) => self.open_role(stream, fin, role),
            Opened::Pair(verdict) => self.open_half(stream, fin, verdict),
        }
        if self.ids.are_used_up() {
            // The session ends once the last connections do.
            self.accept_no_more();
        }
    }

    /// Opens a stream of a command.
    fn open_role(&mut self, stream: u32, fin: bool, role: Role) {
        let slot = match role {
            Role::Channel(slot) => Some(slot),
            Role::Ignored => None,
            Role::Duplicate => {
                spdy::rst_stream(&mut self.answers, stream, ResetStatus::Cancel);
                return;
            }
        };
        let now = self.now();
        self.streams.open(stream, fin, slot, now);
        if let Some(slot) = slot {
            self.wire.outbound.open(slot, stream);
        }
        self.on(stream, Event::Reply);
        if fin {
            self.end_input(slot);
        }
        if self.is_complete() {
            self.missing = None;
        }
    }

    /// Opens a stream of a connection.
    fn open_half(&mut self, stream: u32, fin: bool, verdict: spdy::Matched) {
        match verdict {
            spdy::Matched::Half(kind) => {
                let (inbound, outbound) = (&self.wire.inbound, &self.wire.outbound);
                let pair = self.streams.free_pair(|data| {
                    inbound.is_free(data) && outbound.is_free(data) && outbound.is_free(data + 1)
                });
                let Some(data) = pair else {
                    self.forget_half(stream);
                    spdy::rst_stream(&mut self.answers, stream, ResetStatus::RefusedStream);
                    return;
                };
                self.open_connection(stream, fin, kind, data);
                self.on(stream, Event::Reply);
                // Not from the arrival of one that was postponed, which has been answered only now.
                self.streams.wait_for_half(stream, Instant::now());
            }
            spdy::Matched::Complete { pair, request } => {
                self.open_whole(stream, fin, pair, request);
            }
            spdy::Matched::Refuse(status) => {
                spdy::rst_stream(&mut self.answers, stream, status);
            }
            spdy::Matched::Duplicate { first, kind } => {
                self.refuse_half(first, |request| {
                    let kind = match kind {
                        StreamKind::Error => "error",
                        StreamKind::Data => "data",
                    };
                    format!(
                        "error processing stream for request {request}: {kind} stream already assigned"
                    )
                });
                spdy::rst_stream(&mut self.answers, stream, ResetStatus::Cancel);
            }
        }
    }

    /// Opens the stream that completes a pair, and passes the pair to the service.
    fn open_whole(&mut self, stream: u32, fin: bool, pair: Pair, request: Request) {
        let (kind, first) = match stream == pair.data {
            true => (StreamKind::Data, pair.error),
            false => (StreamKind::Error, pair.data),
        };
        // A half that was closed has been forgotten.
        let Some(slot) = self.streams.get(first).and_then(|first| first.slot) else {
            spdy::rst_stream(&mut self.answers, stream, ResetStatus::RefusedStream);
            return;
        };
        let now = self.now();
        let data = slot & !1;
        self.streams.wait_no_longer(first);
        self.open_connection(stream, fin, kind, data);
        let late = match kind {
            StreamKind::Data => Some(self.streams.wait_for_answer(stream, now)),
            StreamKind::Error => {
                self.on(stream, Event::Reply);
                None
            }
        };
        let Roles::Ports { handoff, .. } = &self.roles else {
            return;
        };
        let complete = Complete {
            pair,
            slot: data,
            late,
            request_id: request.into_given(),
        };
        if !handoff.push(complete) {
            self.decide(pair, Verdict::Refuse);
            self.abandon(data);
            self.abandon(data + 1);
        }
    }

    /// Lets a stream stand for its channel of the pair that begins with `data`.
    fn open_connection(&mut self, stream: u32, fin: bool, kind: StreamKind, data: u8) {
        let slot = match kind {
            StreamKind::Data => data,
            StreamKind::Error => data + 1,
        };
        let now = self.now();
        self.streams.open(stream, fin, Some(slot), now);
        self.wire.inbound.open(slot);
        // A deadline of the connection that the channel stood for before is not one of this.
        self.stalls.retain(|&(stalled, _)| stalled != slot);
        self.wire.outbound.open_new(slot, stream);
        if fin {
            self.end_input(Some(slot));
        }
    }

    /// Forgets a half of a pair, whose other half has not come.
    pub(super) fn forget_half(&mut self, stream: u32) -> Option<Request> {
        match &mut self.roles {
            Roles::Ports { pairs, .. } => pairs.forget(stream),
            Roles::Command(_) => None,
        }
    }

    /// Ends a half of a pair that the client has opened twice, with a text if it is an error stream.
    fn refuse_half(&mut self, stream: u32, text: impl FnOnce(&Request) -> String) {
        let Some((request, slot)) = self.take_half(stream) else {
            return;
        };
        if slot.is_multiple_of(2) {
            self.on(stream, Event::OurReset(ResetStatus::Cancel));
        } else {
            self.flush();
            // Fails if the session is over, and then there is no reader.
            let _ = self.wire.outbound.send(slot, text(&request).into());
            self.on(stream, Event::OurFin);
        }
        self.abandon(slot);
    }

    /// Ends a half of a pair whose other half did not come.
    ///
    /// Go's server sends a text. But kubectl may come late, because another connection holds up the
    /// reply, and after a text it would end all of its connections.
    pub(super) fn give_up_half(&mut self, stream: u32) {
        if let Some((_, slot)) = self.take_half(stream) {
            self.on(stream, Event::OurReset(ResetStatus::Cancel));
            self.abandon(slot);
        }
    }

    /// Forgets a half of a pair, and returns its request and its channel.
    fn take_half(&mut self, stream: u32) -> Option<(Request, u8)> {
        let slot = self.streams.get(stream)?.slot?;
        let request = self.forget_half(stream)?;
        self.streams.wait_no_longer(stream);
        Some((request, slot))
    }

    /// Takes a connection back whose data stream has been reset before the service took it. The
    /// service would dial its target in vain.
    pub(super) fn withdraw(&mut self, data: u32) {
        let Roles::Ports { handoff, .. } = &self.roles else {
            return;
        };
        let Some(Complete { pair, slot, .. }) = handoff.withdraw(data) else {
            return;
        };
        self.streams.wait_no_longer(pair.error);
        self.on(pair.error, Event::OurFin);
        self.abandon(slot);
        self.abandon(slot + 1);
    }

    /// Makes a channel free that has never had handles.
    pub(super) fn abandon(&self, slot: u8) {
        self.wire.inbound.discard(slot);
        self.wire.outbound.drop_writer(slot);
    }
}

/// The purpose of a new stream.
enum Opened {
    Refused(ResetStatus),
    Role(Role),
    Pair(spdy::Matched),
}

impl Opened {
    /// Returns whether nothing is opened.
    fn is_refused(&self) -> bool {
        matches!(
            self,
            Self::Refused(_)
                | Self::Role(Role::Duplicate)
                | Self::Pair(spdy::Matched::Refuse(_) | spdy::Matched::Duplicate { .. })
        )
    }

    fn new(roles: &mut Roles, stream: u32, headers: &Headers<'_>) -> Self {
        match roles {
            Roles::Command(command) => Self::Role(command.open(headers)),
            Roles::Ports { pairs, .. } => Self::Pair(pairs.open(stream, headers)),
        }
    }
}
