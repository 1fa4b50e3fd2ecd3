//! Random sessions: the recording is what the service and the client have seen.

use super::*;

/// A reader, in either form.
enum Input {
    Reader(ChannelReader),
    Stream(ChannelStream),
    Gone,
}

#[derive(Clone, Debug)]
enum Step {
    Read(bool, usize),
    Consume(bool, usize),
    Stream(bool),
    Write(bool, usize),
    Send(bool, usize),
    Flush(bool),
    DropReader(bool),
    Yield,
    Sleep,
}

/// Generates a step, and whether it gets only one poll.
fn step() -> impl Strategy<Value = (Step, bool)> {
    let len = || prop_oneof![4 => 0..200_usize, 2 => 900..3000_usize, 1 => 20_000..70_000_usize];
    let step = prop_oneof![
        6 => (any::<bool>(), len()).prop_map(|(at, len)| Step::Read(at, len)),
        6 => (any::<bool>(), len()).prop_map(|(at, len)| Step::Consume(at, len)),
        1 => any::<bool>().prop_map(Step::Stream),
        8 => (any::<bool>(), len()).prop_map(|(at, len)| Step::Write(at, len)),
        4 => (any::<bool>(), len()).prop_map(|(at, len)| Step::Send(at, len)),
        1 => any::<bool>().prop_map(Step::Flush),
        1 => any::<bool>().prop_map(Step::DropReader),
        2 => Just(Step::Yield),
        2 => Just(Step::Sleep),
    ];
    (step, any::<bool>())
}

/// Awaits a future, or polls it once and drops it.
async fn attempt<T>(future: impl Future<Output = T>, once: bool) -> Option<T> {
    match once {
        true => future.now_or_never(),
        false => Some(future.await),
    }
}

/// Runs the steps, and logs the data that was read and written.
async fn run(
    steps: Vec<(Step, bool)>,
    inputs: &mut [Input; 2],
    outputs: &mut [ChannelWriter; 2],
    log: &mut Vec<Seen>,
) -> io::Result<()> {
    let id = |at: bool| if at { 2 } else { 0 };
    for (n, (step, once)) in steps.into_iter().enumerate() {
        match step {
            Step::Read(at, len) => match &mut inputs[usize::from(at)] {
                Input::Reader(reader) => {
                    let mut buf = vec![0; len];
                    if let Some(read) = attempt(reader.read(&mut buf), once).await {
                        log.push((Inbound, id(at), buf[..read?].to_vec()));
                    }
                }
                Input::Stream(stream) => {
                    if let Some(Some(bytes)) = attempt(stream.next(), once).await {
                        log.push((Inbound, id(at), bytes?.to_vec()));
                    }
                }
                Input::Gone => {}
            },
            Step::Consume(at, len) => {
                if let Input::Reader(reader) = &mut inputs[usize::from(at)]
                    && let Some(bytes) = attempt(reader.fill_buf(), once).await
                {
                    let bytes = bytes?;
                    let bytes = bytes[..len.min(bytes.len())].to_vec();
                    // In between, anything may happen, including a write.
                    if n % 3 == 0 {
                        tokio::task::yield_now().await;
                    }
                    reader.consume(bytes.len());
                    log.push((Inbound, id(at), bytes));
                }
            }
            Step::Stream(at) => {
                let input = &mut inputs[usize::from(at)];
                *input = match std::mem::replace(input, Input::Gone) {
                    Input::Reader(reader) => Input::Stream(reader.into_stream()),
                    other => other,
                };
            }
            Step::Write(at, len) => {
                let writer = &mut outputs[usize::from(at)];
                let payload: Vec<u8> = (0..len).map(|i| (i * 7 + n) as u8).collect();
                if let Some(written) = attempt(writer.write(&payload), once).await {
                    log.push((Outbound, writer.id(), payload[..written?].to_vec()));
                }
            }
            Step::Send(at, len) => {
                let writer = &mut outputs[usize::from(at)];
                let payload: Vec<u8> = (0..len).map(|i| (i * 11 + n) as u8).collect();
                if let Some(sent) = attempt(writer.send(payload.clone()), once).await {
                    sent?;
                    log.push((Outbound, writer.id(), payload));
                }
            }
            Step::Flush(at) => {
                attempt(outputs[usize::from(at)].flush(), once)
                    .await
                    .transpose()?;
            }
            Step::DropReader(at) => inputs[usize::from(at)] = Input::Gone,
            Step::Yield => tokio::task::yield_now().await,
            Step::Sleep => sleep(Duration::from_millis(3)).await,
        }
    }
    Ok(())
}

