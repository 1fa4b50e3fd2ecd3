//! Clients that are gone.

use super::*;

/// Returns everything that a service reads from a client with this behaviour, and how it ended.
async fn read_of<F, Fut>(connect: Connect, behave: F) -> (Vec<u8>, End)
where
    F: FnOnce(Client) -> Fut,
    Fut: Future<Output = ()>,
{
    let (tell, told) = oneshot::channel();
    let service = once(move |mut channels: ChannelSet| async move {
        let mut input = channels.take_reader(0).ok_or("no channel 0")?;
        let _ = tell.send(read_out(&mut input).await);
        Ok(())
    });
    behave(soon(connect.connect(service)).await.unwrap()).await;
    within(LONG, told).await.unwrap()
}

#[track_caller]
fn assert_lost(end: End) {
    let End::Error(kind, cause) = end else {
        panic!("what was lost looks complete");
    };
    assert_eq!(kind, io::ErrorKind::ConnectionReset);
    assert!(matches!(cause, EndCause::ConnectionLost { .. }), "{cause}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_client_is_an_error_behind_all_that_it_has_sent() {
    for (offer, connect) in everything() {
        let lost = async |mut client: Client| {
            client.send(0, b"all ").await.unwrap();
            client.send(0, &[7; 100_000]).await.unwrap();
            client.lose();
        };
        let (bytes, end) = read_of(connect.clone(), lost).await;
        assert_eq!(bytes.len(), 100_004, "{offer}");
        assert_lost(end);

        // With one message, which no later one pushes out.
        let lost = async |mut client: Client| {
            client.send(0, b"all").await.unwrap();
            drop(client);
        };
        let (bytes, end) = read_of(connect.clone(), lost).await;
        assert_eq!(bytes, b"all", "{offer}");
        assert_lost(end);

        let (bytes, end) = read_of(connect, async |client| drop(client)).await;
        assert_eq!(bytes, b"");
        assert_lost(end);
    }
}

/// The server may be anywhere when the client vanishes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_lost_while_others_run_has_said_all() {
    for connect in transports("/") {
        for _ in 0..50 {
            let connect = connect.clone().offer(subprotocols::V5);
            let cut = async |client: Client| client.cut_off(0, b"half").await.unwrap();
            let (bytes, end) = read_of(connect, cut).await;
            assert_eq!(bytes, b"half");
            assert_lost(end);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_can_be_lost_inside_of_a_message() {
    // Messages of each length that matters for base64 or for the head of a frame.
    for len in [0, 1, 2, 3, 100, 125, 126, 65_535, 70_000] {
        let payload = vec![7; len];
        for (offer, connect) in everything() {
            let cut = async |mut client: Client| {
                client.send(0, b"whole ").await.unwrap();
                client.cut_off(0, &payload).await.unwrap();
            };
            let (bytes, end) = read_of(connect, cut).await;
            assert!(bytes.starts_with(b"whole "), "{offer}");
            assert!(
                bytes[6..] == payload,
                "{offer}: {} of {len}",
                bytes.len() - 6
            );
            assert_lost(end);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_of_input_stays_one_when_the_client_is_lost() {
    for connect in transports("/") {
        let ended = async |mut client: Client| {
            client.send(0, b"all").await.unwrap();
            client.close_channel(0).await.unwrap();
            client.lose();
        };
        let (bytes, end) = read_of(connect.offer(subprotocols::V5), ended).await;
        assert_eq!((&bytes[..], end), (&b"all"[..], End::Eof));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_client_that_is_gone() {
    let before = tasks();
    for (_, connect) in everything() {
        let client = soon(connect.clone().connect(session(echo))).await.unwrap();
        client.lose();
        // The service does not read, so the client's data cannot arrive.
        let never = session(async |channels: ChannelSet| {
            let _channels = channels;
            pending().await
        });
        let connect = connect.buffer(1000);
        let mut client = soon(connect.connect(never)).await.unwrap();
        let flood = async {
            loop {
                client.send(0, &[7; 16 * 1024]).await.unwrap();
            }
        };
        assert!(timeout(Duration::from_secs(1), flood).await.is_err());
        drop(client);
        sleep(AFTERWARDS).await;
        assert_eq!(tasks(), before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_gives_up_the_handshake_leaves_nothing() {
    let before = tasks();
    for connect in transports("/") {
        let (tell, mut told) = mpsc::unbounded_channel::<()>();
        let undecided = layer()
            .config(config().accept(AcceptMode::Explicit))
            .layer(service_fn(move |channels: ChannelSet| {
                let tell = tell.clone();
                async move {
                    let _held = (channels, tell);
                    pending::<Result<(), BoxError>>().await
                }
            }));
        let connecting = connect.connect(undecided);
        let given_up = timeout(Duration::from_secs(1), connecting).await;
        assert!(given_up.is_err());
        assert_eq!(within(AFTERWARDS, told.recv()).await, None, "it is dropped");
        sleep(AFTERWARDS).await;
        assert_eq!(tasks(), before);
    }
}
