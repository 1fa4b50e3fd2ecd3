use proptest::prelude::*;

use super::*;
use crate::{frame::close_payload, protocol::Format, wire::outbound::framing::FRAGMENT};

const LARGEST: usize = spdy::LARGEST_DATA;

const FORMATS: [Format; 2] = [Format::Tunnel, Format::Spdy];

/// The streams that stand for the channels 0 and 1.
const STREAMS: [u32; 2] = [3, 1];

#[derive(Clone, Copy, Debug)]
enum Op {
    Push(u8, usize),
    Send(u8, usize),
    /// A vectored write, of which the transport took this many thousandths.
    Vectored(u8, usize, usize),
    /// The FIN of a stream, together with a PING.
    Frames(u8),
    Reply(u8),
    /// The transport took this many thousandths of the bytes that it was offered.
    Take(usize),
    /// The transport took nothing, and may remember what it was offered.
    Full,
}

fn op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![
        4 => 1..200_usize,
        2 => prop_oneof![Just(117), Just(118), Just(2040)],
        2 => prop_oneof![Just(FRAGMENT - 1), Just(FRAGMENT), Just(FRAGMENT + 1), Just(3 * FRAGMENT), Just(LARGEST)],
    ];
    let channel = 0..2_u8;
    prop_oneof![
        6 => (channel.clone(), len.clone()).prop_map(|(c, n)| Op::Push(c, n.min(FRAGMENT))),
        4 => (channel.clone(), len.clone()).prop_map(|(c, n)| Op::Send(c, n)),
        3 => (channel.clone(), len, 0..=1000_usize)
            .prop_map(|(c, n, taken)| Op::Vectored(c, n, taken)),
        3 => channel.clone().prop_map(Op::Frames),
        1 => channel.prop_map(Op::Reply),
        8 => (0..=1000_usize).prop_map(Op::Take),
        1 => Just(Op::Full),
    ]
}

/// A frame, as it was queued or as it left.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    Data(u32, Vec<u8>),
    Other(Vec<u8>),
}

struct Model {
    queue: SendQueue,
    queued: Vec<Sent>,
    left: Vec<u8>,
    next: u8,
}

impl Model {
    fn new(format: Format) -> Self {
        let mut queue = SendQueue::new(format, 0, 1 << 20, 1 << 20);
        for (channel, stream) in STREAMS.into_iter().enumerate() {
            queue.open(channel as u8, stream);
        }
        Self {
            queue,
            queued: Vec::new(),
            left: Vec::new(),
            next: 0,
        }
    }

    fn payload(&mut self, channel: u8, len: usize) -> Vec<u8> {
        self.next = self.next.wrapping_add(1);
        let payload: Vec<u8> = (0..len)
            .map(|at| self.next.wrapping_add(at as u8))
            .collect();
        let stream = STREAMS[usize::from(channel)];
        self.queued.push(Sent::Data(stream, payload.clone()));
        payload
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Push(channel, len) => {
                let payload = self.payload(channel, len);
                self.queue.push(channel, &payload);
            }
            Op::Send(channel, len) => {
                let mut payload = self.payload(channel, len).into();
                self.queue.push_bytes(channel, &mut payload);
            }
            Op::Vectored(channel, len, taken) => {
                if !self.queue.wants_vectored(len) {
                    return;
                }
                let payload = self.payload(channel, len);
                self.queue.push_head(channel, len);
                let mut all = self.queue.buffered().to_vec();
                all.extend(&payload);
                let n = all.len() * taken / 1000;
                self.left.extend(&all[..n]);
                self.queue.advance_with(n, &payload);
            }
            Op::Frames(channel) => {
                let mut frames = Vec::new();
                spdy::fin(&mut frames, STREAMS[usize::from(channel)]);
                self.queued.push(Sent::Other(frames.clone()));
                let mut ping = Vec::new();
                spdy::ping(&mut ping, 7);
                frames.extend(&ping);
                self.queued.push(Sent::Other(ping));
                self.queue.push_frames(&frames);
            }
            Op::Reply(channel) => {
                let stream = STREAMS[usize::from(channel)];
                let first = !self.queue.said.replied;
                let mut reply = Vec::new();
                spdy::syn_reply(&mut reply, stream, first);
                self.queued.push(Sent::Other(reply));
                self.queue.push_reply(stream);
            }
            Op::Take(per_mille) => {
                let Some(next) = self.queue.next(false) else {
                    return;
                };
                let offered: Vec<u8> = next
                    .slices()
                    .iter()
                    .flat_map(|part| part.to_vec())
                    .collect();
                let n = offered.len() * per_mille / 1000;
                self.left.extend(&offered[..n]);
                self.queue.advance(n);
            }
            Op::Full => self.queue.seal(),
        }
        let queued = self.queue.budget.queued();
        let parts = self.queue.budget.queued_by_channels() + self.queue.budget.control();
        assert_eq!(parts, queued, "each byte is counted once");
    }

    fn drain(&mut self) {
        while !self.queue.is_empty() {
            self.run(Op::Take(1000));
        }
        assert_eq!(self.queue.budget.control(), 0);
        assert!(self.queue.is_idle(0) && self.queue.is_idle(1));
    }
}

