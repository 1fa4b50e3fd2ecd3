//! Random connections, whose bytes go both ways through a session without a driver.
//!
//! The client, the service, the session's task and the transport take turns in a random order. Each part
//! of this end runs only when it was woken, as a task does. So a wake-up that is lost shows as a
//! connection that stands still. The model is the list of bytes that each side has sent.

mod client;
mod service;

use std::{collections::VecDeque, sync::Arc};

use proptest::{collection::vec, prelude::*};
use tokio::time::{Instant, advance};

use self::{
    client::Client,
    service::{End, Service},
};
use super::{Roles, StreamMux, handoff};
use crate::{
    protocol::Format,
    wire::{
        StallReserve, TotalReserve, Transport, Turn, Wire, WireConfig,
        fixture::{Flag, SharedLine, run_paused},
    },
};

/// The receive window: four chunks at most.
const WINDOW: usize = 64 * 1024;

/// More steps than any case takes. Beyond them, something is woken again and again for nothing.
const STEPS: usize = 100_000;

/// The client's end of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientEnd {
    Fin,
    /// It ends its upload once the service has ended its direction.
    FinBehindOurs,
    Reset,
}

/// The plan of the service for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Serves {
    /// Reads and writes to both ends.
    All,
    /// Writes to the end, and drops its reader after this many bytes.
    Some(usize),
    /// Fails once it has written everything.
    Fails,
    /// Fails in place of an answer.
    Refuses,
}

/// A connection, from both sides.
#[derive(Clone, Debug)]
struct Plan {
    up: usize,
    /// The size of the client's DATA frames.
    up_piece: usize,
    client_end: ClientEnd,
    down: usize,
    /// The size of the service's writes, and of the buffer that it reads into.
    down_piece: usize,
    read_piece: usize,
    serves: Serves,
}

/// A step of one of the parts. Numbers of connections are below that of all plans.
#[derive(Clone, Copy, Debug)]
enum Step {
    Client(u8),
    /// The client ends a stream whose upload is complete.
    ClientEnd(u8),
    /// This many bytes of the client arrive.
    Arrive(usize),
    /// The client answers the PINGs that it has read.
    Answer,
    Service(u8),
    Task,
    Room(usize),
    /// In a pause, the driver takes some of the reserve.
    Extend,
}

#[derive(Clone, Debug)]
struct Case {
    window: usize,
    budget: usize,
    high_water: usize,
    reserve: usize,
    plans: Vec<Plan>,
    steps: Vec<Step>,
    /// The room that the transport has each time, and the number of bytes that arrive at once, after
    /// the steps.
    pace: usize,
}

