mod facts;

use proptest::{collection::vec, prelude::*};
use tokio::time::Instant;

use self::facts::Facts;
use super::*;
use crate::policy::Deadlines;

fn queued(bytes: u64) -> Due {
    Due {
        queued: bytes,
        ..Due::default()
    }
}

const FIN: io::ErrorKind = io::ErrorKind::UnexpectedEof;
const RESET: io::ErrorKind = io::ErrorKind::ConnectionReset;

const PHASES: [Phase; 7] = [
    Phase::Open,
    Phase::Ending,
    Phase::Flushing,
    Phase::Awaiting,
    Phase::ShuttingDown,
    Phase::Lingering,
    Phase::Closed,
];

const LOST: EndCause = EndCause::ConnectionLost { kind: RESET };

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn peer_closed(code: u16) -> EndCause {
    EndCause::PeerClosed {
        code: Some(code),
        reason: "".into(),
    }
}

fn close_requested() -> Event {
    Event::CloseRequested {
        code: 4001,
        frame: crate::frame::close_payload(Some(4001), "asked for"),
    }
}

fn round(output: Output) -> Event {
    Event::RoundOver {
        service_done: true,
        output,
    }
}

/// A machine with its deadlines, and without a driver.
struct Machine {
    closing: Closing,
    deadlines: Deadlines,
    now: Instant,
}

impl Machine {
    fn new() -> Self {
        let now = Instant::now();
        let mut deadlines = Deadlines::new(now);
        for deadline in [
            Deadline::TimeLimit,
            Deadline::Idle,
            Deadline::Answer,
            Deadline::Ping,
        ] {
            deadlines.set(deadline, now + secs(3600));
        }
        Self {
            closing: Closing::new(Arc::new(SessionConfig::default()), true),
            deadlines,
            now,
        }
    }

    /// Creates a machine, and takes it to a phase by the shortest path.
    fn at(phase: Phase) -> Self {
        let mut machine = Self::new();
        let way = [
            Event::Cause(EndCause::Drained),
            Event::CloseQueued(Due::default()),
            round(Output::Gone),
            Event::Cause(peer_closed(1000)),
            round(Output::Gone),
            Event::ShutDown(Shutdown::Done),
            Event::ReadEnded(FIN),
            round(Output::Gone),
        ];
        for event in way {
            if machine.closing.phase == phase {
                break;
            }
            let _ = machine.on(event);
        }
        assert_eq!(machine.closing.phase, phase);
        machine
    }

    fn on(&mut self, event: Event) -> Step {
        self.closing.on(event, &mut self.deadlines.at(self.now))
    }

    /// Describes the step and the phase that an event leads to, or returns `-` if there is neither.
    fn describe(&mut self, event: Event) -> String {
        let before = self.closing.phase;
        let step = name(&self.on(event));
        let after = self.closing.phase;
        match (step.is_empty(), before == after) {
            (true, true) => "-".into(),
            (false, true) => step,
            (true, false) => format!("> {after:?}"),
            (false, false) => format!("{step} > {after:?}"),
        }
    }
}

/// Returns the name of a step, or nothing for one that does nothing.
fn name(step: &Step) -> String {
    match step {
        Step::Wait => String::new(),
        Step::Tell { .. } => "Tell".into(),
        Step::Close { frame, discard } => {
            let only = if *discard { " only" } else { "" };
            format!("Close {}{only}", frame.code().unwrap_or(0))
        }
        Step::ShutDown => "ShutDown".into(),
        Step::Abandon(_) => "Abandon".into(),
        Step::Release => "Release".into(),
    }
}

