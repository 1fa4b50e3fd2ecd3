//! Rounds in which much happens at once: nothing that is due gets lost.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
    time::{Instant, sleep, sleep_until, timeout},
};
use tower_wsstream::{AcceptMode, ChannelSet, policy::KeepAlive, subprotocols};

use crate::support::{
    BINARY, CLOSE, PING, PONG, Raw, Watchdog, config, frame, layer, millis, on, once_in, open_tcp,
    open_with, secs, serve, within,
};

/// Uses up tokio's cooperative budget for this poll.
async fn burn() {
    poll_fn(|cx| {
        while tokio::task::coop::has_budget_remaining() {
            let Poll::Ready(grant) = tokio::task::coop::poll_proceed(cx) else {
                break;
            };
            grant.made_progress();
        }
        Poll::Ready(())
    })
    .await;
}

/// The timer fires in a round in which the service has used up tokio's budget.
#[tokio::test(start_paused = true)]
async fn a_busy_turn_does_not_lose_the_idle_timeout() {
    let _watchdog = Watchdog::bites_after(secs(50));
    let service = once_in(layer().idle_timeout(secs(10)), async |set: ChannelSet| {
        let start = Instant::now();
        sleep_until(start + secs(10)).await;
        burn().await;
        set.session().ended().await;
        Ok(())
    });
    let mut client = open_with(service, subprotocols::V5, 1 << 16).await;
    sleep(secs(6)).await;
    client.send(0, b"x").await.unwrap();
    let told = within(secs(3600), client.next()).await.unwrap();
    assert_eq!(told.opcode, CLOSE);
}

/// A peer causes the same: it sends one burst of keystrokes to an echo that flushes, as every shell
/// does, just when the timer fires, and then vanishes.
#[tokio::test(start_paused = true)]
async fn a_burst_at_the_right_time_does_not_end_the_keep_alive() {
    let _watchdog = Watchdog::bites_after(secs(50));
    let policy = KeepAlive::every(secs(30)).timeout(secs(10));
    let service = once_in(
        layer().config(config().keep_alive(policy).idle_timeout(secs(300))),
        async |mut set: ChannelSet| {
            let (mut reader, mut writer) =
                (set.take_reader(0).unwrap(), set.take_writer(1).unwrap());
            let mut byte = [0];
            while reader.read(&mut byte).await? > 0 {
                writer.write_all(&byte).await?;
                writer.flush().await?;
            }
            Ok(())
        },
    );
    let mut client = open_with(service, subprotocols::V5, 1 << 16).await;
    let start = Instant::now();
    let burst: Vec<u8> = (0..300)
        .flat_map(|_| frame(true, BINARY, &on(0, b"x")))
        .collect();
    sleep_until(start + secs(30)).await;
    client.bytes(&burst).await.unwrap();
    // From here on the client is silent.
    let ended = timeout(secs(24 * 3600), async {
        while client.next().await.is_some() {}
    });
    assert!(ended.await.is_ok(), "a mute peer is held for ever");
}

/// Works forever in small pieces, and yields only when its budget is used up.
async fn work_for_ever() -> ! {
    loop {
        tokio::task::coop::consume_budget().await;
    }
}

/// However the service spends tokio's budget, the session's own work gets a share.
#[tokio::test(start_paused = true)]
async fn output_of_a_service_that_uses_up_every_budget_leaves() {
    let _watchdog = Watchdog::bites_after(secs(10));
    // Paused time does not advance while a task is runnable.
    let layer = layer().config(config().grace(Duration::ZERO));
    let service = once_in(layer, async |mut set: ChannelSet| {
        let mut output = set.take_writer(1).unwrap();
        output.write_all(b"x").await?;
        work_for_ever().await
    });
    let mut client = open_with(service, subprotocols::V5, 1 << 16).await;
    let said = client.next().await.unwrap();
    assert_eq!((said.opcode, &said.payload[..]), (BINARY, &on(1, b"x")[..]));
    // The client is still read, answered and closed.
    client.bytes(&frame(true, PING, b"there?")).await.unwrap();
    assert_eq!(client.next().await.unwrap().opcode, PONG);
    client.close(Some(1000)).await.unwrap();
    assert_eq!(client.next().await.unwrap().opcode, CLOSE);
}

