use proptest::prelude::*;

use super::{backlog::Entry, *};
use crate::{
    frame::close_payload,
    wire::outbound::framing::{FRAGMENT, FRAGMENT_BASE64},
};

const CHANNELS: usize = 3;
const BUDGET: usize = 64 * 1024;

#[derive(Clone, Copy, Debug)]
enum Op {
    Push(u8, usize),
    Send(u8, usize),
    /// A vectored write, of which the transport took this many thousandths.
    Vectored(u8, usize, usize),
    Ping,
    Pong(usize),
    /// The transport took this many thousandths of the bytes that it was offered.
    Take(usize),
    /// It took this many bytes.
    Bytes(usize),
    Hold(bool),
    Release,
    Close,
    Discard,
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 1..200_usize,
        2 => prop_oneof![Just(124), Just(125), Just(126), Just(2047), Just(2048)],
        2 => 2000..9000_usize,
        1 => 24_000..33_000_usize,
        1 => prop_oneof![
            Just(FRAGMENT - 1), Just(FRAGMENT), Just(FRAGMENT + 1), Just(2 * FRAGMENT),
            Just(FRAGMENT_BASE64), Just(2 * FRAGMENT_BASE64), Just(3 * FRAGMENT_BASE64 + 1),
            60_000..200_000_usize,
        ],
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let channel = 0..CHANNELS as u8;
    prop_oneof![
        8 => (channel.clone(), len()).prop_map(|(c, n)| Op::Push(c, n.min(32 * 1024))),
        6 => (channel.clone(), prop_oneof![1 => Just(0), 8 => len()]).prop_map(|(c, n)| Op::Send(c, n)),
        4 => (channel, len(), 0..=1000_usize).prop_map(|(c, n, m)| Op::Vectored(c, n.min(32 * 1024), m)),
        1 => Just(Op::Ping),
        2 => (0..=125_usize).prop_map(Op::Pong),
        8 => prop_oneof![1 => Just(1000), 1 => 0..1000_usize].prop_map(Op::Take),
        4 => (1..300_usize).prop_map(Op::Bytes),
        1 => any::<bool>().prop_map(Op::Hold),
        1 => Just(Op::Release),
    ]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let end = prop_oneof![
        2 => Just(None), 2 => Just(Some(Op::Close)), 2 => Just(Some(Op::Discard)),
    ];
    // Also takes bytes after the end, so that a frame that has left in part leaves in pieces too.
    let tail = proptest::collection::vec(
        prop_oneof![
            (1..300_usize).prop_map(Op::Bytes),
            Just(Op::Ping),
            Just(Op::Pong(3))
        ],
        0..20,
    );
    (proptest::collection::vec(op(), 0..80), end, tail).prop_map(|(mut ops, end, tail)| {
        ops.extend(end);
        ops.extend(tail);
        ops
    })
}

/// The channel and the payload of a message, as it was pushed or as it left.
type Message = (u8, Vec<u8>);

/// The bytes that left, decoded without the queue's own code.
#[derive(Default)]
struct Wire {
    bytes: Vec<u8>,
    messages: Vec<Message>,
    /// The fragments of an incomplete message.
    partial: Vec<u8>,
    in_message: bool,
    controls: Vec<(u8, Vec<u8>)>,
    /// The bytes of an incomplete frame.
    cut: usize,
}

