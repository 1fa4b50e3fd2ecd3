//! The plan of a seed.

mod connections;

use std::io::ErrorKind;

use tower_wsstream::subprotocols::{BASE64_CHANNEL, CHANNEL, V2, V3, V4, V4_BASE64, V5};

pub(crate) use self::connections::{port_subprotocol, ports};
use crate::{
    plan::{
        Act, CHANNELS, End, Farewell, Fault, Kind, Millis, Plan, READABLE, Setup, Step, Transport,
        Violation, WRITABLE, Words,
    },
    random::Random,
};

/// Returns the plan of a seed, for a service that gets the channels.
pub(crate) fn plan(seed: u64) -> Plan {
    Draw(Random::of_seed(seed)).plan()
}

/// Returns the plan of a seed, for a command.
pub(crate) fn command(seed: u64) -> Plan {
    let mut random = Draw(Random::of_seed(seed).split());
    let mut plan = random.plan();
    plan.setup.kind = Kind::Command;
    if plan.end == End::Ok && random.one_in(2) {
        plan.end = End::Exit(17);
    }
    for act in &mut plan.client {
        // There is no other input.
        if let Act::Send { channel, .. }
        | Act::Begin { channel, .. }
        | Act::Tear { channel, .. }
        | Act::CloseChannel(channel) = act
        {
            *channel = 0;
        }
    }
    for step in plan.tasks.iter_mut().flatten() {
        // The layer has words of its own.
        if let Step::SayLast(_) = step {
            *step = Step::Yield;
        }
    }
    plan
}

/// Returns a plan without steps, with the settings that change the least.
pub(crate) fn calm() -> Plan {
    let mut plan = plan(0);
    plan.setup = Setup::calm();
    plan.end = End::Ok;
    plan
}

struct Draw(Random);

