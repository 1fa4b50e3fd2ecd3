//! The server of one connection, which goes with its client.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use tokio::{sync::oneshot, time::sleep};

/// Lets the server go when it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    client: oneshot::Sender<()>,
}

impl Server {
    /// Runs until the connection is done, at the longest for so long after its client is
    /// gone. Over HTTP/1.1 it is done with the upgrade, and what comes later is in the
    /// stream between the two.
    pub(super) fn run<F>(connection: F, after: Duration) -> Self
    where
        F: Future + Send + 'static,
    {
        let (client, gone) = oneshot::channel();
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            let mut cut = pin!(async {
                let _: Result<(), _> = gone.await;
                if !after.is_zero() {
                    sleep(after).await;
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
        Self { client }
    }

    /// Whether there is nobody to answer any more.
    #[cfg(feature = "http2")]
    pub(super) fn is_gone(&self) -> bool {
        self.client.is_closed()
    }
}