impl Wire {
    fn parse(&mut self, format: Format) {
        let mut at = 0;
        loop {
            let rest = &self.bytes[at..];
            self.cut = rest.len();
            let [first, second, ..] = *rest else { return };
            assert_eq!(second & 0x80, 0, "a server does not mask");
            let (head, len) = match second {
                126 if rest.len() >= 4 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
                127 if rest.len() >= 10 => (
                    10,
                    u64::from_be_bytes(rest[2..10].try_into().unwrap()) as usize,
                ),
                126 | 127 => return,
                short => (2, usize::from(short)),
            };
            if rest.len() < head + len {
                return;
            }
            let payload = &rest[head..head + len];
            let (fin, opcode) = (first & 0x80 != 0, first & 0x7f);
            match opcode {
                8..=10 => {
                    assert!(fin && len <= 125);
                    assert!(
                        self.controls.last().is_none_or(|last| last.0 != 8),
                        "behind the Close"
                    );
                    self.controls.push((opcode, payload.to_vec()));
                }
                0..=2 => {
                    assert_eq!(
                        opcode == 0,
                        self.in_message,
                        "continuation and message in turn"
                    );
                    let text = if format == Format::Base64 { 1 } else { 2 };
                    assert!(opcode == 0 || opcode == text);
                    assert!(
                        len <= 1 + FRAGMENT.max(44 * 1024),
                        "a frame keeps controls waiting"
                    );
                    self.partial.extend_from_slice(payload);
                    self.in_message = !fin;
                    if fin {
                        let whole = std::mem::take(&mut self.partial);
                        self.messages.push(decoded(format, &whole));
                    }
                }
                _ => panic!("opcode {opcode}"),
            }
            at += head + len;
        }
    }
}

fn decoded(format: Format, whole: &[u8]) -> Message {
    if format == Format::Base64 {
        let mut out = bytes::BytesMut::new();
        let mut decoder = base64::Base64Decoder::default();
        decoder.decode(&whole[1..], &mut out).unwrap();
        decoder.finish().unwrap();
        return (whole[0] - b'0', out.to_vec());
    }
    (whole[0], whole[1..].to_vec())
}

struct Test {
    queue: SendQueue,
    pushed: Vec<Message>,
    wire: Wire,
    held: bool,
    seed: u8,
    pongs: usize,
}

impl Test {
    fn new(format: Format) -> Self {
        Self {
            queue: SendQueue::new(format, CHANNELS, BUDGET, 4 * BUDGET),
            pushed: Vec::new(),
            wire: Wire::default(),
            held: false,
            seed: 0,
            pongs: 0,
        }
    }

    /// Returns a payload that reveals every lost, duplicated or moved byte.
    fn payload(&mut self, channel: u8, len: usize) -> Vec<u8> {
        self.seed = self.seed.wrapping_add(41);
        let payload: Vec<u8> = (0..len)
            .map(|i| (i % 251) as u8 ^ (i >> 8) as u8 ^ self.seed)
            .collect();
        self.pushed.push((channel, payload.clone()));
        payload
    }

    /// Lets the transport take at most `n` bytes, and returns how many it was offered.
    fn take(&mut self, n: impl FnOnce(usize) -> usize) -> usize {
        let Some(next) = self.queue.next(self.held) else {
            return 0;
        };
        let [first, second] = [0, 1].map(|i| &*next.slices()[i]);
        assert!(!first.is_empty(), "a write of nothing");
        let shown = first.len() + second.len();
        assert!(shown <= WRITE_CAP);
        assert_eq!(next.vectored, !second.is_empty());
        let n = n(shown).min(shown);
        if n > 0 {
            let from_first = n.min(first.len());
            self.wire.bytes.extend_from_slice(&first[..from_first]);
            self.wire.bytes.extend_from_slice(&second[..n - from_first]);
            self.queue.advance(n);
        }
        shown
    }