/// Takes the SPDY frames out of the bytes that left, without the queue's own code.
fn frames(format: Format, bytes: &[u8]) -> Vec<Sent> {
    let mut plain = Vec::new();
    let mut rest = bytes;
    while format == Format::Tunnel && !rest.is_empty() {
        assert_eq!(rest[0], 0x82, "each message is binary, and one frame");
        let (head, len) = match rest[1] {
            126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
            127 => (
                10,
                u64::from_be_bytes(rest[2..10].try_into().unwrap()) as usize,
            ),
            short => (2, usize::from(short)),
        };
        plain.extend(&rest[head..head + len]);
        rest = &rest[head + len..];
    }
    let mut rest = match format {
        Format::Tunnel => &plain[..],
        _ => bytes,
    };
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let stream = u32::from_be_bytes(rest[..4].try_into().unwrap());
        let len = u32::from_be_bytes([0, rest[5], rest[6], rest[7]]) as usize;
        let (frame, later) = rest.split_at(8 + len);
        frames.push(match stream >> 31 == 0 && len > 0 {
            true => Sent::Data(stream, frame[8..].to_vec()),
            false => Sent::Other(frame.to_vec()),
        });
        rest = later;
    }
    frames
}

/// Puts data together that one stream has sent in a row. The borders between its frames have no meaning.
fn joined(frames: Vec<Sent>) -> Vec<Sent> {
    let mut joined: Vec<Sent> = Vec::new();
    for frame in frames {
        match (joined.last_mut(), frame) {
            (Some(Sent::Data(last, data)), Sent::Data(stream, more)) if *last == stream => {
                data.extend(more);
            }
            (_, frame) => joined.push(frame),
        }
    }
    joined
}

proptest! {
    #[test]
    fn frames_leave_whole_and_in_order(ops in proptest::collection::vec(op(), 0..60)) {
        for format in FORMATS {
            let mut model = Model::new(format);
            for op in &ops {
                model.run(*op);
            }
            model.drain();
            let frames = frames(format, &model.left);
            for frame in &frames {
                prop_assert!(!matches!(frame, Sent::Data(_, data) if data.len() > LARGEST));
            }
            prop_assert_eq!(joined(frames), joined(model.queued));
        }
    }

    #[test]
    fn small_writes_in_a_row_leave_as_one_frame(
        writes in proptest::collection::vec(1..300_usize, 1..100),
    ) {
        for format in FORMATS {
            let mut model = Model::new(format);
            for len in &writes {
                model.run(Op::Push(0, *len));
            }
            model.drain();
            let frames = frames(format, &model.left);
            prop_assert_eq!(frames.len(), 1);
            prop_assert_eq!(frames, joined(model.queued));
        }
    }
}

#[test]
fn a_write_is_merged_into_a_frame_of_its_stream_that_is_last_and_whole() {
    let between = [
        ("nothing", Op::Take(0), 1),
        ("another stream", Op::Push(1, 100), 2),
        ("a frame", Op::Reply(0), 2),
        ("a large message", Op::Send(0, FRAGMENT), 3),
        ("a byte that left", Op::Take(10), 2),
        ("a full transport", Op::Full, 2),
        ("more than a frame takes", Op::Push(0, FRAGMENT - 150), 2),
    ];
    for format in FORMATS {
        for (name, between, expected) in between {
            let mut model = Model::new(format);
            for op in [Op::Push(0, 100), between, Op::Push(0, 100)] {
                model.run(op);
            }
            model.drain();
            let frames = frames(format, &model.left).into_iter();
            let data = frames.filter(|frame| matches!(frame, Sent::Data(3, _)));
            assert_eq!(data.count(), expected, "{name} {format:?}");
        }
    }
}

