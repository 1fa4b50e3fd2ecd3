//! The server of one connection, which ends when its client is dropped.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use tokio::{sync::oneshot, time::sleep};

/// The time in which data that was sent before the client was lost can still arrive.
///
/// No call waits for this time. The session ends when the data has arrived, and data that the
/// service does not read is cut off.
pub(super) const LAST: Duration = Duration::from_secs(1);

/// A handle that ends the server when it is dropped: at once, or after [`LAST`] if a client was
/// connected.
#[derive(Debug)]
pub(super) struct Server {
    client: Option<oneshot::Sender<Duration>>,
    last: Duration,
}

impl Server {
    /// Spawns a task that serves the connection until it ends, or until the handle is dropped.
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
                // The result is ignored, because the client observes its effects.
                connection.as_mut().poll(cx).map(drop)
            })
            .await;
        });
        Self {
            client: Some(client),
            last: Duration::ZERO,
        }
    }

    /// Notes that there is a session, for which the client may have sent data.
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