#[test]
fn each_event_in_each_phase() {
    type Make = fn() -> Event;
    // Each row has an event, its delay after the phase began, and its effect in each of `PHASES`.
    #[rustfmt::skip]
    let rows: [(&str, u64, Make, [&str; 7]); 25] = [
        ("a cause that waits", 0, || Event::Cause(EndCause::TimeLimit),
            ["Tell > Ending", "-", "-", "-", "-", "-", "-"]),
        ("a Close of the service", 0, close_requested,
            ["Tell > Ending", "-", "-", "-", "-", "-", "-"]),
        ("a Close of the peer", 0, || Event::Cause(peer_closed(1000)),
            ["Tell > Ending", "-", "-", "-", "-", "-", "-"]),
        ("a fault of the peer", 0, || Event::Cause(EndCause::TooLarge),
            ["Tell > Ending", "Close 1009 only", "-", "-", "-", "-", "-"]),
        ("a loss", 0, || Event::Cause(LOST),
            ["Tell > Ending", "Abandon > Closed", "Abandon > Closed", "Abandon > Closed",
             "Abandon > Closed", "Abandon > Closed", "-"]),
        ("told", 0, || Event::Told, ["-", "-", "-", "-", "-", "-", "-"]),
        ("last words", 0, || Event::LastWordsSaid { told: true },
            ["-", "Close 1000", "-", "-", "-", "-", "-"]),
        ("no last words", 0, || Event::LastWordsSaid { told: false },
            ["-", "Close 1001", "-", "-", "-", "-", "-"]),
        ("a queued Close", 0, || Event::CloseQueued(Due::default()),
            ["-", "> Flushing", "-", "-", "-", "-", "-"]),
        ("a round, all gone", 0, || round(Output::Gone),
            ["-", "-", "> Awaiting", "-", "ShutDown", "-", "-"]),
        ("a round, held", 0, || round(Output::Held(Due::default())),
            ["-", "-", "-", "-", "ShutDown", "-", "-"]),
        ("a round, moving", 0, || round(Output::Moving),
            ["-", "-", "-", "-", "ShutDown", "-", "-"]),
        ("a round, waiting", 0, || round(Output::Waiting),
            ["-", "-", "-", "-", "ShutDown", "-", "-"]),
        ("moving after 30 s", 30, || round(Output::Moving),
            ["-", "-", "-", "ShutDown > ShuttingDown", "ShutDown", "Release > Closed", "-"]),
        ("held after an hour", 3600, || round(Output::Held(Due::default())),
            ["-", "-", "-", "ShutDown > ShuttingDown", "ShutDown", "Release > Closed", "-"]),
        ("waiting after 89 s", 89, || round(Output::Waiting),
            ["-", "-", "-", "ShutDown > ShuttingDown", "ShutDown", "Release > Closed", "-"]),
        ("waiting after 90 s", 90, || round(Output::Waiting),
            ["-", "-", "Abandon > Closed", "ShutDown > ShuttingDown", "ShutDown",
             "Release > Closed", "-"]),
        ("moving after 300 s", 300, || round(Output::Moving),
            ["-", "-", "Abandon > Closed", "ShutDown > ShuttingDown", "ShutDown",
             "Release > Closed", "-"]),
        ("shut down", 0, || Event::ShutDown(Shutdown::Done),
            ["-", "-", "-", "-", "> Lingering", "-", "-"]),
        ("shutting down", 0, || Event::ShutDown(Shutdown::Pending),
            ["-", "-", "-", "-", "-", "-", "-"]),
        ("still shutting down after 90 s", 90, || Event::ShutDown(Shutdown::Pending),
            ["-", "-", "-", "-", "Abandon > Closed", "-", "-"]),
        ("not shut down", 0, || Event::ShutDown(Shutdown::Failed),
            ["-", "-", "-", "-", "Release > Closed", "-", "-"]),
        ("a FIN", 0, || Event::ReadEnded(FIN),
            ["Tell > Ending", "Abandon > Closed", "-", "-", "-", "-", "-"]),
        ("a read error", 0, || Event::ReadEnded(RESET),
            ["Tell > Ending", "Abandon > Closed", "Abandon > Closed", "Abandon > Closed",
             "Abandon > Closed", "Abandon > Closed", "-"]),
        ("a dropped task", 0, || Event::TaskDropped,
            ["Abandon > Closed", "Abandon > Closed", "Abandon > Closed", "Abandon > Closed",
             "Abandon > Closed", "Abandon > Closed", "-"]),
    ];
    for (name, after, event, expected) in rows {
        let seen = PHASES.map(|phase| {
            let mut machine = Machine::at(phase);
            machine.now += secs(after);
            machine.describe(event())
        });
        assert_eq!(seen, expected, "{name}");
    }
}