#[test]
fn nothing_is_merged_into_what_was_discarded() {
    for format in FORMATS {
        let mut model = Model::new(format);
        model.queue.push(0, b"gone");
        model.queue.abandon();
        let before = model.queue.queued();
        // A writer that outlives its session may still try.
        model.queue.push(0, b"late");
        assert_eq!(model.queue.queued(), before + format.message_len(4));
        let mut model = Model::new(format);
        model.queue.push(0, b"gone");
        model.queue.discard();
        model.queue.push(0, b"late");
        model.drain();
        assert!(model.left.ends_with(b"\0\0\0\x03\0\0\0\x04late"));
    }
}

#[test]
fn the_head_in_a_tunnel_grows_with_its_frame() {
    for len in [116, 117, 118, 119] {
        let mut model = Model::new(Format::Tunnel);
        model.queue.push(0, b"x");
        model.queue.push(0, &vec![7; len - 1]);
        model.run(Op::Take(1000));
        let head = match len {
            0..118 => vec![0x82, 8 + len as u8],
            _ => vec![0x82, 126, 0, 8 + len as u8],
        };
        assert!(model.left.starts_with(&head), "{len}");
        assert_eq!(frames(Format::Tunnel, &model.left).len(), 1);
    }
}

#[test]
fn a_data_frame_has_its_head_in_both_formats() {
    for (format, expected) in [
        (Format::Tunnel, &b"\x82\x0a\0\0\0\x03\0\0\0\x02hi"[..]),
        (Format::Spdy, b"\0\0\0\x03\0\0\0\x02hi"),
    ] {
        let mut model = Model::new(format);
        model.queue.push(0, b"hi");
        assert_eq!(model.queue.budget.queued_on(0), expected.len());
        model.run(Op::Take(1000));
        assert_eq!(model.left, expected);
    }
}

#[test]
fn only_the_first_reply_begins_the_compressed_stream() {
    let mut model = Model::new(Format::Spdy);
    model.queue.push_reply(1);
    model.queue.push_reply(3);
    model.drain();
    let first = b"\x80\x03\0\x02\0\0\0\x14\0\0\0\x01\x78\x01\0\x04\0\xfb\xff\0\0\0\0\0\0\0\xff\xff";
    let second = b"\x80\x03\0\x02\0\0\0\x12\0\0\0\x03\0\x04\0\xfb\xff\0\0\0\0\0\0\0\xff\xff";
    assert_eq!(model.left, [&first[..], second].concat());
}

#[test]
fn a_goaway_is_last_and_a_close_is_behind_it() {
    for (code, status) in [(None, 0), (Some(1000), 0), (Some(1002), 1), (Some(1011), 2)] {
        for format in FORMATS {
            let mut model = Model::new(format);
            model.queue.push(0, b"hi");
            model.queue.close(&close_payload(code, ""));
            // Nothing follows.
            model.queue.close(&close_payload(Some(1000), ""));
            model.run(Op::Frames(0));
            model.drain();
            let goaway = [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, status];
            let bytes = match format {
                Format::Tunnel => {
                    let close = model.left.split_off(12 + 2 + goaway.len());
                    assert_eq!(close[0], 0x88);
                    &model.left[14..]
                }
                _ => &model.left[10..],
            };
            assert_eq!(bytes, goaway, "{format:?} {code:?}");
        }
    }
}

#[test]
fn a_goaway_replaces_the_queue_after_a_fault() {
    for format in FORMATS {
        let mut model = Model::new(format);
        model.queue.push(0, &[0x55; 100]);
        model.queue.push(1, &[0x66; 100]);
        model.run(Op::Take(100));
        model.queue.discard();
        model.queue.close(&close_payload(Some(1002), ""));
        while !model.queue.is_empty() {
            let Some(next) = model.queue.next(false) else {
                break;
            };
            let n = next.first().len();
            model.left.extend(next.first());
            model.queue.advance(n);
        }
        let end = match format {
            Format::Tunnel => {
                let close = model.left.len() - 4;
                model.left.truncate(close);
                &model.left[..]
            }
            _ => &model.left[..],
        };
        assert!(end.ends_with(&[0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 1]));
        assert!(end.contains(&0x55) && !end.contains(&0x66));
    }
}

#[test]
fn a_ping_confirms_the_data_in_front_of_it() {
    const PING: u64 = 12;
    let mut model = Model::new(Format::Spdy);
    model.queue.push(0, b"hi");
    assert!(model.queue.ping());
    // The last of those for all queues.
    assert_eq!(model.queue.take_mark(12), None);
    assert_eq!(model.queue.take_mark(10), Some(10 + 4 * PING));
    assert_eq!(model.queue.take_mark(10), None);
    model.queue.push(0, b"more");
    assert!(model.queue.ping());
    assert_eq!(model.queue.take_mark(10), None);
    assert_eq!(model.queue.take_mark(20), Some(10 + 12 + 9 * PING));
    model.drain();
    assert!(
        model
            .left
            .ends_with(&[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 20])
    );
}

