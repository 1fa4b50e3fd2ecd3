//! The ends of ports and of their session.

use super::*;

/// The end of a port.
#[derive(Clone, Copy, Debug)]
enum How {
    Error,
    ErrorAtOnce,
    Panic,
    PanicAtOnce,
    PanicInCall,
    PanicInTheDropToo,
    PanicInTheError,
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("panicked in its drop, on purpose");
    }
}

#[derive(Debug)]
struct Untellable;

impl std::fmt::Display for Untellable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("panicked in its Display, on purpose")
    }
}

impl std::error::Error for Untellable {}

type Running = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

fn ends(how: How, mut port: ForwardedPort) -> Running {
    if let How::PanicInCall = how {
        panic!("panicked on purpose");
    }
    Box::pin(async move {
        if let How::ErrorAtOnce = how {
            return Err("failed on purpose".into());
        }
        if let How::PanicAtOnce = how {
            panic!("panicked on purpose");
        }
        port.stream.write_all(b"data").await?;
        match how {
            How::PanicInTheDropToo => {
                let _note = PanicsWhenDropped;
                pending::<()>().await;
            }
            How::PanicInTheError => return Err(Untellable.into()),
            How::Panic => panic!("panicked on purpose"),
            _ => {}
        }
        Err("failed on purpose".into())
    })
}