#[test]
fn each_phase_has_its_deadlines() {
    use Deadline::{Answer, CloseLimit, Flush, Grace, Idle, Ping, Silence, Stall, TimeLimit};
    let expected: [&[(Deadline, u64)]; 7] = [
        &[
            (TimeLimit, 3600),
            (Idle, 3600),
            (Answer, 3600),
            (Ping, 3600),
        ],
        &[(Grace, 1)],
        &[(Grace, 1), (Stall, 90), (Flush, 300)],
        &[(Silence, 30), (CloseLimit, 300)],
        &[(Stall, 90), (CloseLimit, 300)],
        &[(Silence, 30), (CloseLimit, 300)],
        &[],
    ];
    for (phase, expected) in PHASES.into_iter().zip(expected) {
        let machine = Machine::at(phase);
        let set: Vec<_> = Deadline::ALL
            .into_iter()
            .filter_map(|name| Some((name, (machine.deadlines.get(name)? - machine.now).as_secs())))
            .collect();
        assert_eq!(set, expected, "{phase:?}");
    }
}

#[test]
fn a_first_cause_is_acted_on_once_it_is_told() {
    for (cause, readers, expected) in [
        (EndCause::Completed, true, "-"),
        (EndCause::ServiceFailed, false, "-"),
        (EndCause::ServicePanicked, false, "-"),
        (EndCause::Closed { code: 4001 }, true, "-"),
        (peer_closed(1000), true, "-"),
        (
            EndCause::ProtocolError { rule: "r" },
            true,
            "Close 1002 only",
        ),
        (EndCause::InvalidText { rule: "r" }, true, "Close 1007 only"),
        (EndCause::PeerUnresponsive, true, "Abandon > Closed"),
        (
            EndCause::UpgradeFailed { kind: RESET },
            true,
            "Abandon > Closed",
        ),
        (LOST, true, "Abandon > Closed"),
    ] {
        let mut machine = Machine::new();
        let Step::Tell { readers: told } = machine.on(Event::Cause(cause.clone())) else {
            panic!("{cause:?} is not told");
        };
        assert_eq!(told, readers, "{cause:?}");
        assert_eq!(machine.describe(Event::Told), expected, "{cause:?}");
    }
}

#[test]
fn the_last_words_wait_for_the_service_and_its_writers() {
    let drained = Machine::at(Phase::Ending).closing;
    assert!(!drained.may_say_last(false, 0, false));
    assert!(!drained.may_say_last(true, 1, false));
    assert!(drained.may_say_last(true, 0, false));
    assert!(drained.may_say_last(true, 1, true));
    let mut closed = Machine::new();
    let _ = closed.on(close_requested());
    assert!(closed.closing.may_say_last(false, 1, false));
    for phase in PHASES.into_iter().filter(|&phase| phase != Phase::Ending) {
        assert!(
            !Machine::at(phase).closing.may_say_last(true, 0, true),
            "{phase:?}"
        );
    }
}

#[test]
fn a_service_that_returned_waits_for_its_writers_and_adds_nothing() {
    for (cause, open, ending) in [
        (EndCause::Completed, [true, false], [false, false]),
        (EndCause::ServiceFailed, [true, true], [true, true]),
        (EndCause::ServicePanicked, [true, true], [true, true]),
    ] {
        for (phase, expected) in [(Phase::Open, open), (Phase::Ending, ending)] {
            let closing = Machine::at(phase).closing;
            let counts = [0, 1].map(|writers| closing.follows_service(&cause, writers));
            assert_eq!(counts, expected, "{cause:?} {phase:?}");
        }
    }
}