#[test]
fn pings_of_the_keep_alive_go_past_a_queue_that_stands_still() {
    let mut model = paced();
    assert!(model.queue.ping());
    assert_eq!(pings(&mut model), [2], "nothing waits");
    // Stream 3 has its queue: all frames are in it, and no answer ever comes from it.
    while !model.queue.is_paced(0) {
        model.queue.push(0, b"x");
    }
    let mut rounds = 0;
    let mut phase = 1 + pings(&mut model).len();
    while model.queue.ping() {
        assert!(rounds < 1000);
        rounds += 1;
        let sent = pings(&mut model);
        let in_queue_3 = |n: &usize| (phase + n) % spdy::QUEUES == 3;
        assert!(
            !in_queue_3(&(sent.len() - 1)),
            "the last one can be answered"
        );
        for (n, id) in sent.iter().enumerate() {
            if !in_queue_3(&n) {
                model.queue.answered(*id);
            }
        }
        phase += sent.len();
    }
    // It has places for fourteen of them. The next one would stop the client.
    assert!((50..80).contains(&rounds), "{rounds}");
    for _ in 0..1000 {
        assert!(!model.queue.ping(), "no answer can come");
        model.drain();
        assert!(!model.left.is_empty(), "a host that is gone is noticed");
        model.left.clear();
        assert_eq!(model.queue.held(), 0);
    }
}

#[test]
fn a_channel_that_stands_for_another_stream_is_repaid_for_its_own_bytes() {
    let mut model = Model::new(Format::Spdy);
    model.queue.push(0, &[7; 100]);
    model.run(Op::Take(500));
    assert!(!model.queue.is_idle(0));
    model.drain();
    assert!(model.queue.is_idle(0));
    model.queue.open(0, 9);
    model.left.clear();
    model.queue.push(0, b"x");
    model.run(Op::Take(1000));
    assert_eq!(model.left, b"\0\0\0\x09\0\0\0\x01x");
}

#[test]
fn a_nudge_is_for_a_queue_in_which_nothing_waits() {
    for written in [0, 1] {
        let mut model = Model::new(Format::Spdy);
        model.queue.open(0, 5);
        model.queue.open(1, 6);
        model.queue.push(written, b"x");
        model.drain();
        model.left.clear();
        model.queue.pong(b"");
        model.drain();
        let [Sent::Other(frame)] = &frames(Format::Spdy, &model.left)[..] else {
            panic!("one frame");
        };
        assert_eq!(frame[..8], [0x80, 3, 0, 3, 0, 0, 0, 8]);
        let stream = u32::from_be_bytes(frame[8..12].try_into().unwrap());
        assert_ne!(stream % 5, [0, 1][usize::from(written)]);
    }
}

/// A queue that paces, with one stream in each of two queues of the client.
fn paced() -> Model {
    let mut model = Model::new(Format::Spdy);
    model.queue.pace();
    model
}

/// Writes frames on channel 0 until its queue takes no more.
fn fill(model: &mut Model) {
    while !model.queue.is_paced(0) {
        model.queue.push(0, b"x");
        model.drain();
    }
}

/// Takes what leaves, and returns the numbers of PINGs in it.
fn pings(model: &mut Model) -> Vec<u32> {
    model.drain();
    let left = std::mem::take(&mut model.left);
    let frames = frames(Format::Spdy, &left).into_iter();
    let pings = frames.filter_map(|frame| match frame {
        Sent::Other(frame) if frame[3] == 6 => Some(frame[8..12].to_vec()),
        _ => None,
    });
    pings
        .map(|id| u32::from_be_bytes(id.try_into().unwrap()))
        .collect()
}

#[test]
fn a_stream_without_answers_waits_and_another_goes_on() {
    let mut model = paced();
    let mut sent = 0;
    let mut asked = Vec::new();
    while !model.queue.is_paced(0) {
        model.queue.push(0, b"x");
        sent += 1;
        asked.extend(pings(&mut model));
    }
    assert!((36 - 5..=36).contains(&sent), "{sent}");
    assert!(!model.queue.is_paced(1));
    assert!(model.queue.stands_still(3) && !model.queue.stands_still(1));
    // The PINGs went around: stream 3 is in the client's queue 3, behind queues 0 to 2.
    let before = asked.len();
    for id in asked {
        model.queue.answered(id);
    }
    assert!(!model.queue.is_paced(0) && before >= 4);
}

