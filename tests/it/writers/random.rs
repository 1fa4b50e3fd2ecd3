//! Random writes, shutdowns and flushes.

use super::*;

/// A step of a task that owns some channels.
#[derive(Clone, Debug)]
enum Step {
    Write(usize, usize),
    Send(usize, usize),
    Flush(usize),
    Drop(usize),
    Yield,
    Sleep,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![
        4 => 1..200_usize,
        2 => 1500..3000_usize,
        1 => 20_000..50_000_usize,
        1 => 60_000..80_000_usize,
    ];
    prop_oneof![
        8 => (0..2_usize, len.clone()).prop_map(|(at, len)| Step::Write(at, len)),
        4 => (0..2_usize, len).prop_map(|(at, len)| Step::Send(at, len)),
        2 => (0..2_usize).prop_map(Step::Flush),
        1 => (0..2_usize).prop_map(Step::Drop),
        2 => Just(Step::Yield),
        1 => Just(Step::Sleep),
    ]
}

/// The messages that one task has written.
type Log = Vec<(u8, Vec<u8>)>;

async fn run(mut writers: [Option<ChannelWriter>; 2], steps: Vec<Step>) -> Log {
    let mut log = Log::new();
    for (n, step) in steps.into_iter().enumerate() {
        match step {
            Step::Write(at, len) => {
                let Some(writer) = &mut writers[at] else {
                    continue;
                };
                let payload: Vec<u8> = (0..len).map(|i| (i * 7 + n) as u8).collect();
                let accepted = writer.write(&payload).await.unwrap();
                assert!(accepted == len.min(32 * 1024));
                log.push((writer.id(), payload[..accepted].to_vec()));
            }
            Step::Send(at, len) => {
                let Some(writer) = &mut writers[at] else {
                    continue;
                };
                let payload: Vec<u8> = (0..len).map(|i| (i * 11 + n) as u8).collect();
                writer.send(payload.clone()).await.unwrap();
                log.push((writer.id(), payload));
            }
            Step::Flush(at) => {
                if let Some(writer) = &mut writers[at] {
                    writer.flush().await.unwrap();
                }
            }
            Step::Drop(at) => writers[at] = None,
            Step::Yield => tokio::task::yield_now().await,
            Step::Sleep => sleep(Duration::from_millis(3)).await,
        }
    }
    log
}

/// Two tasks, one of them the service, have two channels each. The messages of each task arrive in
/// the order in which it wrote them, across both of its channels.
async fn random_schedule(
    steps: [Vec<Step>; 2],
    subprotocol: &str,
    capacity: usize,
    reads: Vec<(usize, bool)>,
    limits: Limits,
) {
    let logs: Arc<Mutex<[Log; 2]>> = Arc::default();
    let noted = Arc::clone(&logs);
    let service = once_in(
        dozen().limits(limits),
        move |mut set: ChannelSet| async move {
            let [first, second] = steps;
            let mine = [set.take_writer(0), set.take_writer(1)];
            let theirs = [set.take_writer(2), set.take_writer(3)];
            drop(set);
            let other = Arc::clone(&noted);
            let task = tokio::spawn(async move {
                let log = run(theirs, second).await;
                other.lock().unwrap()[1] = log;
            });
            let log = run(mine, first).await;
            noted.lock().unwrap()[0] = log;
            task.await?;
            Ok(())
        },
    );
    let mut client = open_with(service, subprotocol, capacity).await;
    let slowly = async {
        for (len, waits) in reads {
            if waits {
                sleep(Duration::from_millis(2)).await;
            }
            let mut piece = vec![0; len];
            match client.io.read(&mut piece).await.unwrap() {
                0 => return,
                n => client.buf.extend_from_slice(&piece[..n]),
            }
        }
    };
    within(LONG, slowly).await;
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1000)));
    let logs = logs.lock().unwrap();
    for (task, log) in logs.iter().enumerate() {
        let ours = |channel: u8| usize::from(channel) / 2 == task;
        let came: Vec<_> = told.messages.iter().filter(|(id, _)| ours(*id)).collect();
        let lens = |log: &[&(u8, Vec<u8>)]| -> Vec<_> {
            log.iter()
                .map(|(id, payload)| (*id, payload.len()))
                .collect()
        };
        let log: Vec<_> = log.iter().collect();
        assert_eq!(lens(&came), lens(&log));
        assert!(came == log, "other bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn random_writes_come_in_the_order_in_which_they_were_made(
        first in proptest::collection::vec(step(), 0..40),
        second in proptest::collection::vec(step(), 0..40),
        base64: bool,
        capacity in prop_oneof![1..10_usize, 10..5000_usize, 50_000..200_000_usize],
        reads in proptest::collection::vec((1..70_000_usize, any::<bool>()), 0..50),
        tight: bool,
    ) {
        let _watchdog = Watchdog::bites_after(BITE);
        let limits = match tight {
            true => Limits::default().send_budget(3000).high_water(4000),
            false => Limits::default(),
        };
        let subprotocol = if base64 { subprotocols::V4_BASE64 } else { subprotocols::V4 };
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(random_schedule([first, second], subprotocol, capacity, reads, limits));
    }
}

#[tokio::test(start_paused = true)]
async fn limits_of_one_byte_still_let_everything_through() {
    let layer = layer().limits(Limits::default().send_budget(1).high_water(1));
    let service = once_in(layer, |mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(1).unwrap();
        drop(set);
        stdout.write_all(&[7; 100_000]).await?;
        stdout.send(vec![8; 100_000]).await?;
        Ok(())
    });
    let mut client = open_with(service, subprotocols::V5, 100).await;
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.channel(1).len(), 200_000);
}

/// A payload whose drop can be observed.
struct Owned(
    Vec<u8>,
    #[allow(dead_code, reason = "it is held, and nothing else")] Arc<()>,
);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A large message leaves and is read, and the session lives on.
#[tokio::test(start_paused = true)]
async fn a_message_that_has_left_is_not_kept() {
    let _watchdog = Watchdog::bites_after(BITE);
    let owner = Arc::new(());
    let kept = Arc::downgrade(&owner);
    let service = once_in(dozen(), move |mut set: ChannelSet| async move {
        let mut writer = set.take_writer(0).unwrap();
        let payload = Bytes::from_owner(Owned(vec![b'x'; 1 << 20], owner));
        writer.send(payload).await?;
        writer.flush().await?;
        match kept.strong_count() {
            0 => Ok(()),
            _ => Err("the payload is still held".into()),
        }
    });
    let mut client = open(service, subprotocols::V4).await;
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.channel(0).len(), 1 << 20);
    assert_eq!(told.close, Some(Some(1000)));
}