#[test]
fn the_grace_only_becomes_shorter() {
    let grace = |machine: &Machine| machine.deadlines.get(Deadline::Grace);
    let mut machine = Machine::new();
    let start = machine.now;
    let _ = machine.on(Event::Cause(peer_closed(1000)));
    assert_eq!(grace(&machine), Some(start + secs(30)));
    machine.now += secs(1);
    let _ = machine.on(Event::Cause(EndCause::ServiceFailed));
    assert_eq!(grace(&machine), Some(start + secs(2)));
    machine.now += secs(1);
    let _ = machine.on(Event::Cause(peer_closed(1000)));
    assert_eq!(grace(&machine), Some(start + secs(2)));
    // A FIN after the Close shortens the grace to the usual one.
    let mut machine = Machine::new();
    let _ = machine.on(Event::Cause(peer_closed(1000)));
    assert_eq!(machine.describe(Event::ReadEnded(FIN)), "-");
    assert_eq!(grace(&machine), Some(machine.now + secs(1)));
}

#[test]
fn the_grace_of_a_service_that_runs_goes_on() {
    let mut machine = Machine::at(Phase::Flushing);
    let grace = machine.deadlines.get(Deadline::Grace);
    for (service_done, expected) in [(false, grace), (true, None)] {
        let output = Output::Waiting;
        let _ = machine.on(Event::RoundOver {
            service_done,
            output,
        });
        assert_eq!(machine.deadlines.get(Deadline::Grace), expected);
    }
}

#[test]
fn the_first_close_of_the_service_counts() {
    let mut machine = Machine::new();
    let _ = machine.on(close_requested());
    let frame = crate::frame::close_payload(Some(4002), "later");
    let _ = machine.on(Event::CloseRequested { code: 4002, frame });
    assert_eq!(
        machine.describe(Event::LastWordsSaid { told: true }),
        "Close 4001"
    );
    // After another cause, the Close frame that the service requested is not sent.
    let mut machine = Machine::at(Phase::Ending);
    let _ = machine.on(close_requested());
    assert_eq!(
        machine.describe(Event::LastWordsSaid { told: true }),
        "Close 1000"
    );
}

#[test]
fn progress_moves_the_stall_and_a_byte_moves_the_silence() {
    let mut machine = Machine::at(Phase::Flushing);
    let start = machine.now;
    let flush = machine.deadlines.get(Deadline::Flush);
    machine.now += secs(60);
    let _ = machine.on(round(Output::Moving));
    assert_eq!(
        machine.deadlines.get(Deadline::Stall),
        Some(start + secs(150))
    );
    assert_eq!(machine.deadlines.get(Deadline::Flush), flush);
    let _ = machine.on(round(Output::Held(queued(2048))));
    assert_eq!(
        machine.deadlines.get(Deadline::Flush),
        Some(start + secs(361))
    );
    for phase in [Phase::Awaiting, Phase::Lingering] {
        let mut machine = Machine::at(phase);
        let start = machine.now;
        machine.now += secs(20);
        let _ = machine.on(Event::Heard);
        assert_eq!(
            machine.deadlines.get(Deadline::Silence),
            Some(start + secs(50))
        );
        let limit = machine.deadlines.get(Deadline::CloseLimit);
        assert_eq!(limit, Some(start + secs(300)));
    }
}

#[test]
fn an_answer_that_came_before_is_not_awaited() {
    for before in [
        Event::Cause(peer_closed(1000)),
        Event::Cause(EndCause::TooLarge),
        Event::ReadEnded(FIN),
    ] {
        let mut machine = Machine::at(Phase::Flushing);
        let name = format!("{before:?}");
        let _ = machine.on(before);
        let seen = machine.describe(round(Output::Gone));
        assert_eq!(seen, "ShutDown > ShuttingDown", "{name}");
        assert!(machine.closing.is_deaf());
    }
}

