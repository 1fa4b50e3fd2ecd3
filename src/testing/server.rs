//! The server of one connection, which ends with its client.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use tokio::{sync::oneshot, time::sleep};

/// The time for data to arrive that was sent before the client was lost. No call waits for it:
/// the data ends the session when it arrives, and data that a service does not read is cut off.
pub(super) const LAST: Duration = Duration::from_secs(1);

/// Ends the server when it is dropped: at once, or [`LAST`] later if a client was connected.
#[derive(Debug)]
pub(super) struct Server {
    client: Option<oneshot::Sender<Duration>>,
    last: Duration,
}

impl Server {
    /// Runs until the connection is done, or the client is gone.
    pub(super) fn run<F>(connection: F) -> Self
    where
        F: Future + Send + 'static,
    {
        let (client, gone) = oneshot::channel();
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            let mut cut = pin!(async {
                let last: Duration = gone.await.unwrap_or_default();
                if !last.is_zero() {
                    sleep(last).await;
                }
            });
            poll_fn(|cx| {
                if cut.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                // The client sees the effects of its result.
                connection.as_mut().poll(cx).map(drop)
            })
            .await;
        });
        Self {
            client: Some(client),
            last: Duration::ZERO,
        }
    }

    /// From here on there is a session for what the client sends.
    pub(super) fn connected(mut self) -> Self {
        self.last = LAST;
        self
    }

    /// Returns whether the server has ended.
    #[cfg(feature = "http2")]
    pub(super) fn is_gone(&self) -> bool {
        self.client.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            let _ = client.send(self.last);
        }
    }
}