#[tokio::test(start_paused = true)]
async fn a_port_that_fails_or_panics_ends_alone_with_one_text() {
    for offer in [V4, V4_BASE64] {
        for how in [
            How::Error,
            How::ErrorAtOnce,
            How::Panic,
            How::PanicAtOnce,
            How::PanicInCall,
            How::PanicInTheError,
        ] {
            let service = forward(move |port: ForwardedPort| -> Running {
                match port.index {
                    1 => ends(how, port),
                    _ => Box::pin(echo(port)),
                }
            });
            let connect = Connect::to("/?ports=80,81,82").offer(offer);
            let mut client = within(LONG, connect.connect(service)).await.unwrap();
            let mut before = Vec::new();
            loop {
                match within(LONG, client.receive()).await {
                    Received::Message(3, payload) if payload.len() > 2 => {
                        before.push((3, payload));
                        break;
                    }
                    Received::Message(channel, payload) => before.push((channel, payload)),
                    other => panic!("{other:?}, {how:?}"),
                }
            }
            let text = str::from_utf8(&before.last().unwrap().1)
                .unwrap()
                .to_owned();
            let expected = match how {
                How::Error | How::ErrorAtOnce => "failed on purpose",
                _ => "the port's service failed",
            };
            assert_eq!(
                text,
                format!("error forwarding port 81: {expected}"),
                "{how:?}"
            );

            client.send(2, b"void").await.unwrap();
            for channel in [0, 4] {
                client.send(channel, b"alive").await.unwrap();
                let heard = within(LONG, client.receive()).await;
                assert_eq!(
                    heard,
                    Received::Message(channel, Bytes::from("alive")),
                    "{how:?}"
                );
            }
            client.close(Some(1000)).await.unwrap();
            let transcript = within(LONG, client.read_to_end()).await;
            assert_eq!(transcript.messages, [], "{how:?}");
            assert_eq!(transcript.close_code, Some(1000));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ports_that_panic_in_their_drop_do_not_abort_the_process() {
    let service = forward(|port: ForwardedPort| ends(How::PanicInTheDropToo, port));
    let connect = Connect::to("/?ports=80,81,82").offer(V4);
    let client = within(LONG, connect.connect(service)).await.unwrap();
    drop(client);
    // Each of the three panics once its grace is over.
    sleep(secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn the_session_ends_with_its_last_port() {
    let service = forward(async |mut port: ForwardedPort| {
        sleep(secs(u64::from(port.port))).await;
        port.stream.write_all(b"bye").await?;
        if port.port == 30 {
            return Err("late".into());
        }
        Ok(())
    });
    let start = Instant::now();
    let connect = Connect::to("/?ports=30,10,20").offer(V4);
    let mut client = within(LONG, connect.connect(service)).await.unwrap();
    for _ in 0..6 {
        let _greeting = client.receive().await;
    }
    for (channel, text, at) in [
        (2, "bye", 10),
        (4, "bye", 20),
        (0, "bye", 30),
        (1, "error forwarding port 30: late", 30),
    ] {
        let heard = within(LONG, client.receive()).await;
        assert_eq!(heard, Received::Message(channel, Bytes::from(text)));
        assert_eq!(start.elapsed().as_secs(), at);
    }
    // Everything has been reported.
    assert_eq!(
        client.receive().await,
        Received::Closed {
            code: Some(1000),
            reason: "".into()
        }
    );
    assert_eq!(start.elapsed().as_secs(), 30);
}

/// A Close from the client ends only its input.
#[tokio::test(start_paused = true)]
async fn what_a_port_says_after_the_clients_close_is_heard() {
    for (offer, code) in [
        ("", None),
        (V4, None),
        (V4, Some(1000)),
        (V4_BASE64, Some(1000)),
    ] {
        let service = forward(async |mut port: ForwardedPort| {
            let mut all = Vec::new();
            port.stream.read_to_end(&mut all).await?;
            sleep(secs(20)).await;
            port.stream.write_all(&all).await?;
            match port.index {
                0 => Ok(()),
                _ => Err("the target has reset".into()),
            }
        });
        let mut client = open(service, "ports=1,2", offer).await;
        client.send(0, b"one").await.unwrap();
        client.send(2, b"two").await.unwrap();
        client.close(code).await.unwrap();
        let told = within(LONG, client.read_to_end()).await;
        assert_eq!(
            by_channel(&told.messages, 4),
            [
                vec![greeting(1), b"one".to_vec()],
                vec![greeting(1)],
                vec![greeting(2), b"two".to_vec()],
                vec![
                    greeting(2),
                    b"error forwarding port 2: the target has reset".to_vec()
                ],
            ]
        );
        assert_eq!(told.close, Some(code));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_breaks_off_is_an_error_for_each_port_and_no_text() {
    let (ended, mut ends) = mpsc::unbounded_channel();
    let service = forward(move |port: ForwardedPort| {
        let ended = ended.clone();
        async move {
            let (mut reader, _writer) = port.stream.into_split();
            let (all, end) = read_out(&mut reader).await;
            let cause = port.session.ended().await;
            ended.send((all, end, cause.clone())).unwrap();
            Err(io::Error::from(cause).into())
        }
    });
    let mut client = open(service, "ports=1,2", V4).await;
    client.send(0, b"cut").await.unwrap();
    client.send(2, b"cut").await.unwrap();
    client.close(Some(1001)).await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.messages.len(), 4, "first messages alone");
    assert_eq!(told.close, Some(Some(1001)));
    for _ in 0..2 {
        let (all, end, cause) = ends.recv().await.unwrap();
        assert_eq!(all, b"cut");
        let End::Error(kind, read) = end else {
            panic!("a cut upload looks complete");
        };
        assert_eq!(kind, io::ErrorKind::ConnectionAborted);
        assert_eq!(read, cause);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_tells_each_port() {
    let service = forward_in(layer().idle_timeout(secs(60)), echo);
    let connect = Connect::to("/?ports=80,81").offer(V4);
    let client = within(LONG, connect.connect(service)).await.unwrap();
    let transcript = within(LONG, client.read_to_end()).await;
    for (index, port) in [80, 81].into_iter().enumerate() {
        let texts = texts(&transcript, index);
        assert_eq!(texts.len(), 1);
        let begin = format!("error forwarding port {port}: the session has ended");
        assert!(texts[0].starts_with(&begin), "{texts:?}");
    }
    assert_eq!(transcript.close_code, Some(1000), "all was told");
}

/// Notes its drop.
struct Dropped(mpsc::UnboundedSender<usize>, usize);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_lost_drops_every_port() {
    let (dropped, mut drops) = mpsc::unbounded_channel();
    let service = forward(move |port: ForwardedPort| {
        let note = Dropped(dropped.clone(), port.index);
        async move {
            let _note = note;
            let _port = port;
            pending().await
        }
    });
    let client = open(service, "ports=1,2,3", V4).await;
    let start = Instant::now();
    drop(client);
    let mut gone = Vec::new();
    while gone.len() < 3 {
        gone.push(within(LONG, drops.recv()).await.unwrap());
    }
    gone.sort_unstable();
    assert_eq!(gone, [0, 1, 2]);
    assert!(start.elapsed() < secs(2), "after the grace of a second");
}
