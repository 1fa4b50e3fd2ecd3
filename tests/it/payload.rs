//! Payloads whose memory is the user's: their drop is the user's code, and may use the session.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::{
    io::AsyncWriteExt,
    sync::oneshot::{self, error::TryRecvError},
};
use tower_wsstream::{ChannelSet, ChannelWriter, session::LastWords, subprotocols};

use crate::support::{BITE, Bomb, LONG, Watchdog, once, open, open_with, within};

/// One is copied, one leaves as it is, one leaves in fragments.
const SIZES: [usize; 3] = [1, 30_000, 1 << 20];

/// Memory with a guard that is dropped with it.
struct Owner<T>(Vec<u8>, #[allow(dead_code, reason = "its drop counts")] T);

impl<T> AsRef<[u8]> for Owner<T> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn payload(len: usize, guard: impl Send + 'static) -> Bytes {
    Bytes::from_owner(Owner(vec![b'x'; len], guard))
}

/// Writes with its writer while it is dropped.
struct Goodbye(ChannelWriter);

impl Drop for Goodbye {
    fn drop(&mut self) {
        let _ = self.0.write_all(b"bye").now_or_never();
    }
}

#[tokio::test(start_paused = true)]
async fn a_payload_may_own_a_writer_of_its_session() {
    let _watchdog = Watchdog::bites_after(BITE);
    for subprotocol in [subprotocols::V5, subprotocols::V4_BASE64] {
        for len in SIZES {
            for capacity in [100, 1 << 20] {
                let service = once(move |mut set: ChannelSet| async move {
                    let mut stdout = set.take_writer(1).unwrap();
                    let stderr = set.take_writer(2).unwrap();
                    stdout.send(payload(len, Goodbye(stderr))).await?;
                    stdout.flush().await?;
                    Ok(())
                });
                let mut client = open_with(service, subprotocol, capacity).await;
                let told = within(LONG, client.read_to_end()).await;
                assert_eq!(told.channel(1).len(), len);
                assert_eq!(told.channel(2), b"bye", "{len} bytes");
                assert_eq!(told.close, Some(Some(1000)));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn last_words_may_own_a_writer_of_their_session() {
    let _watchdog = Watchdog::bites_after(BITE);
    for len in SIZES {
        let service = once(move |mut set: ChannelSet| async move {
            let mut stderr = set.take_writer(2).unwrap();
            // Or the session would wait for its end.
            stderr.shutdown().await?;
            let session = set.session().clone();
            session.say_last(move |_| Some(LastWords::new(1, payload(len, Goodbye(stderr)))));
            Ok(())
        });
        let mut client = open(service, subprotocols::V5).await;
        let told = within(LONG, client.read_to_end()).await;
        assert_eq!(told.channel(1).len(), len);
        assert_eq!(told.close, Some(Some(1000)));
    }
}

/// Nothing waits for the memory of a session that is gone: the payload owns a writer, and the
/// writer keeps the queue in which the payload waits.
#[tokio::test(start_paused = true)]
async fn a_queued_payload_does_not_outlive_the_connection() {
    let _watchdog = Watchdog::bites_after(BITE);
    // A smaller one is copied, and not kept in the first place.
    for len in &SIZES[1..] {
        let (freed, mut is_freed) = oneshot::channel::<()>();
        let service = once(move |mut set: ChannelSet| async move {
            let mut stdout = set.take_writer(1).unwrap();
            let stderr = set.take_writer(2).unwrap();
            stdout.send(payload(*len, (stderr, freed))).await?;
            std::future::pending().await
        });
        let client = open_with(service, subprotocols::V5, 10).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(is_freed.try_recv(), Err(TryRecvError::Empty));
        drop(client);
        let _ = within(LONG, is_freed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_panics_in_its_drop_harms_no_session() {
    let _watchdog = Watchdog::bites_after(BITE);
    for len in &SIZES[1..] {
        let service = once(move |mut set: ChannelSet| async move {
            let mut stdout = set.take_writer(1).unwrap();
            stdout.send(payload(*len, Bomb)).await?;
            stdout.flush().await?;
            stdout.write_all(b"!").await?;
            Ok(())
        });
        let mut client = open_with(service, subprotocols::V5, 1000).await;
        let told = within(LONG, client.read_to_end()).await;
        assert_eq!(told.channel(1).len(), len + 1);
        assert_eq!(told.close, Some(Some(1000)));
    }
}

#[tokio::test(start_paused = true)]
async fn last_words_that_panic_in_their_drop_are_said() {
    let _watchdog = Watchdog::bites_after(BITE);
    for len in SIZES {
        let service = once(move |set: ChannelSet| async move {
            let words = LastWords::new(1, payload(len, Bomb));
            set.session().say_last(move |_| Some(words));
            Ok(())
        });
        let mut client = open(service, subprotocols::V5).await;
        let told = within(LONG, client.read_to_end()).await;
        assert_eq!(told.channel(1).len(), len);
        assert_eq!(told.close, Some(Some(1000)));
    }
}
