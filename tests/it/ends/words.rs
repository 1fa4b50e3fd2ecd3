//! Last words, and when the outcome counts as reported.

use super::*;

/// The closure that is registered as last words.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Words {
    Unregistered,
    None,
    Silence,
    Some,
    Panic,
}

fn register(session: &Session, words: Words, outcomes: Arc<Mutex<Vec<String>>>) {
    if words == Words::Unregistered {
        return;
    }
    session.say_last(move |outcome| {
        outcomes.lock().unwrap().push(match outcome {
            Outcome::Failed(error) => format!("Failed({error})"),
            Outcome::Ended(cause) => format!("Ended({cause})"),
            other => format!("{other:?}"),
        });
        match words {
            Words::Unregistered | Words::None => None,
            Words::Silence => Some(LastWords::silence()),
            Words::Some => Some(LastWords::new(3, "told")),
            Words::Panic => panic!("panicked on purpose"),
        }
    });
}

#[tokio::test(start_paused = true)]
async fn close_says_1000_if_and_only_if_the_outcome_was_told() {
    for words in [
        Words::Unregistered,
        Words::None,
        Words::Silence,
        Words::Some,
        Words::Panic,
    ] {
        for how in [How::Ok, How::Err, How::Panic] {
            let context = format!("{words:?}, {how:?}");
            let outcomes = Arc::default();
            let noted = Arc::clone(&outcomes);
            let service = once(move |mut set: ChannelSet| async move {
                register(set.session(), words, noted);
                let mut stdout = set.take_writer(1).unwrap();
                stdout.write_all(b"out").await?;
                sleep(millis(10)).await;
                finish(how).await
            });
            let told = within(LONG, open(service, subprotocols::V4).await.read_to_end()).await;
            let mut messages = vec![(1, b"out".to_vec())];
            if words == Words::Some {
                messages.push((3, b"told".to_vec()));
            }
            assert_eq!(told.messages, messages, "{context}");
            let code = match words {
                Words::Unregistered => own_code(how),
                Words::Silence | Words::Some => 1000,
                Words::None | Words::Panic => 1011,
            };
            assert_eq!(told.close, Some(Some(code)), "{context}");
            let expected: &[&str] = match (words, how) {
                (Words::Unregistered, _) => &[],
                (_, How::Ok) => &["Returned"],
                (_, How::Err) => &["Failed(failed on purpose)"],
                (_, _) => &["Panicked"],
            };
            assert_eq!(*outcomes.lock().unwrap(), expected, "{context}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn last_words_come_behind_all_output_whatever_the_budgets_say() {
    for subprotocol in ALL {
        let words = vec![b'w'; 100_000];
        let expected = words.clone();
        let layer = layer().limits(Limits::default().send_budget(1).high_water(1));
        let service = once_in(layer, move |mut set: ChannelSet| async move {
            set.session()
                .say_last(move |_| Some(LastWords::new(3, words)));
            let mut stdout = set.take_writer(1).unwrap();
            let mut stderr = set.take_writer(2).unwrap();
            drop(set);
            stdout.send(vec![b'o'; 50_000]).await?;
            stderr.send(vec![b'e'; 50_000]).await?;
            Ok(())
        });
        let mut client = open_with(service, subprotocol, 777).await;
        let told = within(LONG, client.read_to_end()).await;
        let channels: Vec<u8> = told.messages.iter().map(|(channel, _)| *channel).collect();
        assert_eq!(channels, [1, 2, 3], "one message each, in order");
        assert_eq!(told.messages[2].1, expected);
        assert_eq!(told.close, Some(Some(1000)));
    }
}

#[tokio::test(start_paused = true)]
async fn last_words_for_a_service_that_was_dropped() {
    for (subprotocol, after) in [(subprotocols::V4, secs(30)), (subprotocols::V5, secs(1))] {
        let outcomes = Arc::default();
        let noted = Arc::clone(&outcomes);
        let service = once(move |set: ChannelSet| async move {
            register(set.session(), Words::Some, noted);
            let _held = set;
            std::future::pending().await
        });
        let mut client = open(service, subprotocol).await;
        let start = Instant::now();
        client.close(Some(1000)).await.unwrap();
        let told = within(LONG, client.read_to_end()).await;
        assert_after(start, after);
        assert_eq!(
            (told.text(3).as_str(), told.close),
            ("told", Some(Some(1000)))
        );
        assert_eq!(
            *outcomes.lock().unwrap(),
            ["Ended(the peer closed with code 1000)"]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn no_last_words_after_a_fault_of_the_peer_or_a_loss() {
    for what in [Act::ReservedBit, Act::TooLarge, Act::NotUtf8, Act::Drop] {
        let outcomes = Arc::default();
        let noted = Arc::clone(&outcomes);
        let (note, mut dropped) = drop_note();
        let layer = layer().limits(Limits::default().max_frame(LARGEST));
        let service = once_in(layer, move |mut set: ChannelSet| async move {
            let _note = note;
            register(set.session(), Words::Some, noted);
            let mut stdout = set.take_writer(1).unwrap();
            set.session().ended().await;
            let _ = stdout.write_all(b"late").await;
            Ok(())
        });
        let client = open(service, subprotocols::V5).await;
        if let Some(mut client) = act(what, client).await {
            let told = within(LONG, client.read_to_end()).await;
            assert_eq!(told.messages, []);
            assert!(told.close.is_some());
        }
        soon(dropped.recv()).await.unwrap();
        sleep(secs(5)).await;
        assert!(outcomes.lock().unwrap().is_empty(), "{what:?}");
    }
}

/// The closure may own the session, which owns it.
#[tokio::test(start_paused = true)]
async fn last_words_that_were_never_said_are_dropped_with_the_session() {
    for what in [Act::Drop, Act::ReservedBit, Act::Close(Some(1000))] {
        for late in [false, true] {
            let alive = Arc::new(());
            let held = Arc::clone(&alive);
            let (note, mut dropped) = drop_note();
            let service = once(move |set: ChannelSet| async move {
                let _note = note;
                let session = set.session().clone();
                let register = || {
                    let own = session.clone();
                    session.say_last(move |_| {
                        let _ = (&held, own.id());
                        None
                    });
                };
                if late {
                    session.ended().await;
                    register();
                } else {
                    register();
                    session.ended().await;
                }
                if what == Act::Close(Some(1000)) {
                    session.close(4000, "")?;
                    sleep(millis(10)).await;
                }
                Ok(())
            });
            let client = open(service, subprotocols::V5).await;
            let client = act(what, client).await;
            soon(dropped.recv()).await.unwrap();
            sleep(secs(10)).await;
            drop(client);
            sleep(secs(100)).await;
            assert_eq!(
                Arc::strong_count(&alive),
                1,
                "{what:?}, registered late: {late}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn last_words_on_a_channel_that_does_not_exist_are_not_told() {
    let service = once(|set: ChannelSet| async move {
        set.session().say_last(|_| Some(LastWords::new(77, "told")));
        Ok(())
    });
    let told = within(LONG, open(service, subprotocols::V4).await.read_to_end()).await;
    assert_eq!((told.messages, told.close), (vec![], Some(Some(1011))));
}

#[tokio::test(start_paused = true)]
async fn the_second_last_words_replace_the_first() {
    let service = once(|set: ChannelSet| async move {
        set.session().say_last(|_| Some(LastWords::new(3, "first")));
        set.session()
            .say_last(|_| Some(LastWords::new(3, "second")));
        Ok(())
    });
    let told = within(LONG, open(service, subprotocols::V5).await.read_to_end()).await;
    assert_eq!(told.messages, [(3, b"second".to_vec())]);
}

/// The closing deadline starts once the last words have been said, not when the session began to
/// say them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs real time: a paused clock does not see a closure that blocks"]
async fn the_time_that_last_words_take_is_not_the_peers() {
    let limits = Limits::default().min_read_rate(1 << 20);
    let layer = layer().config(config().close_limit(secs(1)).limits(limits));
    let service = once_in(layer, |mut set: ChannelSet| async move {
        set.session().say_last(|_| {
            std::thread::sleep(millis(1500));
            Some(LastWords::new(3, "told"))
        });
        set.take_writer(1).unwrap().write_all(&[7; 1000]).await?;
        Ok(())
    });
    // Smaller than the output, so the Close cannot leave in one write.
    let mut client = open_with(service, subprotocols::V4, 64).await;
    let told = within(secs(30), client.read_to_end()).await;
    assert_eq!(told.channel(1), [7; 1000]);
    assert_eq!(told.text(3), "told");
    assert_eq!(told.close, Some(Some(1000)));
}
