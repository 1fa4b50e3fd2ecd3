//! Random clients and random services, whose frames are checked against the rules of a stream.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};
use tokio::time::{Instant, advance};

use super::{
    NewPair,
    tests::{Session, is_over, next, write},
};
use crate::wire::fixture::run_paused;

/// An event of the client, of the service or of time. Numbers choose among those that there are.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Opens a stream of this request: an error stream or a data stream.
    Open(bool, u8),
    Data(u8),
    Fin(u8),
    Reset(u8),
    Take,
    Reply(u8),
    Write(u8),
    WriteText(u8),
    DropWriter(u8),
    DropReader(u8),
    Finish(u8),
    Refuse(u8),
    Fail(u8),
    Drop(u8),
    Wait(u16),
    Round,
}

fn step() -> impl Strategy<Value = Step> {
    let any = any::<u8>;
    prop_oneof![
        6 => (proptest::bool::ANY, 0..6_u8).prop_map(|(error, request)| Step::Open(error, request)),
        4 => any().prop_map(Step::Data),
        3 => any().prop_map(Step::Fin),
        1 => any().prop_map(Step::Reset),
        5 => Just(Step::Take),
        4 => any().prop_map(Step::Reply),
        4 => any().prop_map(Step::Write),
        1 => any().prop_map(Step::WriteText),
        1 => any().prop_map(Step::DropWriter),
        1 => any().prop_map(Step::DropReader),
        2 => any().prop_map(Step::Finish),
        1 => any().prop_map(Step::Refuse),
        1 => any().prop_map(Step::Fail),
        1 => any().prop_map(Step::Drop),
        2 => (0..30_000_u16).prop_map(Step::Wait),
        6 => Just(Step::Round),
    ]
}

/// A connection in the hands of the service.
struct Held {
    pair: NewPair,
    /// Data is written only behind the reply, as the service of ports does.
    replied: bool,
}

/// The frames of a stream that the client has seen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    replies: usize,
    fin: bool,
    reset: bool,
    ended_by_client: bool,
    reset_by_client: bool,
}

#[derive(Default)]
struct Client {
    streams: BTreeMap<u32, Seen>,
    last: u32,
}

impl Client {
    /// Checks the frames of the server.
    fn see(&mut self, lines: &[String]) -> Result<(), TestCaseError> {
        for line in lines {
            let mut words = line.split(' ');
            let (kind, stream) = (words.next().unwrap(), words.next().unwrap());
            let stream: u32 = stream.parse().unwrap();
            let seen = self.streams.get_mut(&stream);
            prop_assert!(seen.is_some(), "{line}: the client never opened it");
            let seen = seen.unwrap();
            prop_assert!(!seen.reset, "{line}: behind a reset");
            match kind {
                "reply" => {
                    seen.replies += 1;
                    prop_assert!(seen.replies == 1, "{line}: a second time");
                }
                "data" => prop_assert!(seen.replies == 1 && !seen.fin, "{line}"),
                "fin" => {
                    prop_assert!(seen.replies == 1 && !seen.fin, "{line}");
                    seen.fin = true;
                }
                "rst" => seen.reset = true,
                _ => prop_assert!(false, "{line}: not a frame of a stream"),
            }
        }
        Ok(())
    }

    /// Returns one of the streams that the client may send on.
    fn open_stream(&self, choice: u8) -> Option<u32> {
        let open = |(_, seen): &(&u32, &Seen)| seen.replies > 0 && !seen.ended_by_client;
        let open: Vec<u32> = self
            .streams
            .iter()
            .filter(open)
            .map(|(&id, _)| id)
            .collect();
        open.get(usize::from(choice) % open.len().max(1)).copied()
    }
}

fn chosen(held: &mut [Held], choice: u8) -> Option<&mut Held> {
    let len = held.len().max(1);
    held.get_mut(usize::from(choice) % len)
}

fn take(held: &mut Vec<Held>, choice: u8) -> Option<Held> {
    match held.len() {
        0 => None,
        len => Some(held.swap_remove(usize::from(choice) % len)),
    }
}