/// An act of the service, the peer, the transport or the clock.
#[derive(Clone, Debug)]
enum Act {
    Pass(u64),
    Cause(EndCause),
    CloseRequested,
    ReadEnded(io::ErrorKind),
    Heard,
    ServiceDone,
    WritersGone,
    /// Sets whether the last words tell the outcome from now on.
    Tells(bool),
    Output(Output),
    Shutdown(Shutdown),
    Round,
}

fn act() -> impl Strategy<Value = Act> {
    let cause = prop_oneof![
        Just(EndCause::Completed),
        Just(EndCause::ServiceFailed),
        Just(EndCause::IdleTimeout),
        Just(EndCause::Drained),
        Just(peer_closed(1000)),
        Just(peer_closed(1001)),
        Just(EndCause::TooLarge),
        Just(EndCause::InvalidText { rule: "r" }),
        Just(LOST),
        Just(EndCause::Aborted),
    ];
    let output = prop_oneof![
        Just(Output::Gone),
        (0..1_000_000_u64).prop_map(|bytes| Output::Held(queued(bytes))),
        Just(Output::Moving),
        Just(Output::Waiting),
    ];
    let shutdown = prop_oneof![
        Just(Shutdown::Done),
        Just(Shutdown::Pending),
        Just(Shutdown::Failed),
    ];
    prop_oneof![
        3 => (0..100_000_u64).prop_map(Act::Pass),
        2 => cause.prop_map(Act::Cause),
        1 => Just(Act::CloseRequested),
        1 => prop_oneof![Just(FIN), Just(RESET)].prop_map(Act::ReadEnded),
        1 => Just(Act::Heard),
        1 => Just(Act::ServiceDone),
        1 => Just(Act::WritersGone),
        1 => any::<bool>().prop_map(Act::Tells),
        2 => output.prop_map(Act::Output),
        2 => shutdown.prop_map(Act::Shutdown),
        3 => Just(Act::Round),
    ]
}

/// A session that carries out the steps, and checks them.
struct World {
    machine: Machine,
    facts: Facts,
    service_done: bool,
    writers: usize,
    tells: bool,
    output: Output,
    shutdown: Shutdown,
    /// The number of bytes that were in the queue when the Close frame was queued.
    queued: u64,
    first: Option<EndCause>,
    told: Option<bool>,
    closes: usize,
}

impl World {
    fn new() -> Self {
        Self {
            machine: Machine::new(),
            facts: Facts::default(),
            service_done: false,
            writers: 1,
            tells: false,
            output: Output::Waiting,
            shutdown: Shutdown::Pending,
            queued: 20_480,
            first: None,
            told: None,
            closes: 0,
        }
    }

    fn advance(&mut self, event: Event) {
        let now = self.machine.now;
        let expected = (self.facts).on(&event, now, self.queued, self.shutdown);
        let mut steps = Vec::new();
        let mut event = event;
        loop {
            let was_closed = self.machine.closing.is_closed();
            let step = self.machine.on(event);
            steps.extend(Some(name(&step)).filter(|name| !name.is_empty()));
            assert!(
                !was_closed || matches!(step, Step::Wait),
                "{step:?} after the end"
            );
            event = match step {
                Step::Wait => break,
                Step::Tell { .. } => {
                    assert_eq!(self.first, None, "told twice");
                    self.first = self.machine.closing.cause().cloned();
                    Event::Told
                }
                Step::Close { frame, discard } => {
                    self.closes += 1;
                    assert_eq!(self.closes, 1, "closed twice");
                    let answer = matches!(self.first, Some(EndCause::PeerClosed { .. }));
                    let told = self.told == Some(true) && !discard;
                    assert!(told || answer || frame.code() != Some(1000), "1000 untold");
                    Event::CloseQueued(queued(self.queued))
                }
                Step::ShutDown => Event::ShutDown(self.shutdown),
                Step::Abandon(_) | Step::Release => {
                    assert!(self.machine.closing.is_closed());
                    break;
                }
            };
        }
        assert_eq!(steps, expected, "{:?}", self.facts);
        self.facts.check(&self.machine.closing);
        let grace = self.machine.deadlines.get(Deadline::Grace);
        assert_eq!(grace, self.facts.grace, "{:?}", self.facts);
    }

