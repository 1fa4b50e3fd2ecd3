//! Random writers, a random transport and a session's task, against a plain list of what was accepted.
//!
//! Each part runs only when it was woken, as a task does. So a wake-up that is lost shows as a write
//! that never ends, or as data that never leaves.

use std::{collections::VecDeque, time::Duration};

use proptest::{collection::vec, option, prelude::*};
use tokio::time::advance;

use super::*;
use crate::{
    policy::ByteRate,
    wire::fixture::{Flag, SharedLine, run_paused},
};

const CHANNELS: usize = 3;

/// The channel whose writer is polled by the session's task itself. The others have tasks of their own.
const IN_SERVICE: usize = 0;

/// More steps than any case takes. Beyond them, something is woken again and again for nothing.
const STEPS: usize = 20_000;

/// An act of a writer.
#[derive(Clone, Copy, Debug)]
enum Op {
    Write(usize),
    Send(usize),
    Flush,
    Shutdown,
}

/// An event of the scheduler, the transport or the driver.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Polls a writer, if it has something to do.
    Poll(usize),
    /// Polls a writer with another waker, as a task that a writer was moved to.
    Move(usize),
    /// Polls the session's task, if it was woken.
    Task,
    /// The transport can take this many bytes more.
    Room(usize),
    /// The transport cannot flush what it has taken, or can.
    Stuck(bool),
    /// Time passes, up to the timer of the rate.
    Timer,
    Driver(Command),
}

/// An act of the driver, which the session's task carries out.
#[derive(Clone, Copy, Debug)]
enum Command {
    Install,
    Hold(bool),
    Pong(usize),
    Ping,
}

/// The end of a case.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// All writers get to the end of what they do. Then the session closes.
    Finish,
    /// Writes are refused. What was accepted leaves in front of the Close.
    Refuse,
    /// A Close replaces the queue.
    Discard,
    /// The transport fails.
    Break,
    /// The transport is taken away.
    Take,
}