    fn vectored(&mut self, channel: u8, len: usize, per_mille: usize) {
        if !self.queue.wants_vectored(len) || self.held || self.queue.is_over_cap(len) {
            let payload = self.payload(channel, len);
            return self.queue.push(channel, &payload);
        }
        let payload = self.payload(channel, len);
        self.queue.push_head(channel, len);
        let mut shown = self.queue.buffered().to_vec();
        shown.extend_from_slice(&payload);
        let n = shown.len() * per_mille / 1000;
        self.wire.bytes.extend_from_slice(&shown[..n]);
        self.queue.advance_with(n, &payload);
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Push(channel, len) => {
                let payload = self.payload(channel, len);
                self.queue.push(channel, &payload);
            }
            Op::Send(channel, len) => {
                let payload = self.payload(channel, len);
                self.queue.push_bytes(channel, &mut payload.into());
            }
            Op::Vectored(channel, len, per_mille) => self.vectored(channel, len, per_mille),
            Op::Ping => {
                self.queue.ping();
            }
            Op::Pong(len) => {
                self.queue.pong(&vec![b'p'; len]);
                self.pongs += 1;
            }
            Op::Take(per_mille) => {
                self.take(|shown| shown * per_mille / 1000);
            }
            Op::Bytes(n) => {
                self.take(|_| n);
            }
            Op::Hold(held) => self.held = held,
            Op::Release => self.queue.release_buffers(),
            Op::Close => self.queue.close(&close_payload(Some(1000), "")),
            Op::Discard => {
                self.held = false;
                self.queue.discard();
                self.queue.close(&close_payload(Some(1002), "broken"));
            }
        }
        self.check();
    }

    /// Checks the invariants, which must hold between any two steps.
    fn check(&self) {
        let queued = self.queue.queued();
        let in_memory = self.queue.buf.len() - self.queue.start + self.queue.slice.len();
        assert!(in_memory <= queued);
        assert!(self.queue.cursor.frame_left() <= in_memory);
        if !self.queue.closing {
            let shares = self.queue.budget.queued_by_channels();
            assert_eq!(shares, queued, "budgets and queue disagree");
        }
        if queued == 0 {
            assert!(in_memory == 0 && self.queue.backlog.is_empty());
        }
    }
}

fn run(format: Format, ops: &[Op]) {
    let mut test = Test::new(format);
    for op in ops {
        test.run(*op);
    }
    test.held = false;
    let mut steps = 0;
    while test.take(|shown| shown) > 0 {
        test.check();
        steps += 1;
        assert!(steps < 100_000, "never empty");
    }
    let queue = &test.queue;
    assert!(queue.is_empty() && queue.queued() == 0);
    test.wire.parse(format);
    assert_eq!(test.wire.cut, 0, "the last frame is cut");
    let came = &test.wire.messages;
    let discarded = ops.iter().any(|op| matches!(op, Op::Discard));
    if discarded {
        assert!(
            came[..] == test.pushed[..came.len()],
            "a prefix of what was pushed"
        );
    } else {
        assert!(*came == test.pushed, "all that was pushed, in order");
        assert!(!test.wire.in_message);
        for channel in 0..CHANNELS as u8 {
            assert!(queue.is_flushed(channel) && queue.has_room(channel));
            assert_eq!(
                queue.budget.queued_on(channel),
                0,
                "a budget has not come back"
            );
        }
    }
    let closes = test
        .wire
        .controls
        .iter()
        .filter(|(opcode, _)| *opcode == 8)
        .count();
    assert_eq!(closes, usize::from(queue.closing));
    assert_eq!(
        test.wire.controls.last().is_some_and(|last| last.0 == 8),
        queue.closing
    );
    let pongs = test
        .wire
        .controls
        .iter()
        .filter(|(opcode, _)| *opcode == 10)
        .count();
    assert!(pongs <= test.pongs);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn binary_messages_leave_whole_and_in_order(ops in ops()) {
        run(Format::Binary, &ops);
    }

    #[test]
    fn base64_messages_leave_whole_and_in_order(ops in ops()) {
        run(Format::Base64, &ops);
    }
}