fn joined<'a>(log: impl IntoIterator<Item = &'a Seen>, of: Direction, channel: u8) -> Vec<u8> {
    let log = log
        .into_iter()
        .filter(|(it, id, _)| (*it, *id) == (of, channel));
    log.flat_map(|(.., bytes)| bytes).copied().collect()
}

/// Removes the lost records from the log.
fn skip<'a>(log: &mut impl Iterator<Item = &'a Seen>, lost: Lost) {
    let skipped = (0..lost.payloads).map(|_| log.next().expect("something was lost").2.len());
    assert_eq!(skipped.sum::<usize>() as u64, lost.bytes);
}

/// The records are the data that the service read and wrote, in that order. If records are missing,
/// the count says which.
async fn random_session(
    steps: Vec<(Step, bool)>,
    subprotocol: &str,
    (overflow, capacity): (Overflow, usize),
    sent: Vec<(bool, usize)>,
    pauses: Vec<bool>,
) {
    let (tap, mut records) = Tap::with_capacity(overflow, capacity);
    let recording = tokio::spawn(async move {
        let mut all = Vec::new();
        let mut pauses = pauses.into_iter().cycle();
        while let Some(record) = records.next().await {
            all.push(record);
            if pauses.next() == Some(true) {
                sleep(Duration::from_millis(2)).await;
            }
        }
        all
    });
    let (logs, logged) = oneshot::channel();
    let mut client = tapped_on(subprotocol, tap, move |mut channels| async move {
        let mut inputs = [0, 2].map(|id| Input::Reader(channels.take_reader(id).unwrap()));
        let mut outputs = [1, 2].map(|id| channels.take_writer(id).unwrap());
        drop(channels);
        let mut log = Vec::new();
        let result = run(steps, &mut inputs, &mut outputs, &mut log).await;
        let _ = logs.send(log);
        Ok(result?)
    })
    .await;
    let mut inputs = [Vec::new(), Vec::new()];
    for (n, (at, len)) in sent.into_iter().enumerate() {
        let payload: Vec<u8> = (0..len).map(|i| (i * 13 + n) as u8).collect();
        let channel = if at { 2 } else { 0 };
        within(client.send(channel, &payload)).await.unwrap();
        inputs[usize::from(at)].extend(payload);
    }
    match subprotocol {
        subprotocols::V5 => {
            client.close_channel(0).await.unwrap();
            client.close_channel(2).await.unwrap();
        }
        _ => client.close(None).await.unwrap(),
    }
    let told = read_to_end(client).await;
    let log: Vec<Seen> = within(logged).await.unwrap();
    let log: Vec<Seen> = log.into_iter().filter(|it| !it.2.is_empty()).collect();
    for channel in [1, 2] {
        assert!(told.channel(channel) == joined(&log, Outbound, channel));
    }
    for (channel, sent) in [0, 2].into_iter().zip(&inputs) {
        assert!(sent.starts_with(&joined(&log, Inbound, channel)));
    }

    let records = within(recording).await.unwrap();
    let mut left = log.iter();
    let mut ended = false;
    let mut time = None;
    for record in &records {
        assert!(!ended, "behind the end");
        let lost = match record {
            Record::Payload(payload) => {
                skip(&mut left, payload.lost);
                assert!(left.next() == Some(&seen(payload)), "another record");
                assert!(time <= Some(payload.time));
                time = Some(payload.time);
                payload.lost
            }
            Record::End(end) => {
                skip(&mut left, end.lost);
                ended = true;
                end.lost
            }
            other => panic!("{other:?}"),
        };
        assert!(overflow == Overflow::Lossy || lost == Lost::default());
    }
    assert!(ended && left.next().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn records_are_what_went_through(
        steps in vec(step(), 0..60),
        base64: bool,
        lossy: bool,
        capacity in prop_oneof![0..2_usize, 200..2000_usize, 10_000..300_000_usize],
        sent in vec((any::<bool>(), prop_oneof![1..200_usize, 1000..20_000_usize]), 0..10),
        pauses in vec(any::<bool>(), 0..10),
    ) {
        let subprotocol = if base64 { subprotocols::V4_BASE64 } else { subprotocols::V5 };
        let overflow = if lossy { Overflow::Lossy } else { Overflow::Backpressure };
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(random_session(steps, subprotocol, (overflow, capacity), sent, pauses));
    }
}
