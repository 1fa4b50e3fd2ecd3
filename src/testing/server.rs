//! The server of one connection, which goes with its client.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use tokio::{sync::oneshot, time::sleep};

/// How long what was sent before the client was lost may take to arrive. Nobody waits for
/// it: what arrives ends the session, and what a service does not read is cut.
pub(super) const LAST: Duration = Duration::from_secs(1);

/// Lets the server go when it is dropped: at once, or with a client that was connected
/// after [`LAST`].
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
                // The client sees what matters of its result.
                connection.as_mut().poll(cx).map(drop)
            })
            .await;
        });
        Self {
            client: Some(client),
            last: Duration::ZERO,
        }
    }

    /// From here on what the client sends is somebody's.
    pub(super) fn connected(mut self) -> Self {
        self.last = LAST;
        self
    }

    /// Whether there is nobody to answer any more.
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