#[test]
fn every_cut_of_a_stream_gives_the_same_bytes() {
    for format in [Format::Binary, Format::Base64] {
        let fill = |test: &mut Test| {
            for op in [
                Op::Push(0, 3),
                Op::Send(1, 70_000),
                Op::Push(2, 200),
                Op::Pong(2),
                Op::Close,
            ] {
                test.run(op);
            }
        };
        for cut in [1, 2, 3, 5, 7, 11, 13, 4096, 49_151] {
            let mut test = Test::new(format);
            fill(&mut test);
            while test.take(|_| cut) > 0 {}
            test.wire.parse(format);
            assert_eq!(test.wire.messages, test.pushed, "{cut}");
            assert_eq!(test.wire.controls.len(), 2);
        }
    }
}

#[test]
fn a_control_frame_waits_for_one_frame_at_most() {
    let mut test = Test::new(Format::Binary);
    test.run(Op::Send(0, 200_000));
    test.run(Op::Bytes(10));
    test.run(Op::Pong(1));
    while test.take(|n| n) > 0 {}
    test.wire.parse(Format::Binary);
    let before = test
        .wire
        .bytes
        .windows(3)
        .position(|w| w == [0x8a, 1, b'p']);
    assert!(before.unwrap() <= FRAGMENT + 5);
}

/// The peer does not read for a minute, in which reading is paused, and then it does.
#[test]
fn pongs_that_nothing_asked_for_replace_no_answer() {
    let mut test = Test::new(Format::Binary);
    test.run(Op::Send(0, 200_000));
    test.run(Op::Bytes(10));
    test.run(Op::Pong(1));
    for _ in 0..120 {
        test.queue.pong_unasked();
    }
    while test.take(|n| n) > 0 {}
    test.wire.parse(Format::Binary);
    let answer = [0x8a, 1, b'p'];
    assert!(test.wire.bytes.windows(3).any(|w| w == answer));
}

#[test]
fn what_the_queue_holds_is_bounded_by_what_it_counts() {
    // Small messages are between large ones, and the peer reads nothing.
    let mut queue = SendQueue::new(Format::Binary, 1, BUDGET, BUDGET);
    while queue.has_room(0) {
        queue.push_bytes(0, &mut vec![7; 2048].into());
        queue.push(0, b"x");
    }
    let held: usize = queue.buf.capacity()
        + queue
            .backlog
            .entries
            .iter()
            .map(|piece| match piece {
                Entry::Frames(frames) => frames.capacity(),
                Entry::Message { rest, .. } => rest.len(),
            })
            .sum::<usize>();
    assert!(held <= 4 * BUDGET, "{held} bytes for a budget of {BUDGET}");
}

#[test]
fn an_out_buffer_makes_room_of_what_has_left() {
    // The peer reads, but never lets the buffer become empty.
    let mut queue = SendQueue::new(Format::Binary, 1, BUDGET, BUDGET);
    queue.push(0, &[7; 30_000]);
    for _ in 0..100 {
        queue.push(0, &[7; 30_000]);
        assert_eq!(queue.buf.capacity(), stock::OUT_BUFFER);
        assert!(queue.backlog.is_empty());
        assert!(queue.next(false).is_some());
        queue.advance(30_000);
    }
}

#[test]
fn an_out_buffer_that_is_full_does_not_grow() {
    let mut queue = SendQueue::new(Format::Binary, 1, BUDGET, BUDGET);
    for _ in 0..100 {
        queue.push(0, &[7; 30_000]);
    }
    assert_eq!(queue.buf.capacity(), stock::OUT_BUFFER);
    for piece in &queue.backlog.entries {
        let Entry::Frames(frames) = piece else {
            panic!("only small messages were queued");
        };
        assert_eq!(frames.capacity(), stock::OUT_BUFFER);
    }
}

#[test]
fn sends_below_the_flush_size_leave_together() {
    let mut test = Test::new(Format::Binary);
    for _ in 0..11 {
        test.run(Op::Send(0, 4096));
    }
    let mut writes = 0;
    while test.take(|shown| shown) > 0 {
        writes += 1;
    }
    assert_eq!(writes, 1, "system calls for 11 messages");
}