async fn play(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (mut session, mut pairs) = Session::ports();
    let mut client = Client::default();
    let mut held: Vec<Held> = Vec::new();
    for step in steps {
        match step {
            Step::Open(error, request) => {
                client.last += 2;
                let stream = client.last - 1;
                client.streams.insert(stream, Seen::default());
                let kind = if error { "error" } else { "data" };
                session.open(stream, kind, &request.to_string());
            }
            Step::Data(choice) => {
                if let Some(stream) = client.open_stream(choice) {
                    session.data(stream, b"up");
                }
            }
            Step::Fin(choice) => {
                if let Some(stream) = client.open_stream(choice) {
                    session.fin(stream);
                    client.streams.get_mut(&stream).unwrap().ended_by_client = true;
                }
            }
            Step::Reset(choice) => {
                if let Some(stream) = client.open_stream(choice) {
                    session.rst(stream);
                    let seen = client.streams.get_mut(&stream).unwrap();
                    (seen.ended_by_client, seen.reset_by_client) = (true, true);
                }
            }
            Step::Take => {
                if let Some(pair) = next(&mut pairs) {
                    held.push(Held {
                        pair,
                        replied: false,
                    });
                }
            }
            Step::Reply(choice) => {
                if let Some(held) = chosen(&mut held, choice) {
                    held.pair.answer.reply();
                    held.replied = true;
                }
            }
            Step::Write(choice) => {
                if let Some(held) = chosen(&mut held, choice).filter(|held| held.replied) {
                    let _ = write(&mut held.pair.data, "down").await;
                }
            }
            Step::WriteText(choice) => {
                if let Some(held) = chosen(&mut held, choice) {
                    let _ = write(&mut held.pair.errors, "text").await;
                }
            }
            Step::DropWriter(choice) => {
                if let Some(held) = chosen(&mut held, choice).filter(|held| held.replied) {
                    session.wire.outbound.close_writer(held.pair.reader.id());
                }
            }
            Step::DropReader(choice) => {
                if let Some(held) = chosen(&mut held, choice) {
                    session.wire.inbound.discard(held.pair.reader.id());
                }
            }
            Step::Finish(choice) => {
                if let Some(Held { pair, .. }) = take(&mut held, choice) {
                    pair.answer.finish();
                }
            }
            Step::Refuse(choice) => {
                if let Some(Held { pair, .. }) = take(&mut held, choice) {
                    pair.answer.refuse();
                }
            }
            Step::Fail(choice) => {
                if let Some(Held { pair, .. }) = take(&mut held, choice) {
                    pair.answer.reset();
                }
            }
            Step::Drop(choice) => drop(take(&mut held, choice)),
            Step::Wait(millis) => {
                client.see(&session.round())?;
                let until = Instant::now() + std::time::Duration::from_millis(millis.into());
                while let Some(at) = session.mux.next_due().filter(|&at| at <= until) {
                    advance(at.saturating_duration_since(Instant::now())).await;
                    prop_assert!(session.mux.expire(Instant::now()).is_none());
                    client.see(&session.round())?;
                }
                advance(until.saturating_duration_since(Instant::now())).await;
            }
            Step::Round => client.see(&session.round())?,
        }
    }
    // Once the client and the service have let go of everything, nothing is left.
    held.clear();
    while let Some(pair) = next(&mut pairs) {
        drop(pair);
    }
    client.see(&session.round())?;
    while let Some(stream) = client.open_stream(0) {
        session.fin(stream);
        client.streams.get_mut(&stream).unwrap().ended_by_client = true;
    }
    client.see(&session.round())?;
    while let Some(at) = session.mux.next_due() {
        advance(at.saturating_duration_since(Instant::now())).await;
        prop_assert!(session.mux.expire(Instant::now()).is_none());
        client.see(&session.round())?;
    }
    for (stream, seen) in &client.streams {
        prop_assert!(
            seen.reset || seen.reset_by_client || (seen.fin && seen.replies == 1),
            "{stream}: {seen:?}"
        );
    }
    client.last += 4;
    let pair = session.connect(&mut pairs, client.last - 3);
    prop_assert_eq!(pair.index, 0, "a channel is not free");
    prop_assert!(!is_over(&mut pairs));
    Ok(())
}

proptest! {
    #[test]
    fn whatever_both_sides_do(steps in vec(step(), 0..60)) {
        run_paused(play(steps))?;
    }
}
