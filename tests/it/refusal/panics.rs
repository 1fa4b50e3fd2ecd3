//! Refusals by a panic.

use super::*;

/// The place at which a [`Bomb`] panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Clone,
    Ready,
    /// In `poll_ready`, and again when the service is dropped.
    ReadyAndDrop,
    Call,
    Poll,
    /// In the first poll, and again when the future is dropped.
    PollAndDrop,
    /// In the drop of the future, after it has returned an error.
    FailAndDrop,
}

#[derive(Debug)]
struct Bomb(At);

impl Bomb {
    fn at(&self, at: At) {
        assert!(self.0 != at, "the bomb of {at:?}");
    }
}

impl Clone for Bomb {
    fn clone(&self) -> Self {
        self.at(At::Clone);
        Self(self.0)
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.at(At::ReadyAndDrop);
        }
    }
}

impl Service<ChannelSet> for Bomb {
    type Response = ();
    type Error = BoxError;
    type Future = Fuse;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.at(At::Ready);
        self.at(At::ReadyAndDrop);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, channels: ChannelSet) -> Fuse {
        self.at(At::Call);
        Fuse(self.0, Some(channels))
    }
}

/// The future of a [`Bomb`], which owns the channels.
struct Fuse(At, #[expect(dead_code, reason = "held")] Option<ChannelSet>);

impl Future for Fuse {
    type Output = Result<(), BoxError>;

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(self.0 == At::FailAndDrop, "the bomb of {:?}", self.0);
        Poll::Ready(Err("failed".into()))
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        // Not while the thread unwinds: a panic during a panic aborts, and cannot be caught.
        let armed = matches!(self.0, At::PollAndDrop | At::FailAndDrop);
        assert!(!armed, "the bomb of {:?}, dropped", self.0);
    }
}

async fn bombed(at: At) {
    // The caller keeps the original, so only its clones panic.
    let service = std::mem::ManuallyDrop::new(layer().layer_on(Bomb(at)));
    let (request, _wire) = hold(&Head::to("/")).await;
    let before = tasks();
    let mut service = service;
    poll_fn(|cx| Service::<Request<Incoming>>::poll_ready(&mut *service, cx))
        .await
        .unwrap();
    let response = service.call(request).await.unwrap();
    assert_eq!(tasks(), before, "spawned for a handshake that is refused");
    let refusal = refusal(response, 500, RejectionKind::Internal).await;
    assert_eq!(refusal.message, SERVICE_FAILED);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_clone_is_500() {
    bombed(At::Clone).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_poll_ready_is_500() {
    bombed(At::Ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_poll_ready_and_in_the_drop_of_the_service_is_500() {
    bombed(At::ReadyAndDrop).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_call_is_500() {
    bombed(At::Call).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_first_poll_is_500() {
    bombed(At::Poll).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_first_poll_and_in_the_drop_of_the_future_is_500() {
    bombed(At::PollAndDrop).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_drop_of_a_failed_future_is_500() {
    bombed(At::FailAndDrop).await;
}

/// The call decides on the answer. A panic in the drop of the ready service is only logged.
#[tokio::test(start_paused = true)]
async fn a_panic_in_the_drop_of_the_service_after_its_call_refuses_nothing() {
    #[derive(Clone)]
    struct Late(Arc<()>);
    impl Drop for Late {
        fn drop(&mut self) {
            let alone = Arc::strong_count(&self.0) == 1;
            assert!(alone || std::thread::panicking(), "the bomb in a clone");
        }
    }
    let original = Late(Arc::new(()));
    let inner = original.clone();
    let service = layer().layer_on(service_fn(move |_: ChannelSet| {
        let _inner = &inner;
        ready(Ok::<(), BoxError>(()))
    }));
    let mut service = std::mem::ManuallyDrop::new(service);
    let (request, _wire) = hold(&Head::to("/")).await;
    assert_eq!(service.call(request).await.unwrap().status(), 101);
    std::mem::forget(original);
}