/// A service that also flushes, which completes only once the bytes have left.
#[tokio::test(start_paused = true)]
async fn output_leaves_beside_a_branch_that_uses_up_every_budget() {
    let _watchdog = Watchdog::bites_after(secs(10));
    let service = once_in(layer(), async |mut set: ChannelSet| {
        let mut output = set.take_writer(1).unwrap();
        let say = async {
            output.write_all(&[7; 300_000]).await?;
            output.flush().await
        };
        tokio::select! {
            biased;
            _ = work_for_ever() => unreachable!(),
            said = say => said?,
        }
        Ok(())
    });
    let mut client = open_with(service, subprotocols::V5, 1 << 12).await;
    assert_eq!(client.read_to_end().await.channel(1).len(), 300_000);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_uses_up_every_budget_is_refused_when_its_time_to_accept_is_over() {
    let _watchdog = Watchdog::bites_after(secs(10));
    let layer = layer().config(
        config()
            .accept(AcceptMode::Explicit)
            .accept_timeout(Duration::ZERO),
    );
    let service = once_in(layer, async |_: ChannelSet| work_for_ever().await);
    let (near, far) = tokio::io::duplex(1 << 16);
    serve(far, service);
    let refused = Raw::handshake(near, subprotocols::V5).await;
    let answer = refused.unwrap_err();
    assert!(answer.contains("504"), "{answer}");
}

/// The service yields while it looks something up.
#[tokio::test(start_paused = true)]
async fn a_service_that_yields_before_it_accepts_does_not_block_its_thread() {
    let _watchdog = Watchdog::bites_after(secs(10));
    let found = Arc::new(AtomicBool::new(false));
    let look = Arc::clone(&found);
    let service = once_in(
        layer().config(config().accept(AcceptMode::Explicit)),
        async move |set: ChannelSet| {
            while !look.load(Ordering::Relaxed) {
                let mut yielded = false;
                poll_fn(|cx| {
                    if std::mem::replace(&mut yielded, true) {
                        return Poll::Ready(());
                    }
                    cx.waker().wake_by_ref();
                    Poll::Pending
                })
                .await;
            }
            set.session().accept().await;
            Ok(())
        },
    );
    tokio::spawn(async move {
        // Another task of the same thread answers the look-up.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        found.store(true, Ordering::Relaxed);
    });
    let mut client = open_with(service, subprotocols::V5, 1 << 16).await;
    let told = within(secs(60), client.next()).await.unwrap();
    assert_eq!(told.opcode, CLOSE);
}

/// The peer answered in time, but the answer is still in the kernel because the session was not
/// reading. Time in which the session does not read does not count.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
#[ignore = "needs real time, and a machine with some to spare"]
async fn an_answer_that_was_not_read_yet_is_an_answer() {
    let _watchdog = Watchdog::bites_after(Duration::from_secs(20));
    let policy = KeepAlive::every(millis(400)).timeout(millis(400));
    let (go, gone) = oneshot::channel();
    let service = once_in(
        layer().config(config().keep_alive(policy)),
        async move |set: ChannelSet| {
            let _ = gone.await;
            std::thread::sleep(millis(700));
            set.session().ended().await;
            Ok(())
        },
    );
    let mut client = open_tcp(service, subprotocols::V5, false).await;
    let ping = client.next().await.unwrap();
    assert_eq!(ping.opcode, PING);
    sleep(millis(50)).await;
    go.send(()).unwrap();
    sleep(millis(50)).await;
    client.bytes(&frame(true, PONG, b"")).await.unwrap();
    // The next Ping is sent, and the session goes on.
    let next = timeout(millis(3000), client.next()).await.unwrap();
    assert_eq!(
        next.map(|frame| frame.opcode),
        Some(PING),
        "it has answered"
    );
}

/// Data that waits in the kernel counts for the idle timeout in the same way.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
#[ignore = "needs real time, and a machine with some to spare"]
async fn data_that_was_not_read_yet_is_activity() {
    let _watchdog = Watchdog::bites_after(Duration::from_secs(20));
    let (go, gone) = oneshot::channel();
    let service = once_in(
        layer().idle_timeout(millis(600)),
        async move |mut set: ChannelSet| {
            let _reader = set.take_reader(0);
            let _ = gone.await;
            std::thread::sleep(millis(700));
            set.session().ended().await;
            Ok(())
        },
    );
    let mut client = open_tcp(service, subprotocols::V5, false).await;
    sleep(millis(100)).await;
    go.send(()).unwrap();
    for n in 0..10 {
        sleep(millis(100)).await;
        let sent = client.bytes(&frame(true, BINARY, &on(0, b"x"))).await;
        assert!(sent.is_ok(), "{n}");
        let end = timeout(millis(1), client.next()).await;
        assert!(end.is_err(), "data goes all the time: {end:?}");
    }
}