#[test]
fn a_write_that_is_merged_takes_no_place() {
    for format in FORMATS {
        let mut model = Model::new(format);
        model.queue.pace();
        let mut written = 0;
        while !model.queue.is_paced(0) {
            model.drain();
            model.queue.push(0, b"x");
            written += 1;
        }
        // No PING is behind the last frame, because the one in the middle is still to come back.
        let mut merged = 1;
        while !model.queue.is_write_paced(0, 64) {
            model.queue.push(0, &[7; 64]);
            merged += 64;
        }
        assert_eq!(merged, FRAGMENT - 63, "{format:?}");
        model.drain();
        assert!(model.queue.is_write_paced(0, 1), "it has left");
        let mut large = 0;
        for frame in frames(format, &model.left) {
            match frame {
                Sent::Data(_, data) if data.len() == merged => large += 1,
                Sent::Data(_, data) => assert_eq!(data, b"x"),
                Sent::Other(_) => {}
            }
        }
        assert_eq!((written, large), (35, 1));
    }
}

#[test]
fn a_frame_without_a_place_is_held_until_there_is_one() {
    let mut model = paced();
    let mut fin = Vec::new();
    spdy::fin(&mut fin, 3);
    let mut asked = Vec::new();
    while !model.queue.is_paced(0) {
        model.queue.push(0, b"x");
        asked.extend(pings(&mut model));
    }
    while model.queue.held() == 0 {
        model.queue.push_frames(&fin);
    }
    model.drain();
    model.left.clear();
    let mut reply = Vec::new();
    spdy::syn_reply(&mut reply, 3, false);
    let mut other = Vec::new();
    spdy::fin(&mut other, 1);
    model.queue.push_frames(&[&reply[..], &other].concat());
    model.drain();
    assert_eq!(std::mem::take(&mut model.left), other);
    for id in asked {
        model.queue.answered(id);
    }
    model.drain();
    assert!(model.left.starts_with(&[&fin[..], &reply].concat()));
}

#[test]
fn many_frames_at_once_leave_places_for_pings() {
    let mut model = paced();
    let mut fins = Vec::new();
    for _ in 0..300 {
        spdy::fin(&mut fins, 3);
    }
    model.queue.push_frames(&fins);
    loop {
        let asked = pings(&mut model);
        if asked.is_empty() {
            break;
        }
        for id in asked {
            model.queue.answered(id);
        }
    }
    assert_eq!(model.queue.held(), 0, "no PING is behind those that left");
}

#[test]
fn a_pause_lets_everything_leave() {
    let mut model = paced();
    fill(&mut model);
    model.queue.pause_pacing(true);
    assert!(!model.queue.is_paced(0) && model.queue.pacing_due().is_none());
    for _ in 0..100 {
        model.queue.push(0, b"x");
        model.drain();
    }
    model.queue.pause_pacing(false);
    assert!(!model.queue.is_paced(0), "the count begins again");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_no_ping_is_not_paced() {
    let mut model = paced();
    assert!(model.queue.pacing_due().is_none());
    fill(&mut model);
    let due = model.queue.pacing_due().unwrap();
    let second = std::time::Duration::from_secs(1);
    model.queue.expire_pacing(due - second);
    assert!(model.queue.is_paced(0));
    model.queue.expire_pacing(due);
    assert!(!model.queue.is_paced(0) && model.queue.pacing_due().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_reading_takes_none_of_the_clients_time() {
    let mut model = paced();
    fill(&mut model);
    let asked = pings(&mut model);
    model.queue.pause_pacing(true);
    tokio::time::advance(std::time::Duration::from_secs(3)).await;
    model.queue.pause_pacing(false);
    fill(&mut model);
    let now = tokio::time::Instant::now();
    let due = model.queue.pacing_due().unwrap();
    assert_eq!(due - now, std::time::Duration::from_secs(2));
    // An answer from before the pause shows that the client answers.
    assert!(model.queue.answered(asked[0]));
    assert!(model.queue.is_paced(0) && model.queue.pacing_due().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_no_ping_of_the_keep_alive_is_not_paced() {
    let mut model = paced();
    for _ in 0..300 {
        model.queue.ping();
        model.drain();
    }
    assert!(model.queue.is_paced(0), "PINGs take all places");
    let due = model.queue.pacing_due().unwrap();
    model.queue.expire_pacing(due);
    assert!(!model.queue.is_paced(0));
}