impl Draw {
    fn below(&mut self, below: usize) -> usize {
        self.0.next(below as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn rarely<T>(&mut self, n: usize, draw: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.one_in(n).then(|| draw(self))
    }

    fn many<T>(&mut self, most: usize, mut draw: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let n = self.below(most + 1);
        (0..n).map(|_| draw(self)).collect()
    }

    /// Returns the length of a message: mostly a short one.
    fn len(&mut self) -> usize {
        match self.below(24) {
            0 => 0,
            1..16 => 1 + self.below(300),
            16..21 => 1 + self.below(5_000),
            21..23 => 1 + self.below(20_000),
            _ => 1 + self.below(80_000),
        }
    }

    /// Returns a limit, which is often as low as possible.
    fn limit(&mut self, default: usize) -> usize {
        match self.below(6) {
            0 => 1,
            1 => 1 + self.below(100),
            2 => 1 + self.below(40_000),
            _ => default,
        }
    }

    fn pause(&mut self) -> Millis {
        match self.below(8) {
            0 => 1000 + self.0.next(40_000),
            1 | 2 => self.0.next(2000),
            _ => self.0.next(30),
        }
    }

    fn pause_or_none(&mut self) -> Millis {
        if self.one_in(2) { self.pause() } else { 0 }
    }

    fn plan(&mut self) -> Plan {
        let lanes = 1 + self.below(3).saturating_sub(1);
        let setup = self.setup(lanes);
        let client = self.client();
        let reads = self.reads();
        let tasks = (0..lanes).map(|lane| self.task(&setup, lane)).collect();
        let end = match self.below(20) {
            0..12 => End::Ok,
            12..15 => End::Fail,
            15..17 => End::Panic,
            _ => End::Never,
        };
        Plan {
            setup,
            client,
            reads,
            tasks,
            end,
        }
    }

    fn reads(&mut self) -> Vec<(usize, Millis)> {
        match self.one_in(3) {
            true => self.many(8, |random| (random.len(), random.pause_or_none())),
            false => Vec::new(),
        }
    }

    fn setup(&mut self, lanes: usize) -> Setup {
        let mut owners = [0; CHANNELS];
        owners.fill_with(|| self.below(lanes + self.0.clone().next(8) as usize / 7));
        let calm = self.one_in(4);
        let ping = self.rarely(3, |random| 500 + random.pause());
        let transport = match self.below(10) {
            0 | 1 => Transport::Http2,
            2..5 => Transport::Post,
            _ => Transport::Http1,
        };
        let mut setup = Setup {
            transport,
            subprotocol: match transport {
                Transport::Post => self.of(&[V4, V3, V2, CHANNEL]),
                _ => self.of(&["", CHANNEL, BASE64_CHANNEL, V4, V4, V4_BASE64, V5, V5]),
            },
            owners,
            explicit: self.one_in(6),
            ping,
            ping_timeout: ping.and_then(|_| self.rarely(2, |random| 1 + random.pause())),
            drain: self.of(&[0, 1000, 100_000, 10_000_000]),
            answers_pings: !self.one_in(4),
            ..Setup::calm()
        };
        if calm {
            return setup;
        }
        setup.capacity = match self.below(4) {
            0 => 1 + self.below(100),
            1 => 100 + self.below(5000),
            _ => setup.capacity,
        };
        // hyper's client of HTTP/2 needs room for its preface.
        if transport == Transport::Http2 {
            setup.capacity = setup.capacity.max(1024);
        }
        // One byte at a time is slow where there are many.
        setup.chop = match self.below(6) {
            0 => 1 + self.below(9),
            1 => 1 + self.below(2000),
            _ => setup.chop,
        };
        setup.fault = self.rarely(12, |random| Fault {
            reading: random.one_in(2),
            after: random.below(1 << (1 + random.0.clone().next(16))),
            kind: random.of(&[
                ErrorKind::ConnectionReset,
                ErrorKind::BrokenPipe,
                ErrorKind::TimedOut,
            ]),
        });
        setup.window = self.limit(setup.window);
        setup.budget = self.limit(setup.budget);
        setup.high_water = self.limit(setup.high_water);
        setup.reserve = match self.one_in(2) {
            true => 0,
            false => self.limit(setup.reserve),
        };
        if transport != Transport::Post {
            setup.max_frame = self.rarely(8, |random| 1 + random.len() as u64);
            setup.max_message = self.rarely(8, |random| 1 + random.len() as u64);
        }
        setup.rate = self.rarely(10, |random| {
            let mut rate = || 200 + (random.0.about() << 4);
            (rate(), rate())
        });
        setup.idle = self.rarely(6, |random| 1 + random.pause());
        setup.time_limit = self.rarely(8, |random| 1 + random.pause());
        setup.grace = self.of(&[0, 1, 1000, 5000]);
        setup.closed_grace = self.of(&[0, 1000, 30_000]);
        setup.close_timeout = self.of(&[0, 1, 1000, 30_000]);
        setup.early_drain = self.rarely(8, |random| random.pause_or_none());
        setup.farewell = match self.below(8) {
            0 => Farewell::Silence(self.pause() * 4),
            1 => Farewell::Fin,
            2 => Farewell::Cut,
            _ => Farewell::Answer,
        };
        setup
    }

    fn client(&mut self) -> Vec<Act> {
        let mut acts = self.many(12, Self::act);
        acts.extend(self.farewell());
        acts
    }

    /// Draws the end of a client.
    fn farewell(&mut self) -> Vec<Act> {
        let mut acts = Vec::new();
        match self.below(20) {
            0..7 => {
                let code = self.of(&[Some(1000), Some(1000), None, Some(1001), Some(4000)]);
                if self.one_in(8) {
                    acts.push(self.unfinished());
                }
                acts.push(Act::Close(code));
            }
            7..10 => {
                if self.one_in(3) {
                    acts.push(self.unfinished());
                }
                acts.push(self.of(&[Act::Fin, Act::Cut, Act::Cut]));
            }
            10..12 => acts.push(Act::Violate(self.violation())),
            12 => acts.push(self.unfinished()),
            _ => {}
        }
        if self.one_in(6) {
            acts.extend(self.many(3, |random| {
                let pause = Act::Sleep(random.pause());
                random.of(&[pause, Act::Cut, Act::Fin, Act::Close(None), Act::Ping(3)])
            }));
        }
        acts
    }

    fn unfinished(&mut self) -> Act {
        let (channel, len) = (self.of(&READABLE), self.len());
        match self.one_in(2) {
            true => Act::Begin { channel, len },
            false => Act::Tear {
                channel,
                len,
                of: 1 + self.len(),
            },
        }
    }

    fn violation(&mut self) -> Violation {
        self.of(&[
            Violation::Reserved,
            Violation::Opcode,
            Violation::Unmasked,
            Violation::Continuation,
            Violation::LongPing,
            Violation::BadCloseCode,
            Violation::ShortClose,
            Violation::Text,
            Violation::CloseOfNothing,
        ])
    }

    fn act(&mut self) -> Act {
        match self.below(20) {
            0..12 => {
                let len = self.len();
                Act::Send {
                    channel: self.of(&[0, 0, 3, 4]),
                    len,
                    frames: if self.one_in(4) { 1 + self.below(6) } else { 1 },
                    pings: self.one_in(3),
                    piece: match self.below(5) {
                        // Not so small that there are very many of them.
                        0 => 1 + len / 40 + self.below(20),
                        _ => usize::MAX,
                    },
                }
            }
            12 => Act::Stray {
                first: self.of(&[None, Some(1), Some(2), Some(77)]),
            },
            13 => Act::Ping(1 + self.below(125)),
            14 => Act::Pong(self.below(126)),
            15 | 16 => Act::CloseChannel(self.of(&READABLE)),
            _ => Act::Sleep(self.pause()),
        }
    }

    /// Draws the steps of a task, most of them on channels that it has.
    fn task(&mut self, setup: &Setup, lane: usize) -> Vec<Step> {
        let owned = |channels: &[u8]| -> Vec<u8> {
            let owns = |channel: &u8| setup.owners[usize::from(*channel)] == lane;
            channels.iter().copied().filter(owns).collect()
        };
        let (reads, writes) = (owned(&READABLE), owned(&WRITABLE));
        let mut steps = self.many(12, |random| random.step(&reads, &writes));
        if setup.explicit && lane == 0 && !self.one_in(8) {
            let at = self.below(steps.len() + 1).min(self.below(4));
            steps.insert(at, Step::Accept);
        }
        if let Some(&channel) = reads.first()
            && self.one_in(2)
        {
            steps.push(Step::ReadToEnd(channel));
        }
        steps
    }

    fn step(&mut self, reads: &[u8], writes: &[u8]) -> Step {
        let read = (!reads.is_empty()).then(|| self.of(reads));
        let write = (!writes.is_empty()).then(|| self.of(writes));
        match (self.below(40), read, write) {
            (0..6, Some(channel), _) => Step::Read {
                channel,
                most: self.len(),
            },
            (6..8, Some(channel), _) => Step::Peek {
                channel,
                most: self.len(),
            },
            (8, Some(channel), _) => Step::ReadToEnd(channel),
            (9, Some(channel), _) => Step::Stream(channel),
            (10, Some(channel), _) => Step::TryRead {
                channel,
                within: self.pause(),
            },
            (11, Some(channel), _) => Step::DropReader(channel),
            (12, Some(from), Some(to)) => Step::Echo(from, to),
            (13..17, _, Some(channel)) => Step::Write {
                channel,
                len: self.len(),
            },
            (17..21, _, Some(channel)) => Step::WriteAll {
                channel,
                len: self.len(),
            },
            (21..24, _, Some(channel)) => Step::Send {
                channel,
                len: self.len(),
            },
            (24, _, Some(channel)) => Step::TryWrite {
                channel,
                len: self.len(),
                within: self.pause(),
            },
            (25, _, Some(channel)) => Step::Flush(channel),
            (26, _, Some(channel)) => Step::Shutdown(channel),
            (27, _, Some(channel)) => Step::DropWriter(channel),
            (28, ..) => Step::GiveAway(self.pause()),
            (29, ..) if self.one_in(2) => Step::Close(self.of(&[1001, 1011, 4001])),
            (30, ..) => Step::SayLast(self.of(&[
                Words::Message(3),
                Words::Message(3),
                Words::Silence,
                Words::Nothing,
                Words::Panic,
            ])),
            (31, ..) if self.one_in(2) => Step::Hold {
                settle: self.pause(),
                most: self.pause(),
            },
            (32, ..) if self.one_in(3) => Step::IgnoreReceives,
            (33, ..) if self.one_in(2) => Step::Ended,
            (34, ..) if self.one_in(2) => Step::Accept,
            (35..38, ..) => Step::Sleep(self.pause()),
            _ => Step::Yield,
        }
    }
}