    /// Runs one round of the driver; see `Driver::finish_round`.
    fn round(&mut self) {
        let now = self.machine.now;
        let grace_over = self.machine.deadlines.is_expired(Deadline::Grace, now);
        self.service_done |= grace_over;
        let (done, writers) = (self.service_done, self.writers);
        let may_say_last = self.machine.closing.may_say_last(done, writers, grace_over);
        let expected = self.facts.may_say_last(done, writers, grace_over);
        assert_eq!(may_say_last, expected, "{:?}", self.facts);
        if may_say_last {
            assert_eq!(self.told.replace(self.tells), None, "last words twice");
            let told = self.tells;
            self.advance(Event::LastWordsSaid { told });
        }
        if let Output::Held(due) = self.output
            && self.machine.closing.phase == Phase::Flushing
        {
            self.queued = self.queued.max(due.queued);
        }
        let (service_done, output) = (self.service_done, self.output);
        self.advance(Event::RoundOver {
            service_done,
            output,
        });
    }

    /// Lets time pass, with a round at each deadline.
    fn pass(&mut self, time: Duration) {
        let until = self.machine.now + time;
        while let Some(next) = self.machine.deadlines.next()
            && next <= until
            && !self.is_open()
        {
            self.machine.now = next.max(self.machine.now);
            self.round();
            assert!(self.machine.deadlines.next() > Some(self.machine.now) || self.is_over());
        }
        self.machine.now = until;
    }

    fn is_open(&self) -> bool {
        self.machine.closing.is_open()
    }

    fn is_over(&self) -> bool {
        self.machine.closing.is_closed() && self.service_done
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Pass(millis) => self.pass(Duration::from_millis(millis)),
            Act::Cause(cause) => self.advance(Event::Cause(cause)),
            Act::CloseRequested => self.advance(close_requested()),
            Act::ReadEnded(kind) => self.advance(Event::ReadEnded(kind)),
            Act::Heard => self.advance(Event::Heard),
            Act::ServiceDone => self.service_done = true,
            Act::WritersGone => self.writers = 0,
            Act::Tells(tells) => self.tells = tells,
            Act::Output(output) => self.output = output,
            Act::Shutdown(shutdown) => self.shutdown = shutdown,
            Act::Round => self.round(),
        }
    }
}

proptest! {
    /// The service, the peer and the transport act at random. A session that ends is closed in
    /// time, and its Close frame tells the truth.
    #[test]
    fn every_end_is_bounded_and_true(acts in vec(act(), 0..40), hears in any::<bool>()) {
        let mut world = World::new();
        for act in acts {
            world.act(act);
        }
        if world.is_open() {
            world.advance(Event::Cause(EndCause::Drained));
        }
        // From here on the peer does its worst.
        if let Output::Held { .. } = world.output {
            world.output = Output::Moving;
        }
        world.round();
        // The longest grace, the limit for the queue, and the phases after the Close.
        let bound = 30 + (300 + world.queued / 2048) + 300 + 3;
        for _ in 0..bound {
            if world.is_over() {
                break;
            }
            world.pass(secs(1));
            if hears {
                world.advance(Event::Heard);
                world.round();
            }
        }
        prop_assert!(world.is_over(), "{:?}", world.machine.closing);
        let rest = world.machine.deadlines.next();
        prop_assert!(rest.is_none() || world.machine.deadlines.get(Deadline::Grace) == rest);
    }
}
