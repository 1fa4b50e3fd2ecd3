use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    task::{Unconstrained, unconstrained},
    time::{Sleep, sleep},
};

/// The time limit that all stages of an opening share, counted from the first wait.
///
/// An opening that never waits needs no timer.
pub(super) struct Patience {
    accept_timeout: Duration,
    /// Unconstrained: a service that uses up tokio's budget in every poll must not keep its own
    /// deadline from expiring.
    timer: Option<Pin<Box<Unconstrained<Sleep>>>>,
}

impl Patience {
    pub(super) fn new(accept_timeout: Duration) -> Self {
        Self {
            accept_timeout,
            timer: None,
        }
    }

    /// Completes when the time has expired.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let accept_timeout = self.accept_timeout;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(unconstrained(sleep(accept_timeout))));
        timer.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use tokio::{task::coop::consume_budget, time::advance};
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn its_time_begins_with_the_first_wait_and_goes_on_through_all() {
        let mut wait = task::spawn(Patience::new(TIMEOUT));
        advance(2 * TIMEOUT).await;
        assert_pending!(wait.enter(|cx, mut patience| patience.poll(cx)));
        advance(TIMEOUT / 2).await;
        assert_pending!(wait.enter(|cx, mut patience| patience.poll(cx)));
        advance(TIMEOUT / 2 - Duration::from_millis(1)).await;
        assert!(!wait.is_woken());
        advance(Duration::from_millis(2)).await;
        assert!(wait.is_woken());
        assert_ready!(wait.enter(|cx, mut patience| patience.poll(cx)));
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_in_a_poll_that_has_used_up_its_budget() {
        let mut patience = Patience::new(TIMEOUT);
        assert!(
            poll_fn(|cx| Poll::Ready(patience.poll(cx)))
                .await
                .is_pending()
        );
        advance(2 * TIMEOUT).await;
        // Only in a task of its own is there a budget.
        let polled = tokio::spawn(poll_fn(move |cx| {
            while pin!(consume_budget()).poll(cx).is_ready() {}
            Poll::Ready(patience.poll(cx))
        }));
        assert!(polled.await.unwrap().is_ready());
    }
}
