//! Acceptances that come too late, or never.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_accept_is_a_504_that_says_what_is_missing() {
    let (drops, mut dropped) = mpsc::unbounded_channel();
    let service = layer()
        .config(config().accept_timeout(secs(4)))
        .layer(service_fn(move |set: ChannelSet| {
            let guard = Dropped(drops.clone());
            async move {
                let _guard = guard;
                set.session().ended().await;
                Ok::<_, BoxError>(())
            }
        }));
    let start = Instant::now();
    let refusal = refused(service, &Head::to("/"), 504, RejectionKind::NotReady).await;
    let at = start.elapsed();
    assert!(at >= secs(4) && at <= secs(4) + EXACT, "{at:?}");
    assert!(
        refusal.message.contains("Session::accept"),
        "{}",
        refusal.message
    );
    assert_eq!(refusal.reason, "Timeout");
    let dropped = dropped.try_recv().expect("dropped with the answer");
    assert!(dropped - start <= secs(4) + EXACT);
}

#[tokio::test(start_paused = true)]
async fn readiness_and_acceptance_share_their_time() {
    for (ready_after, accept_after, in_time) in [(3, 6, true), (6, 6, false), (0, 9, true)] {
        let places = Arc::new(Semaphore::new(1));
        let taken = Arc::clone(&places).acquire_owned().await.unwrap();
        tokio::spawn(async move {
            sleep(secs(ready_after)).await;
            drop(taken);
        });
        let service = ServiceBuilder::new()
            .layer(layer())
            .layer(GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(
                &places,
            )))
            .service_fn(move |set: ChannelSet| async move {
                sleep(secs(accept_after)).await;
                set.session().accept().await;
                Ok::<_, BoxError>(())
            });
        let (request, _wire) = hold(&Head::to("/")).await;
        let start = Instant::now();
        let response = service.oneshot(request).await.unwrap();
        let expected = secs(ready_after + accept_after).min(secs(10));
        let at = start.elapsed();
        assert!(at >= expected && at <= expected + EXACT, "{at:?}");
        if in_time {
            assert_eq!(response.status(), 101);
        } else {
            let refusal = refusal(response, 504, RejectionKind::NotReady).await;
            assert!(refusal.message.contains("Session::accept"));
            assert_eq!(places.available_permits(), 1, "its place is free again");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_acceptance_in_the_last_moment_is_one() {
    let service = layer()
        .config(config().accept_timeout(secs(4)))
        .layer(service_fn(async |set: ChannelSet| {
            sleep(Duration::from_millis(3999)).await;
            set.session().accept().await;
            sleep(secs(60)).await;
            Ok::<_, BoxError>(())
        }));
    let transcript = told(service).await;
    assert_eq!(
        transcript.close_code,
        Some(1000),
        "the timeout is over, too"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_before_the_answer_leaves_nothing_behind() {
    let (drops, mut dropped) = mpsc::unbounded_channel();
    let places = Arc::new(Semaphore::new(1));
    let service = ServiceBuilder::new()
        .layer(layer().config(config().accept_timeout(LONG)))
        .layer(GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(
            &places,
        )))
        .service_fn(move |set: ChannelSet| {
            let guard = Dropped(drops.clone());
            async move {
                let _guard = guard;
                set.session().ended().await;
                Ok::<_, BoxError>(())
            }
        });
    let before = tasks();
    let mut client = serve_in_memory(service);
    client.write_all(&Head::to("/").bytes()).await.unwrap();
    sleep(secs(20)).await;
    assert_eq!(tasks(), before + 1, "hyper's own");
    assert_eq!(places.available_permits(), 0);
    assert!(dropped.try_recv().is_err());
    drop(client);
    sleep(EXACT).await;
    assert!(dropped.try_recv().is_ok());
    assert_eq!(tasks(), before);
    assert_eq!(places.available_permits(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_dropped_takes_the_service_with_it() {
    let undecided = undecided().await;
    let before = tasks();
    let (mut writer, session) = (undecided.writer, undecided.session);
    drop(undecided.answer);
    let error = writer.write(b"x").await.unwrap_err();
    assert_eq!(cause(&error), &EndCause::Aborted);
    assert_eq!(soon(session.ended()).await, EndCause::Aborted);
    soon(session.accept()).await;
    assert!(!session.is_accepted(), "there is nothing to wait for");
    assert_eq!(tasks(), before);
}
