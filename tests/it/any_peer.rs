//! Peers that do anything at any time: the session ends within its bounds, and its end is true.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};
use tower_wsstream::{
    BoxError, ChannelSet,
    policy::{ByteRate, KeepAlive},
    session::Hold,
    subprotocols,
};

use crate::support::{
    BINARY, CLOSE, PING, PONG, Random, Raw, config, for_each_seed, frame, layer, on, once_in,
    open_watched,
};

async fn serve(
    mut set: ChannelSet,
    mut r: Random,
    accepted: Arc<AtomicU64>,
) -> Result<(), BoxError> {
    let session = set.session().clone();
    if r.next(3) == 0 {
        session.hold_output(Hold::until_peer_reads(
            Duration::from_millis(20),
            Duration::from_millis(r.next(5000)),
        ));
    }
    sleep(Duration::from_millis(1)).await;
    let mut reader = set.take_reader(0);
    let mut writers = [set.take_writer(1).unwrap(), set.take_writer(2).unwrap()];
    for _ in 0..r.next(12) {
        match r.next(6) {
            0 => sleep(Duration::from_millis(r.next(2000))).await,
            1 => {
                if let Some(reader) = &mut reader {
                    let _ = reader.read(&mut [0; 5000]).await;
                }
            }
            2 => {
                let _ = writers[0].flush().await;
            }
            3 => reader = None,
            _ => {
                let bytes = vec![7; r.next(60_000) as usize];
                let n = writers[r.next(2) as usize].write(&bytes).await?;
                accepted.fetch_add(n as u64, SeqCst);
            }
        }
    }
    match r.next(8) {
        0 => session.close(4001, "x")?,
        1 => return Err("failed".into()),
        2 => panic!("on purpose"),
        3 => {
            session.ended().await;
        }
        _ => {}
    }
    Ok(())
}

async fn run(seed: u64) {
    let mut r = Random::of_seed(seed);
    let mut rate = ByteRate::default();
    if r.next(3) == 0 {
        rate = rate.outbound(5000 * (1 + r.next(20)));
    }
    if r.next(3) == 0 {
        rate = rate.inbound(5000 * (1 + r.next(20)));
    }
    let mut with = config().byte_rate(rate);
    if r.next(3) == 0 {
        let beats = KeepAlive::every(Duration::from_secs(10)).timeout(Duration::from_secs(20));
        with = with.keep_alive(beats);
    }
    let accepted = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&accepted);
    let inner = r.split();
    let service = once_in(layer().config(with), move |set| async move {
        match timeout(Duration::from_secs(60), serve(set, inner, counted)).await {
            Ok(result) => result,
            Err(_) => Err("too slow".into()),
        }
    });
    let offer = [subprotocols::V5, subprotocols::V4, subprotocols::V4_BASE64][r.next(3) as usize];
    let capacity = [64, 1000, 4096, 100_000][r.next(4) as usize];
    let (mut client, mut dropped) = open_watched(service, offer, capacity).await;
    let start = Instant::now();
    let mut got = client.buf.to_vec();
    let bound = Duration::from_secs(1000);
    let quick = Duration::from_millis(1);
    let mut acts = Vec::new();
    let mut faulty = false;
    let (mut half, mut over) = (false, false);
    while start.elapsed() < bound {
        if dropped.try_recv() != Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
            over = true;
            break;
        }
        let act = r.next(16);
        acts.push(act);
        let bytes = match act {
            0..=3 => {
                let mut bytes = vec![0; 1 + r.about() as usize];
                if let Ok(Ok(n)) = timeout(quick, client.io.read(&mut bytes)).await {
                    got.extend_from_slice(&bytes[..n]);
                }
                continue;
            }
            4..=6 => {
                sleep(Duration::from_millis(r.about())).await;
                continue;
            }
            7 => frame(true, PING, &vec![1; r.next(126) as usize]),
            8 => frame(true, PONG, &r.next(u64::MAX).to_be_bytes()),
            9 => frame(true, PONG, &vec![0xff; r.next(10) as usize]),
            10 => frame(
                true,
                BINARY,
                &on(r.next(6) as u8, &vec![1; r.next(20_000) as usize]),
            ),
            11 => {
                half = true;
                let mut bytes = frame(true, BINARY, &on(0, &[1; 5000]));
                bytes.truncate(r.next(bytes.len() as u64) as usize);
                bytes
            }
            12 if r.next(6) == 0 => {
                frame(true, CLOSE, &(1000 + 3 * r.next(2) as u16).to_be_bytes())
            }
            13 if r.next(30) == 0 => {
                faulty = true;
                vec![0xff; 20]
            }
            14 if r.next(30) == 0 => {
                let _ = timeout(quick, client.io.shutdown()).await;
                continue;
            }
            _ => continue,
        };
        match timeout(quick, client.io.write_all(&bytes)).await {
            Ok(Ok(())) => {}
            _ => half = true,
        }
    }
    // Silent from now on. Either the bound has passed, or the session is over.
    assert!(
        over || timeout(Duration::from_millis(50), dropped).await.is_ok(),
        "{seed}: still there after {:?}: {acts:?}",
        start.elapsed()
    );
    let _ = timeout(Duration::from_secs(1), client.io.read_to_end(&mut got)).await;
    let mut read = Raw::over(std::io::Cursor::new(got), offer);
    let told = read.read_to_close().await;
    let clean = read.next().await.is_none() && read.buf.is_empty();
    assert!(told.close.is_none() || clean, "{seed}: behind the Close");
    let sum: usize = told.messages.iter().map(|(_, bytes)| bytes.len()).sum();
    let sum = sum as u64;
    assert!(sum <= accepted.load(SeqCst), "{seed}");
    if told.close == Some(Some(1000)) {
        assert_eq!(
            sum,
            accepted.load(SeqCst),
            "{seed} {faulty} {half}: 1000 without all"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_a_peer_does_the_end_is_bounded_and_true() {
    for_each_seed(300, run).await;
}
