//! Sessions over HTTP/2, by extended CONNECT (RFC 8441): the service and the rules are those of
//! HTTP/1.1, and one connection carries many sessions.

use std::{io, time::Duration};

use hyper::ext::Protocol;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
};
use tower::ServiceExt;
use tower_wsstream::{BoxError, ChannelSet, EndCause, subprotocols};

use crate::support::{
    ALL, BINARY, End, PING, PONG, SOON, frame,
    http2::{connect, request, upgraded},
    on, once, read_out, session, within,
};

async fn echo(mut channels: ChannelSet) -> Result<(), BoxError> {
    let mut input = channels.take_reader(0).ok_or("no channel 0")?;
    let mut output = channels.take_writer(1).ok_or("no channel 1")?;
    drop(channels);
    loop {
        let bytes = input.fill_buf().await?;
        let n = bytes.len();
        if n == 0 {
            return Ok(());
        }
        output.write_all(bytes).await?;
        input.consume(n);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_what_it_is_over_http_1() {
    let (mut connection, _wire) = connect(session(echo)).await;
    for offer in ALL {
        let answer = connection.ask(request("/", offer)).await.unwrap();
        let selected = answer.headers().get("sec-websocket-protocol");
        let selected = selected.map_or("", |name| name.to_str().unwrap());
        assert_eq!(selected, offer);
        for name in ["connection", "upgrade", "sec-websocket-accept"] {
            assert!(!answer.headers().contains_key(name), "{name}");
        }

        let mut client = upgraded(answer, offer).await;
        client.send(0, b"hello").await.unwrap();
        let answer = within(SOON, client.next()).await.unwrap();
        assert_eq!(client.split(&answer.payload), (1, b"hello".to_vec()));
        match offer {
            subprotocols::V5 => client.close_channel(0).await.unwrap(),
            _ => client.close(Some(1000)).await.unwrap(),
        }
        let told = within(SOON, client.read_to_end()).await;
        assert_eq!((told.close, told.messages), (Some(Some(1000)), vec![]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_mebibyte_goes_both_ways_through_windows_of_64_kibibytes() {
    let (mut connection, _wire) = connect(session(echo)).await;
    let client = connection.open(subprotocols::V5).await;
    let payload: Vec<u8> = (0..1 << 20).map(|i| (i % 251) as u8).collect();
    let (mut reader, mut writer) = client.into_halves();
    let sent = payload.clone();
    let sending = tokio::spawn(async move {
        for piece in sent.chunks(10_000) {
            writer
                .write_all(&frame(true, BINARY, &on(0, piece)))
                .await?;
        }
        writer.write_all(&frame(true, BINARY, &[255, 0])).await?;
        Ok::<_, io::Error>(writer)
    });
    let told = within(SOON, reader.read_to_close()).await;
    assert_eq!(told.close, Some(Some(1000)));
    assert!(told.channel(1) == payload, "byte for byte");
    sending.await.unwrap().unwrap();
}

/// Closing works as over TCP, because an opaque proxy may stand behind the one that speaks HTTP/2.
#[tokio::test(start_paused = true)]
async fn the_stream_ends_only_behind_the_peers_close() {
    let (mut connection, _wire) = connect(session(echo)).await;
    let mut client = connection.open(subprotocols::V5).await;
    client.close_channel(0).await.unwrap();
    let told = within(SOON, client.read_to_close()).await;
    assert_eq!(told.close, Some(Some(1000)));
    let early = tokio::time::timeout(Duration::from_secs(20), client.next()).await;
    assert!(early.is_err(), "{early:?}");
    client.close(Some(1000)).await.unwrap();
    assert_eq!(within(SOON, client.next()).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_session_leaves_the_others_alone() {
    async fn stall_or_echo(channels: ChannelSet) -> Result<(), BoxError> {
        let path = channels.request().ok_or("no head")?.uri.path().to_owned();
        match path.as_str() {
            "/stalled" => {
                let session = channels.session().clone();
                session.ended().await;
                drop(channels);
                Ok(())
            }
            _ => echo(channels).await,
        }
    }
    let (mut connection, _wire) = connect(session(stall_or_echo)).await;
    let answer = connection.ask(request("/stalled", subprotocols::V5)).await;
    let stalled = upgraded(answer.unwrap(), subprotocols::V5).await;
    let (_reader, mut writer) = stalled.into_halves();
    // More than the windows and buffers hold, so this write never completes.
    let flood = tokio::spawn(async move {
        let message = frame(true, BINARY, &on(0, &[7; 16 * 1024]));
        while writer.write_all(&message).await.is_ok() {}
    });
    for _ in 0..3 {
        let mut client = connection.open(subprotocols::V5).await;
        for _ in 0..50 {
            client.send(0, &[1; 16 * 1024]).await.unwrap();
            let mut got = 0;
            while got < 16 * 1024 {
                let frame = within(SOON, client.next()).await.unwrap();
                got += frame.payload.len() - 1;
            }
        }
        client.bytes(&frame(true, PING, b"there?")).await.unwrap();
        let pong = within(SOON, client.next()).await.unwrap();
        assert_eq!((pong.opcode, &pong.payload[..]), (PONG, &b"there?"[..]));
    }
    assert!(!flood.is_finished());
    flood.abort();
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_without_a_close_is_a_lost_connection() {
    let (tell, told) = oneshot::channel();
    let service = once(move |mut channels: ChannelSet| async move {
        let mut input = channels.take_reader(0).ok_or("no channel 0")?;
        let mut output = channels.take_writer(1).ok_or("no channel 1")?;
        let n = input.fill_buf().await?.len();
        input.consume(n);
        output.write_all(b"go on").await?;
        let _ = tell.send(read_out(&mut input).await);
        Ok(())
    });
    let (mut connection, _wire) = connect(service).await;
    let mut client = connection.open(subprotocols::V5).await;
    client.send(0, b"to be cut off").await.unwrap();
    within(SOON, client.next()).await.unwrap();
    // A dropped stream is reset, which hyper reports as its end.
    drop(client);
    let (bytes, end) = within(SOON, told).await.unwrap();
    assert_eq!(bytes, b"");
    let End::Error(kind, cause) = end else {
        panic!("an upload that was cut off looks complete");
    };
    assert_eq!(kind, io::ErrorKind::ConnectionReset);
    assert!(matches!(cause, EndCause::ConnectionLost { .. }));
}

#[tokio::test(start_paused = true)]
async fn all_sessions_learn_that_their_connection_is_gone() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let service = session(move |mut channels: ChannelSet| {
        let tell = tell.clone();
        async move {
            let mut input = channels.take_reader(0).ok_or("no channel 0")?;
            let result = input.read_to_end(&mut Vec::new()).await;
            let _ = tell.send(result.unwrap_err().kind());
            Ok(())
        }
    });
    let (mut connection, wire) = connect(service).await;
    let clients = [
        connection.open(subprotocols::V5).await,
        connection.open(subprotocols::V4).await,
        connection.open("").await,
    ];
    wire.abort();
    for _ in &clients {
        let kind = within(SOON, told.recv()).await.unwrap();
        assert_eq!(kind, io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_are_answers_that_http2_can_carry() {
    let (mut connection, _wire) = connect(session(echo)).await;

    let plain = connection.get("/").await;
    assert_eq!(
        plain.status, 400,
        "there is no 426 without an Upgrade header"
    );
    assert!(plain.body.contains("WebSocket"), "{}", plain.body);

    let mut other = request("/", subprotocols::V5);
    other
        .headers_mut()
        .insert("sec-websocket-version", "8".parse().unwrap());
    let refused = connection.ask(other).await.unwrap_err();
    assert_eq!(refused.status, 400);
    assert_eq!(refused.headers["sec-websocket-version"], "13");
    assert!(refused.body.contains("\"code\":400"), "{}", refused.body);

    let refused = connection.ask(request("/", "chat")).await.unwrap_err();
    assert_eq!(refused.status, 403);

    // A tunnel to another host is not a WebSocket.
    let mut tunnel = request("/", subprotocols::V5);
    tunnel
        .extensions_mut()
        .insert(Protocol::from_static("connect-udp"));
    let refused = connection.ask(tunnel).await.unwrap_err();
    assert_eq!(refused.status, 400);

    for refused in [plain, refused] {
        for name in ["connection", "upgrade"] {
            assert!(!refused.headers.contains_key(name), "{name}");
        }
    }
}

/// hyper removes such headers with a warning, but not every server does.
#[tokio::test]
async fn refusals_have_no_connection_headers_to_be_taken_out() {
    let mut plain = http::Request::new(());
    *plain.version_mut() = http::Version::HTTP_2;
    let mut bad = request("/", subprotocols::V5).map(|_| ());
    *bad.version_mut() = http::Version::HTTP_2;
    bad.headers_mut()
        .insert("sec-websocket-version", "8".parse().unwrap());
    for request in [plain, bad] {
        let refused = session(echo).oneshot(request).await.unwrap();
        assert_eq!(refused.status(), 400);
        assert_eq!(refused.headers()["sec-websocket-version"], "13");
        for name in ["connection", "upgrade"] {
            assert!(!refused.headers().contains_key(name), "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_written_comes_before_the_close_however_the_client_reads() {
    let service = session(|mut channels: ChannelSet| async move {
        let mut output = channels.take_writer(1).ok_or("no channel 1")?;
        for _ in 0..64 {
            output.write_all(&[3; 8 * 1024]).await?;
        }
        Ok(())
    });
    let (mut connection, _wire) = connect(service).await;
    let mut client = connection.open(subprotocols::V4).await;
    // The window has been full for long when the service begins to read.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let told = within(SOON, client.read_to_end()).await;
    assert_eq!(told.channel(1).len(), 64 * 8 * 1024);
    assert_eq!(told.close, Some(Some(1000)));
}