fn op() -> impl Strategy<Value = Op> {
    let len = || prop_oneof![4 => 1..200_usize, 2 => 1..40_000_usize, 1 => 60_000..100_000_usize];
    prop_oneof![
        4 => len().prop_map(Op::Write),
        2 => len().prop_map(Op::Send),
        1 => Just(Op::Flush),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let room = prop_oneof![3 => 1..4_usize, 2 => 1..500_usize, 2 => 1..100_000_usize];
    let command = prop_oneof![
        2 => Just(Command::Install),
        1 => any::<bool>().prop_map(Command::Hold),
        1 => (0..=125_usize).prop_map(Command::Pong),
        1 => Just(Command::Ping),
    ];
    prop_oneof![
        6 => (0..CHANNELS).prop_map(Act::Poll),
        1 => (0..CHANNELS).prop_map(Act::Move),
        5 => Just(Act::Task),
        4 => room.prop_map(Act::Room),
        1 => any::<bool>().prop_map(Act::Stuck),
        1 => Just(Act::Timer),
        2 => command.prop_map(Act::Driver),
    ]
}

#[derive(Clone, Debug)]
struct Case {
    budget: usize,
    high_water: usize,
    rate: Option<u64>,
    undecided: bool,
    vectored: bool,
    programs: [Vec<Op>; CHANNELS],
    acts: Vec<Act>,
    ending: Ending,
    /// The room that the transport has each time, once the acts are over.
    pace: usize,
}

fn case() -> impl Strategy<Value = Case> {
    let limit = || prop_oneof![Just(1), 1..300_usize, Just(1 << 16), Just(1 << 18)];
    let program = || {
        (vec(op(), 0..6), any::<bool>()).prop_map(|(mut ops, shut)| {
            ops.extend(shut.then_some(Op::Shutdown));
            ops
        })
    };
    let ending = prop_oneof![
        4 => Just(Ending::Finish),
        1 => Just(Ending::Refuse),
        1 => Just(Ending::Discard),
        1 => Just(Ending::Break),
        1 => Just(Ending::Take),
    ];
    let limits = (limit(), limit(), option::weighted(0.2, 20_000..200_000_u64));
    let programs = [program(), program(), program()];
    let pace = prop_oneof![100..3000_usize, Just(1 << 20)];
    let flags = (any::<bool>(), any::<bool>());
    (limits, flags, programs, vec(act(), 0..120), ending, pace).prop_map(
        |((budget, high_water, rate), (undecided, vectored), programs, acts, ending, pace)| Case {
            budget,
            high_water,
            rate,
            undecided,
            vectored,
            programs,
            acts,
            ending,
            pace,
        },
    )
}

/// A writer, and the task that it runs in.
struct Writer {
    program: VecDeque<Op>,
    flag: Arc<Flag>,
    /// The last poll was pending, so that only a wake-up makes the next one.
    waits: bool,
    /// The number of bytes that were accepted.
    accepted: usize,
    failed: bool,
}

/// Returns this many bytes of a channel from a place on.
fn bytes(channel: usize, from: usize, len: usize) -> Vec<u8> {
    let byte = |at| (at % 251) as u8 ^ (channel as u8) << 6;
    (from..from + len).map(byte).collect()
}

struct World {
    wire: Arc<Wire>,
    line: SharedLine,
    writers: Vec<Writer>,
    /// Everything that was accepted, in order.
    accepted: Vec<(u8, Vec<u8>)>,
    task: Arc<Flag>,
    commands: VecDeque<Command>,
    installed: bool,
    taken: bool,
    timer: Option<Instant>,
    steps: usize,
}

impl World {
    fn new(case: &Case) -> Self {
        let config = WireConfig {
            format: Format::Binary,
            channels: CHANNELS,
            receive_window: 1,
            send_budget: case.budget,
            high_water: case.high_water,
            stamps: false,
        };
        let reserve = StallReserve::new(0, &TotalReserve::new(0));
        let wire = Wire::new(Turn::new(), &config, reserve, |_| false, |_| true);
        if case.undecided {
            wire.outbound.wait_for(Condition::Upgrade);
        }
        if let Some(rate) = case.rate {
            let rate = ByteRate::default().outbound(rate);
            wire.outbound
                .limit_rate(rate.outbound_bucket(Instant::now()));
        }
        let line = SharedLine::default();
        line.with(|line| line.is_vectored = case.vectored);
        let writer = |program: &Vec<Op>| Writer {
            program: program.iter().copied().collect(),
            flag: Arc::default(),
            waits: false,
            accepted: 0,
            failed: false,
        };
        let task = Flag::raised();
        Self {
            wire,
            line,
            writers: case.programs.iter().map(writer).collect(),
            accepted: Vec::new(),
            task,
            commands: VecDeque::new(),
            installed: false,
            taken: false,
            timer: None,
            steps: 0,
        }
    }

    /// Polls a writer until it waits or is done. Returns whether it did anything.
    fn poll(&mut self, channel: usize, waker: &Waker) -> bool {
        let Self {
            wire,
            writers,
            accepted,
            ..
        } = self;
        let writer = &mut writers[channel];
        let (outbound, id) = (&wire.outbound, channel as u8);
        let cx = &mut Context::from_waker(waker);
        let mut moved = false;
        while let Some(&op) = writer.program.front() {
            let result = match op {
                Op::Write(len) => {
                    let payload = bytes(channel, writer.accepted, len);
                    outbound
                        .poll_write(cx, id, &payload)
                        .map_ok(|n| payload[..n].to_vec())
                }
                Op::Send(len) => outbound.poll_ready(cx, id).map(|ready| {
                    let payload = bytes(channel, writer.accepted, len);
                    ready?;
                    outbound.send(id, payload.clone().into())?;
                    Ok(payload)
                }),
                Op::Flush => outbound.poll_flush(cx, id).map_ok(|()| Vec::new()),
                Op::Shutdown => {
                    outbound.close_writer(id);
                    outbound.poll_flush(cx, id).map_ok(|()| Vec::new())
                }
            };
            writer.waits = result.is_pending();
            match result {
                Poll::Pending => return moved,
                Poll::Ready(Ok(payload)) => {
                    let n = payload.len();
                    writer.accepted += n;
                    match writer.program.front_mut() {
                        Some(Op::Write(len)) if *len > n => *len -= n,
                        _ => drop(writer.program.pop_front()),
                    }
                    if n > 0 {
                        accepted.push((id, payload));
                    }
                }
                Poll::Ready(Err(_)) => {
                    writer.failed = true;
                    writer.program.clear();
                }
            }
            moved = true;
            // Others may run in between.
            if channel != IN_SERVICE {
                break;
            }
        }
        moved
    }

    /// Polls a writer that is not in the service, if it can be expected to do something.
    fn poll_if_woken(&mut self, channel: usize) -> bool {
        let writer = &self.writers[channel];
        let runs = writer.flag.take() || !writer.waits;
        if channel == IN_SERVICE || !runs || writer.program.is_empty() {
            return false;
        }
        let waker = writer.flag.waker();
        self.poll(channel, &waker);
        true
    }

    /// Polls the session's task, if it was woken. See `Task::poll`.
    fn poll_task(&mut self) -> bool {
        if self.taken || !self.task.take() {
            return false;
        }
        let wire = Arc::clone(&self.wire);
        let waker = self.task.waker();
        wire.turn.register(&waker);
        for _ in 0..2 {
            let due = wire.turn.begin();
            wire.outbound.begin_turn(due);
            if due {
                while let Some(command) = self.commands.pop_front() {
                    self.obey(command);
                }
            }
            if wire.turn.take_service() {
                self.poll(IN_SERVICE, &wire.turn.service_waker());
            }
            self.timer = wire.outbound.end_turn(&mut Vec::new()).throttled;
            if wire.turn.end() {
                return true;
            }
        }
        wire.turn.pass();
        waker.wake();
        true
    }

    fn obey(&mut self, command: Command) {
        let outbound = &self.wire.outbound;
        match command {
            Command::Install if self.installed => {}
            Command::Install => {
                self.installed = true;
                outbound.install(WriteHalf::Whole(Box::pin(self.line.clone())));
            }
            Command::Hold(held) => outbound.set_held(held),
            Command::Pong(len) => outbound.pong(&vec![7; len]),
            Command::Ping => {
                let _ = outbound.ping();
            }
        }
    }

    /// Gives the driver something to do.
    fn command(&mut self, command: Command) {
        self.commands.push_back(command);
        self.wire.turn.wake_driver();
    }

    async fn fire_timer(&mut self) -> bool {
        let Some(at) = self.timer.take() else {
            return false;
        };
        advance(at.saturating_duration_since(Instant::now()) + Duration::from_millis(1)).await;
        self.wire.turn.wake_driver();
        true
    }

    async fn act(&mut self, act: Act) {
        match act {
            Act::Poll(channel) => drop(self.poll_if_woken(channel)),
            Act::Move(channel) if channel == IN_SERVICE => {}
            Act::Move(channel) => {
                self.writers[channel].flag = Arc::default();
                let waker = self.writers[channel].flag.waker();
                self.poll(channel, &waker);
            }
            Act::Task => drop(self.poll_task()),
            Act::Room(n) => self.line.wake(|line| line.room += n),
            Act::Stuck(stuck) => self.line.wake(|line| line.is_stuck = stuck),
            Act::Timer => drop(self.fire_timer().await),
            Act::Driver(command) => self.command(command),
        }
    }

    /// Runs everything that is woken, until nothing is.
    async fn settle(&mut self, pace: usize) {
        loop {
            let mut moved = self.poll_task();
            for channel in 0..CHANNELS {
                moved |= self.poll_if_woken(channel);
            }
            // The peer reads, and so the transport has room.
            let full = self.line.relieve(pace);
            if !moved && !full && !self.fire_timer().await {
                return;
            }
            self.steps += 1;
            assert!(self.steps < STEPS, "something is woken again and again");
        }
    }

    /// Returns what the peer has got: the messages, and the code of the Close. The last message may
    /// have no end if a Close has replaced it.
    fn got(&self, is_cut: bool) -> (Vec<(u8, Vec<u8>)>, Option<u16>) {
        let out = self.line.with(|line| line.out.clone());
        let (mut messages, mut close) = (Vec::new(), None);
        let mut open: Option<(u8, Vec<u8>)> = None;
        let mut rest = &out[..];
        while !rest.is_empty() {
            assert_eq!(close, None, "bytes behind the Close");
            let (head, len) = crate::frame::read_frame_len(rest);
            let payload = &rest[head..head + len as usize];
            match (rest[0] & 0x0f, &mut open) {
                (2, None) => open = Some((payload[0], payload[1..].to_vec())),
                (0, Some((_, message))) => message.extend_from_slice(payload),
                (8, _) => close = Some(u16::from_be_bytes([payload[0], payload[1]])),
                (9 | 10, _) => {}
                other => panic!("a frame out of place: {other:?}"),
            }
            if rest[0] & 0x80 != 0 && rest[0] & 0x08 == 0 {
                messages.extend(open.take());
            }
            rest = &rest[head + len as usize..];
        }
        let cut = open.as_ref().map(|(channel, bytes)| (*channel, &bytes[..]));
        if let Some((channel, bytes)) = cut {
            assert!(is_cut, "a message without an end");
            let whole = self.accepted.get(messages.len());
            let is_prefix =
                |(id, whole): &(u8, Vec<u8>)| *id == channel && whole.starts_with(bytes);
            assert!(whole.is_some_and(is_prefix), "not what was accepted");
        }
        (messages, close)
    }
}

async fn play(case: Case) {
    let mut world = World::new(&case);
    for act in case.acts {
        world.act(act).await;
    }
    // From here on nothing holds the session up. `accept` is called by the task of the request.
    world.line.wake(|line| line.is_stuck = false);
    world.command(Command::Install);
    world.command(Command::Hold(false));
    world.wire.outbound.accept(Condition::Upgrade);
    let outbound = &Arc::clone(&world.wire).outbound;
    let cause = EndCause::Drained;
    let frame = crate::frame::close_payload(Some(1001), "");
    match case.ending {
        Ending::Finish => {}
        Ending::Refuse => {
            outbound.refuse_writers(&cause);
            world.settle(case.pace).await;
        }
        Ending::Discard => {
            outbound.refuse_writers(&cause);
            outbound.close(&frame, true);
            world.wire.turn.wake_driver();
        }
        Ending::Break => world.line.wake(|line| line.is_broken = true),
        Ending::Take => {
            world.taken = true;
            outbound.refuse_writers(&cause);
            // A flush waits on behind the refusal.
            for channel in 0..CHANNELS {
                while world.poll_if_woken(channel) {}
            }
            drop(outbound.take_transport());
            // The last round of the task polls the service, if that was woken.
            if world.wire.turn.take_service() {
                let waker = world.wire.turn.service_waker();
                world.poll(IN_SERVICE, &waker);
            }
        }
    }
    world.settle(case.pace).await;
    for (channel, writer) in world.writers.iter().enumerate() {
        let state = (writer.waits, &writer.program);
        assert!(
            writer.program.is_empty(),
            "channel {channel} waits for ever: {state:?}"
        );
    }
    if let Ending::Finish | Ending::Refuse = case.ending {
        outbound.close(&frame, false);
        world.wire.turn.wake_driver();
        world.settle(case.pace).await;
    }
    // The last frame may have left in part, so the frames are not looked at.
    if let Ending::Break | Ending::Take = case.ending {
        return;
    }
    let is_cut = matches!(case.ending, Ending::Discard);
    let (messages, close) = world.got(is_cut);
    assert_eq!(close, Some(1001));
    if is_cut {
        assert!(
            world.accepted.starts_with(&messages),
            "not what was accepted"
        );
        return;
    }
    assert!(messages == world.accepted, "not what was accepted");
    let failed = world.writers.iter().any(|writer| writer.failed);
    assert!(
        !failed || matches!(case.ending, Ending::Refuse),
        "a write failed"
    );
}

proptest! {
    #[test]
    fn whatever_was_accepted_leaves_and_no_writer_waits_for_ever(case in case()) {
        run_paused(play(case));
    }
}
