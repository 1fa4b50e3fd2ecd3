//! The budgets of a channel and of a session.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_full_channel_leaves_its_siblings_their_budget() {
    let _watchdog = Watchdog::bites_after(BITE);
    let (notes, mut note) = mpsc::unbounded_channel();
    let service = once(move |mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(1).unwrap();
        let mut stderr = set.take_writer(2).unwrap();
        drop(set);
        sleep(Duration::from_millis(10)).await;
        // The client does not read: the budget is accepted, and the write that exceeds it.
        for writer in [&mut stdout, &mut stderr] {
            let mut accepted = 0;
            while let Some(n) = writer.write(&[7; 1000]).now_or_never() {
                accepted += n?;
            }
            notes.send(accepted).unwrap();
        }
        Ok(())
    });
    let mut client = open_with(service, subprotocols::V4, 1000).await;
    for _ in 0..2 {
        let accepted = within(LONG, note.recv()).await.unwrap();
        let budget = 64 * 1024;
        assert!(
            (budget - 1000..budget + 3000).contains(&accepted),
            "{accepted} bytes accepted"
        );
    }
    within(LONG, client.read_to_end()).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_session_queues_is_bounded_over_all_channels() {
    let _watchdog = Watchdog::bites_after(BITE);
    let (notes, note) = oneshot::channel();
    let service = once_in(dozen(), move |mut set: ChannelSet| async move {
        let mut writers: Vec<_> = (0..DOZEN).filter_map(|id| set.take_writer(id)).collect();
        drop(set);
        sleep(Duration::from_millis(10)).await;
        let mut accepted = 0;
        for writer in &mut writers {
            while let Some(n) = writer.write(&[7; 1000]).now_or_never() {
                accepted += n?;
            }
        }
        notes.send(accepted).unwrap();
        Ok(())
    });
    let mut client = open_with(service, subprotocols::V4, 1000).await;
    let accepted = within(LONG, note).await.unwrap();
    let mark = 320 * 1024;
    assert!(
        (mark - 3000..mark + 3000).contains(&accepted),
        "{accepted} bytes accepted"
    );
    within(LONG, client.read_to_end()).await;
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_changes_its_task_while_it_waits_is_woken_there() {
    let _watchdog = Watchdog::bites_after(BITE);
    for shutdown in [false, true] {
        let service = once(move |mut set: ChannelSet| async move {
            let mut stdout = set.take_writer(1).unwrap();
            drop(set);
            while let Some(n) = stdout.write(&[7; 1000]).now_or_never() {
                n?;
            }
            // Waits in this task once, and goes on in another.
            std::future::poll_fn(|cx| {
                assert!(pin!(stdout.write(&[7; 1000])).poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            tokio::spawn(async move {
                if !shutdown {
                    stdout.write_all(b"end").await.unwrap();
                }
                stdout.shutdown().await.unwrap();
            });
            Ok(())
        });
        let mut client = open_with(service, subprotocols::V4, 1000).await;
        sleep(Duration::from_secs(1)).await;
        let told = within(LONG, client.read_to_end()).await;
        assert_eq!(told.channel(1).ends_with(b"end"), !shutdown);
        assert_eq!(told.close, Some(Some(1000)));
    }
}

/// A waker may own the task that owns the writer. If it were woken or dropped under the lock of the
/// writers, it would deadlock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_are_aborted_while_they_write_harm_nobody() {
    let _watchdog = Watchdog::bites_after(BITE);
    for round in 0..50_u64 {
        let service = once_in(dozen(), move |mut set: ChannelSet| async move {
            let tasks: Vec<_> = (1..DOZEN)
                .filter_map(|id| set.take_writer(id))
                .map(|mut writer| {
                    tokio::spawn(async move { while writer.write_all(&[7; 500]).await.is_ok() {} })
                })
                .collect();
            let last = set.take_writer(0).unwrap();
            drop(set);
            for _ in 0..round * 5 {
                tokio::task::yield_now().await;
            }
            for task in tasks {
                task.abort();
            }
            write_messages(last, 10).await;
            Ok(())
        });
        let mut client = open_with(service, subprotocols::V4, 512).await;
        let told = within(BITE, client.read_to_end()).await;
        let expected: Vec<u8> = (0..10).flat_map(|n| message(0, n)).collect();
        assert!(told.channel(0) == expected);
        assert_eq!(told.close, Some(Some(1000)));
    }
}
