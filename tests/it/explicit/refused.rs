//! A service that refuses after a look-up.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_a_look_up_finds_is_the_answer_and_nothing_is_spawned_for_it() {
    type Found = fn() -> BoxError;
    let cases: [(Found, u16, RejectionKind, &str); 4] = [
        (
            || Rejection::new(StatusCode::NOT_FOUND, "no container \"web\"").into(),
            404,
            RejectionKind::Custom,
            "no container \"web\"",
        ),
        (
            || Status::failure("NotFound", "pods \"web\" not found", 404).into(),
            404,
            RejectionKind::Custom,
            "pods \"web\" not found",
        ),
        (
            || io::Error::other("password=hunter2").into(),
            500,
            RejectionKind::Internal,
            "",
        ),
        (
            || tower::timeout::error::Elapsed::new().into(),
            504,
            RejectionKind::NotReady,
            "",
        ),
    ];
    for (found, code, kind, message) in cases {
        let service = explicit(move |set: ChannelSet| async move {
            look_up().await;
            assert!(!set.session().is_accepted());
            Err(found())
        });
        let start = Instant::now();
        let refusal = refused(service, &Head::to("/"), code, kind).await;
        assert!(start.elapsed() >= Duration::from_millis(2100));
        assert!(refusal.message.contains(message), "{}", refusal.message);
        assert!(!refusal.message.contains("hunter2"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_the_answer_is_a_500() {
    for (at_once, in_drop) in [(true, false), (false, false), (true, true), (false, true)] {
        struct Bomb(bool);
        impl Drop for Bomb {
            fn drop(&mut self) {
                assert!(!self.0, "again, in the drop");
            }
        }
        let service = explicit(move |_set: ChannelSet| {
            // Owned by the future, and therefore dropped with it.
            let mut bomb = Some(Bomb(in_drop));
            let mut look_up = Box::pin(look_up());
            poll_fn(move |cx| {
                let held = bomb.as_mut().is_some();
                if !at_once && look_up.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                assert!(!held, "password=hunter2");
                Poll::Ready(Ok(()))
            })
        });
        let refusal = refused(service, &Head::to("/"), 500, RejectionKind::Internal).await;
        assert!(!refusal.message.contains("hunter2"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_handle_elsewhere_learns_of_it() {
    let (gives, mut given) = mpsc::unbounded_channel();
    let service = explicit(move |mut set: ChannelSet| {
        let gives = gives.clone();
        async move {
            let handles = (
                set.take_reader(0).unwrap(),
                set.take_writer(1).unwrap(),
                set.session().clone(),
            );
            let _ = gives.send(handles);
            look_up().await;
            Err(Rejection::new(StatusCode::NOT_FOUND, "no").into())
        }
    });
    let (request, _wire) = hold(&Head::to("/")).await;
    let mut answer = tokio_test::task::spawn(service.oneshot(request));
    assert_pending!(answer.poll());
    let (mut reader, mut writer, session) = given.try_recv().unwrap();
    let mut read = tokio_test::task::spawn(async { reader.read_u8().await });
    let mut write = tokio_test::task::spawn(async { writer.write(b"never sent").await });
    let mut accept = tokio_test::task::spawn(async { session.ended().await });
    assert_pending!(read.poll());
    assert_pending!(write.poll());
    assert_pending!(accept.poll());
    let response = soon(&mut answer).await.unwrap();
    refusal(response, 404, RejectionKind::Custom).await;
    assert!(read.is_woken() && write.is_woken() && accept.is_woken());
    let error = assert_ready_err!(read.poll());
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(cause(&error), &EndCause::Aborted);
    let error = assert_ready_err!(write.poll());
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(cause(&error), &EndCause::Aborted);
    assert_eq!(assert_ready!(accept.poll()), EndCause::Aborted);
}