fn plan() -> impl Strategy<Value = Plan> {
    let len = || prop_oneof![1 => Just(0), 3 => 1..3000_usize, 2 => 1..200_000_usize];
    let piece = || prop_oneof![1..100_usize, 1..20_000_usize, Just(40_000)];
    let client_end = prop_oneof![
        3 => Just(ClientEnd::Fin),
        2 => Just(ClientEnd::FinBehindOurs),
        1 => Just(ClientEnd::Reset),
    ];
    let serves = prop_oneof![
        6 => Just(Serves::All),
        1 => (0..5000_usize).prop_map(Serves::Some),
        1 => Just(Serves::Fails),
        1 => Just(Serves::Refuses),
    ];
    let pieces = (piece(), piece(), piece());
    (len(), len(), pieces, client_end, serves).prop_map(
        |(up, down, (up_piece, down_piece, read_piece), client_end, serves)| Plan {
            up,
            // So that no plan takes thousands of steps.
            up_piece: up_piece.max(up / 100),
            client_end,
            down,
            down_piece: down_piece.max(down / 100),
            read_piece: read_piece.max(up / 100),
            serves,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let amount = || prop_oneof![1..20_usize, 1..5000_usize, 1..100_000_usize];
    prop_oneof![
        6 => any::<u8>().prop_map(Step::Client),
        1 => any::<u8>().prop_map(Step::ClientEnd),
        5 => amount().prop_map(Step::Arrive),
        2 => Just(Step::Answer),
        6 => any::<u8>().prop_map(Step::Service),
        6 => Just(Step::Task),
        4 => amount().prop_map(Step::Room),
        1 => Just(Step::Extend),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let limit = || prop_oneof![Just(1), 1..300_usize, Just(1 << 16), Just(1 << 18)];
    let window = prop_oneof![Just(1), 1..=WINDOW];
    let reserve = prop_oneof![Just(0), Just(1 << 16), Just(1 << 20)];
    let pace = prop_oneof![100..3000_usize, Just(1 << 20)];
    let sizes = (window, limit(), limit(), reserve, pace);
    (sizes, vec(plan(), 1..5), vec(step(), 0..200)).prop_map(
        |((window, budget, high_water, reserve, pace), plans, steps)| Case {
            window,
            budget,
            high_water,
            reserve,
            plans,
            steps,
            pace,
        },
    )
}

/// Returns a byte of what one side of a connection sends.
fn byte(connection: usize, is_up: bool, at: usize) -> u8 {
    (at % 251) as u8 ^ (connection as u8) << 5 ^ u8::from(is_up) << 4
}

/// Checks that these are the bytes of a connection from a place on.
fn check(bytes: &[u8], connection: usize, is_up: bool, from: usize) {
    let mut right = (from..).map(|at| byte(connection, is_up, at));
    let is_right = bytes.iter().all(|byte| right.next() == Some(*byte));
    assert!(
        is_right,
        "connection {connection}: other bytes behind {from}"
    );
}

struct World {
    wire: Arc<Wire>,
    mux: StreamMux,
    line: SharedLine,
    task: Arc<Flag>,
    client: Client,
    service: Service,
    /// The bytes of the client that this end has not decoded. Those behind `arrived` are on their way.
    incoming: VecDeque<u8>,
    arrived: usize,
    /// Reading is paused, so that bytes that arrive wake nothing.
    paused: bool,
}

impl World {
    fn new(case: &Case) -> Self {
        let config = WireConfig {
            format: Format::Spdy,
            channels: 0,
            receive_window: case.window,
            send_budget: case.budget,
            high_water: case.high_water,
            stamps: false,
        };
        let total = TotalReserve::new(16 * case.reserve);
        let reserve = StallReserve::new(case.reserve, &total);
        let wire = Wire::new(Turn::new(), &config, reserve, |_| false, |_| false);
        let (handoff, pairs) = handoff(&wire);
        let mux = StreamMux::new(Arc::clone(&wire), Roles::ports(handoff));
        let line = SharedLine::default();
        wire.outbound.install(Transport::whole(line.clone()).write);
        Self {
            wire,
            mux,
            line,
            task: Flag::raised(),
            client: Client::new(&case.plans),
            service: Service::new(&case.plans, pairs),
            incoming: VecDeque::new(),
            arrived: 0,
            paused: false,
        }
    }

    /// Lets bytes of the client arrive. Returns whether there were any.
    fn arrive(&mut self, n: usize) -> bool {
        let n = n.min(self.incoming.len() - self.arrived);
        self.arrived += n;
        if n > 0 && !self.paused {
            self.wire.turn.wake_driver();
        }
        n > 0
    }

    /// Reads as much as there is room for; see `Driver::read`.
    fn read(&mut self) {
        while self.arrived > 0 {
            let bytes = self.incoming.make_contiguous();
            let fed = self.mux.decode(&bytes[..self.arrived]);
            let fed = fed.expect("the client keeps the rules");
            self.incoming.drain(..fed);
            self.arrived -= fed;
            if self.arrived > 0 && self.mux.poll_room().is_pending() {
                self.set_paused(true);
                return;
            }
        }
        self.set_paused(false);
    }

    fn set_paused(&mut self, paused: bool) {
        if self.paused != paused {
            self.wire.outbound.pause_pacing(paused);
        }
        self.paused = paused;
    }

    /// Polls the session's task, if it was woken. Returns whether it was. See `Task::poll`.
    fn poll_task(&mut self) -> bool {
        if !self.task.take() {
            return false;
        }
        let waker = self.task.waker();
        self.wire.turn.register(&waker);
        for _ in 0..2 {
            let due = self.wire.turn.begin();
            self.wire.outbound.begin_turn(due);
            if due {
                self.read();
            }
            self.wire.turn.take_service();
            self.mux.end_round();
            self.wire.outbound.end_turn(&mut Vec::new());
            if self.mux.waits_for_output() && self.mux.poll_room().is_ready() {
                self.wire.turn.wake_driver();
            }
            if self.wire.turn.end() {
                return true;
            }
        }
        self.wire.turn.pass();
        waker.wake();
        true
    }

    /// Lets the client read what has left.
    fn deliver(&mut self) -> bool {
        let out = self.line.with(|line| std::mem::take(&mut line.out));
        self.client.read(&out);
        !out.is_empty()
    }

    fn step(&mut self, step: Step) {
        let connection = |choice: u8| usize::from(choice) % self.client.connections.len();
        match step {
            Step::Client(choice) => {
                let connection = connection(choice);
                self.client.step(connection, &mut self.incoming);
            }
            Step::ClientEnd(choice) => {
                let connection = connection(choice);
                self.client.end(connection, &mut self.incoming);
            }
            Step::Arrive(n) => drop(self.arrive(n)),
            Step::Answer => drop(self.client.answer(&mut self.incoming)),
            Step::Service(choice) => {
                let connection = connection(choice);
                self.service.step(connection);
            }
            Step::Task => drop(self.poll_task()),
            Step::Room(n) => self.line.wake(|line| line.room += n),
            Step::Extend => {
                if self.paused && self.mux.extend() {
                    self.wire.turn.wake_driver();
                }
            }
        }
        self.deliver();
    }

    /// Runs everything that is woken until nothing is. The client ends its streams if `ends` is set.
    fn settle(&mut self, pace: usize, ends: bool) {
        for _ in 0..STEPS {
            let mut moved = self.poll_task();
            for connection in 0..self.client.connections.len() {
                moved |= self.service.step(connection);
                moved |= self.client.step(connection, &mut self.incoming);
                moved |= ends && self.client.end(connection, &mut self.incoming);
            }
            moved |= self.client.answer(&mut self.incoming);
            moved |= self.arrive(pace);
            moved |= self.line.relieve(pace);
            moved |= self.deliver();
            if !moved {
                return;
            }
        }
        panic!("something is woken again and again");
    }

    /// Checks that everything that was sent has arrived, apart from the ends of streams.
    fn check_flow(&self, plans: &[Plan]) {
        for (number, plan) in plans.iter().enumerate() {
            let what = format!("connection {number} {plan:?}");
            let sent = &self.client.connections[number];
            let served = &self.service.connections[number];
            assert!(served.taken, "{what}: not handed to the service");
            match plan.serves {
                _ if sent.has_reset => {}
                Serves::All => {
                    assert_eq!(sent.sent, plan.up, "{what}: not all was sent");
                    assert_eq!(served.read, plan.up, "{what}: not all was read");
                    assert_eq!(served.accepted, plan.down, "{what}: a write waits");
                    assert_eq!(sent.got, plan.down, "{what}: not all has left");
                }
                Serves::Some(_) => {
                    assert_eq!(sent.sent, plan.up, "{what}: not all was sent");
                    assert_eq!(sent.got, plan.down, "{what}: not all has left");
                }
                Serves::Fails => assert_eq!(sent.got, plan.down, "{what}: not all has left"),
                Serves::Refuses => assert!(sent.was_reset, "{what}: not refused"),
            }
        }
    }

    /// Checks how each connection has ended.
    fn check_ends(&self, plans: &[Plan]) {
        for (number, plan) in plans.iter().enumerate() {
            let what = format!("connection {number} {plan:?}");
            let sent = &self.client.connections[number];
            let served = &self.service.connections[number];
            assert!(served.is_done(), "{what}: the service has not ended");
            let has_all = served.read == sent.sent && sent.has_ended && !sent.has_reset;
            match served.end {
                Some(End::Eof) => assert!(has_all, "{what}: an EOF without an end"),
                Some(End::Error) => assert!(sent.has_reset, "{what}: an error"),
                None => assert_ne!(plan.serves, Serves::All, "{what}: no end"),
            }
            if plan.serves == Serves::All && plan.client_end != ClientEnd::Reset {
                assert_eq!(served.end, Some(End::Eof), "{what}");
            }
            match plan.serves {
                _ if sent.has_reset => {}
                Serves::All | Serves::Some(_) => {
                    assert!(sent.has_fin && !sent.was_reset, "{what}: no FIN");
                }
                Serves::Fails | Serves::Refuses => {
                    assert!(sent.was_reset && !sent.has_fin, "{what}: no reset");
                }
            }
        }
    }
}

async fn play(case: Case) {
    let mut world = World::new(&case);
    for step in case.steps {
        world.step(step);
    }
    // No time passes, so that no timer makes up for a wake-up that is lost.
    world.settle(case.pace, false);
    assert!(!world.paused, "paused, although all was read");
    world.check_flow(&case.plans);
    world.settle(case.pace, true);
    while let Some(at) = world.mux.next_due() {
        advance(at.saturating_duration_since(Instant::now())).await;
        assert!(world.mux.expire(Instant::now()).is_none());
        world.wire.turn.wake_driver();
        world.settle(case.pace, true);
    }
    world.check_ends(&case.plans);
}

proptest! {
    #[test]
    fn each_connection_gets_its_bytes_and_its_end(case in case()) {
        run_paused(play(case));
    }
}
