//! The bytes of several ports.

use tower_wsstream::channel::tap::{Direction, Overflow, Record, Tap, TapLayer};

use super::*;

#[tokio::test]
async fn two_ports_at_once_give_back_every_byte() {
    let _watchdog = Watchdog::bites_after(BITE);
    for offer in OFFERS {
        let client = open(forward(echo), "ports=80,443", offer).await;
        let (mut client, mut write) = client.into_halves();
        let sent = [payload(80, 2 * MIB), payload(443, 3 * MIB)];
        let pieces = sent.clone();
        let sending = tokio::spawn(async move {
            // The sizes differ, so that the ports do not keep step.
            let mut left = [pieces[0].chunks(33_000), pieces[1].chunks(50_001)];
            let mut more = true;
            while more {
                more = false;
                for (chunks, channel) in left.iter_mut().zip([0, 2]) {
                    let Some(piece) = chunks.next() else { continue };
                    more = true;
                    let message = match offer {
                        V4_BASE64 => frame(true, TEXT, &base64(channel, piece)),
                        _ => frame(true, BINARY, &on(channel, piece)),
                    };
                    write.write_all(&message).await.unwrap();
                }
            }
            write.write_all(&frame(true, CLOSE, &[])).await.unwrap();
            write
        });
        let told = client.read_to_end().await;
        for (channel, port, sent) in [(0, 80, &sent[0]), (2, 443, &sent[1])] {
            let got = told.channel(channel);
            assert_eq!(got.len(), sent.len() + 2);
            assert!(
                got[..2] == greeting(port) && got[2..] == **sent,
                "{offer} {port}"
            );
            assert_eq!(told.channel(channel + 1), greeting(port));
        }
        assert_eq!(told.close, Some(None), "the client's own");
        drop(sending.await.unwrap());
    }
}

#[tokio::test]
async fn a_refused_port_gets_its_text_and_the_other_goes_on() {
    let _watchdog = Watchdog::bites_after(BITE);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let (mut from, mut to) = socket.split();
        tokio::io::copy(&mut from, &mut to).await.unwrap();
    });
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bad = closed.local_addr().unwrap().port();
    drop(closed);

    let service = forward(async |mut port: ForwardedPort| {
        let mut target = TcpStream::connect(("127.0.0.1", port.port)).await?;
        copy_bidirectional(&mut port.stream, &mut target).await?;
        Ok(())
    });
    let mut client = open(service, &format!("ports={bad},{good}"), V4).await;
    let mut heard = Vec::new();
    while heard.len() < 5 {
        heard.push(client.next().await.unwrap().payload);
    }
    let text = heard
        .iter()
        .filter(|payload| payload[0] == 1)
        .nth(1)
        .unwrap();
    let text = str::from_utf8(&text[1..]).unwrap();
    assert!(
        text.starts_with(&format!("error forwarding port {bad}: ")),
        "{text}"
    );
    assert!(text.to_lowercase().contains("refused"), "{text}");

    client.send(0, b"into the void").await.unwrap();
    client.send(2, b"still here").await.unwrap();
    assert_eq!(client.next().await.unwrap().payload, on(2, b"still here"));
    client.close(Some(1000)).await.unwrap();
    let told = client.read_to_end().await;
    assert_eq!((told.messages, told.close), (vec![], Some(Some(1000))));
}

#[tokio::test(start_paused = true)]
async fn a_stalled_port_stalls_only_itself() {
    const WINDOW: usize = 256 * 1024;
    let service = forward(async |port: ForwardedPort| match port.index {
        0 => {
            let _unread = port;
            pending().await
        }
        _ => echo(port).await,
    });
    for offer in OFFERS {
        let mut client = open(service.clone(), "ports=1,2", offer).await;
        for _ in 0..WINDOW / 8192 {
            client.send(0, &[7; 8192]).await.unwrap();
        }
        client.send(2, b"hello").await.unwrap();
        for _ in 0..4 {
            message(&mut client).await;
        }
        let heard = message(&mut client).await;
        assert_eq!(heard, (2, b"hello".to_vec()), "{offer}");
    }
}

/// A port whose service has dropped its reader does not block the others, however much arrives for
/// it.
#[tokio::test(start_paused = true)]
async fn a_port_that_only_writes_holds_nobody_up() {
    let service = forward(async |port: ForwardedPort| match port.index {
        0 => {
            let (reader, _writer) = port.stream.into_split();
            drop(reader);
            pending().await
        }
        _ => echo(port).await,
    });
    let mut client = open(service, "ports=1,2", V4).await;
    for _ in 0..64 {
        within(LONG, client.send(0, &[7; 32 * 1024])).await.unwrap();
    }
    client.send(2, b"hello").await.unwrap();
    for _ in 0..4 {
        message(&mut client).await;
    }
    assert_eq!(message(&mut client).await, (2, b"hello".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn a_tap_records_the_number_of_a_port() {
    let (tap, mut records) = Tap::new(Overflow::Backpressure);
    let tap = Arc::new(Mutex::new(Some(tap)));
    let service = ServiceBuilder::new()
        .layer(layer())
        .layer(TapLayer::new(move |_: &_| tap.lock().unwrap().take()))
        .layer(PortForwardLayer::new())
        .service_fn(async |port: ForwardedPort| {
            Err::<(), BoxError>(port.session.ended().await.into())
        });
    let connect = Connect::to("/?ports=443").offer(V4);
    let _client = within(LONG, connect.connect(service)).await.unwrap();
    for channel in [0, 1] {
        let record = within(LONG, records.next()).await.expect("a record");
        let Record::Payload(number) = record else {
            panic!("a payload: {record:?}");
        };
        assert_eq!(
            (number.channel, number.direction),
            (channel, Direction::Outbound)
        );
        assert_eq!(*number.bytes, greeting(443));
    }
}
