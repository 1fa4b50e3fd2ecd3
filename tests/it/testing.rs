//! The client end that users test their services with: the same over each transport.

use std::{
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::Router;
use bytes::Bytes;
use http::{Method, StatusCode, Version, header};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_wsstream::{
    AcceptMode, BoxError, ChannelProtocolConfig, ChannelProtocols, ChannelSet,
    ChannelType::{Read, Write},
    Encoding, EndCause, WsStreamLayer,
    policy::Limits,
    reader::{ReaderProtocols, WsReaderLayer},
    remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
    subprotocols,
    testing::{Client, Connect, Frame, Received, Refused},
};

use crate::support::{
    AFTERWARDS, ALL, End, LONG, config, echo, layer, once, protocols, read_out, session, soon,
    tasks, transports, within,
};

/// The same with each subprotocol, and none.
fn everything() -> impl Iterator<Item = (&'static str, Connect)> {
    let offering = |offer: &'static str| {
        transports("/").map(|connect| match offer {
            "" => (offer, connect),
            _ => (offer, connect.offer(offer)),
        })
    };
    ALL.into_iter().flat_map(offering)
}

async fn end_input(client: &mut Client) {
    match client.subprotocol() {
        subprotocols::V5 => client.close_channel(0).await.unwrap(),
        _ => client.close(Some(1000)).await.unwrap(),
    }
}

// What is said.

#[tokio::test(start_paused = true)]
async fn a_session_is_the_same_over_each_transport_and_subprotocol() {
    for (offer, connect) in everything() {
        let mut client = soon(connect.connect(session(echo))).await.unwrap();
        assert_eq!(client.subprotocol(), offer);
        client.send(0, b"hello").await.unwrap();
        let hello = Received::Message(1, Bytes::from("hello"));
        assert_eq!(soon(client.receive()).await, hello, "{offer}");
        client.send(0, b"").await.unwrap();
        client.send(0, &[0, 255, 10]).await.unwrap();
        end_input(&mut client).await;
        let transcript = soon(client.read_to_end()).await;
        assert_eq!(transcript.channel(1), [0, 255, 10], "{offer}");
        assert_eq!(
            (transcript.closed, transcript.close_code),
            (true, Some(1000))
        );
        assert_eq!(transcript.invalid, 0);
    }
}

/// The client cannot know what a name means that is not one of Kubernetes'.
#[tokio::test(start_paused = true)]
async fn a_table_of_ones_own_is_spoken_in_its_encodings() {
    const TABLE: [(&str, Encoding); 3] = [
        ("", Encoding::Base64),
        ("v1.text.example.com", Encoding::Base64),
        ("v1.bytes.example.com", Encoding::Binary),
    ];
    let protocols = TABLE
        .into_iter()
        .fold(ChannelProtocols::builder(), |table, (name, encoding)| {
            table.protocol(name, ChannelProtocolConfig::new(encoding, [Read, Write]))
        })
        .build()
        .unwrap();
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(protocols))
        .service_fn(echo);
    let app = Router::new().route_service("/", service);
    for (offer, _) in TABLE {
        for connect in transports("/") {
            let connect = match offer {
                "" => connect,
                _ => connect.offer(offer),
            };
            let mut client = soon(connect.connect(app.clone())).await.unwrap();
            client.send(0, &[0, 255, 10]).await.unwrap();
            let echo = Received::Message(1, Bytes::from_static(&[0, 255, 10]));
            assert_eq!(soon(client.receive()).await, echo, "{offer:?}");
            client.close(None).await.unwrap();
            let transcript = soon(client.read_to_end()).await;
            assert_eq!((transcript.messages.len(), transcript.invalid), (0, 0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn messages_that_name_no_channel_are_those_of_channel_0() {
    let table = [
        ("", Encoding::Binary),
        (ReaderProtocols::BASE64_BINARY, Encoding::Base64),
        ("v1.base64.example.com", Encoding::Base64),
    ];
    let protocols = ReaderProtocols::new(table).unwrap();
    let service = ServiceBuilder::new()
        .layer(WsReaderLayer::new().protocols(protocols).ping(true))
        .service_fn(async |_: http::Request<hyper::body::Incoming>| {
            let body = http_body_util::Full::new(Bytes::from("a log"));
            Ok::<_, std::convert::Infallible>(http::Response::new(body))
        });
    for (offer, _) in table {
        for connect in transports("/") {
            let connect = match offer {
                "" => connect,
                _ => connect.offer(offer),
            };
            let client = soon(connect.connect(service.clone())).await.unwrap();
            let transcript = soon(client.read_to_end()).await;
            let messages = [(0, Bytes::new()), (0, Bytes::from("a log"))];
            assert_eq!(transcript.messages, messages, "{offer:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_mebibyte_comes_back_through_a_small_buffer() {
    // Gathers first: this client does not read while it writes.
    async fn gather(mut channels: ChannelSet) -> Result<(), BoxError> {
        let mut all = Vec::new();
        let mut input = channels.take_reader(0).ok_or("no channel 0")?;
        input.read_to_end(&mut all).await?;
        let mut output = channels.take_writer(1).ok_or("no channel 1")?;
        output.write_all(&all).await?;
        Ok(())
    }
    let payload: Vec<u8> = (0..1 << 20).map(|i| (i % 251) as u8).collect();
    for connect in transports("/") {
        let connect = connect.offer(subprotocols::V5).buffer(1000);
        let mut client = soon(connect.connect(session(gather))).await.unwrap();
        for piece in payload.chunks(30_000) {
            soon(client.send(0, piece)).await.unwrap();
        }
        client.close_channel(0).await.unwrap();
        let transcript = soon(client.read_to_end()).await;
        assert!(transcript.channel(1) == payload, "byte for byte");
        assert_eq!(transcript.close_code, Some(1000));
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_tells_its_exit_status() {
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()))
        .layer(RemoteCommandLayer::new())
        .service_fn(async |mut command: RemoteCommand| {
            let mut stderr = command.stderr.take().ok_or("no stderr")?;
            stderr.write_all(b"no such file").await?;
            Ok::<_, BoxError>(ExitStatus::from_code(2))
        });
    for connect in transports("/exec?command=ls&stdout=true&stderr=true") {
        let connect = connect.offer(subprotocols::V4);
        let client = soon(connect.connect(service.clone())).await.unwrap();
        let transcript = soon(client.read_to_end()).await;
        assert_eq!(transcript.channel(2), b"no such file");
        assert_eq!(transcript.exit_code(), Some(2));
        assert!(!transcript.status().unwrap().is_success());
    }
}

#[tokio::test(start_paused = true)]
async fn the_handshake_is_the_only_request_and_says_what_it_was_told_to() {
    let requests = Arc::new(AtomicUsize::new(0));
    for (connect, method, version) in [
        (Connect::to("/a/b?c=d"), Method::GET, Version::HTTP_11),
        (
            Connect::to("/a/b?c=d").http2(),
            Method::CONNECT,
            Version::HTTP_2,
        ),
    ] {
        let count = Arc::clone(&requests);
        let session = session(move |mut channels: ChannelSet| {
            let (method, version) = (method.clone(), version);
            async move {
                let head = channels.take_request().ok_or("no head")?;
                assert_eq!((&head.method, head.version), (&method, version));
                assert_eq!(head.uri.path_and_query().unwrap(), "/a/b?c=d");
                let cookies: Vec<_> = head.headers.get_all(header::COOKIE).iter().collect();
                assert_eq!(cookies, ["a=1", "b=2"]);
                let forbidden = [header::HOST, header::CONNECTION, header::UPGRADE];
                let found = forbidden.iter().any(|name| head.headers.contains_key(name));
                assert_eq!(found, version == Version::HTTP_11);
                Ok(())
            }
        });
        let service = service_fn(move |request| {
            count.fetch_add(1, Ordering::Relaxed);
            session.clone().oneshot(request)
        });
        // The second is the one that is spoken.
        let client = connect
            .offer("chat")
            .offer(subprotocols::V5)
            .header(header::COOKIE, "a=1")
            .header(header::COOKIE, "b=2")
            .connect(service);
        let client = soon(client).await.unwrap();
        assert_eq!(client.subprotocol(), subprotocols::V5);
        let transcript = soon(client.read_to_end()).await;
        assert_eq!(transcript.close_code, Some(1000), "what it asserts holds");
    }
    assert_eq!(requests.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_holds_the_answer() {
    let app = Router::new().route_service("/", session(echo));
    for connect in transports("/") {
        let connect = connect.offer("chat");
        let error = soon(connect.connect(app.clone())).await.unwrap_err();
        let refused = error.downcast::<Refused>().expect("an answer");
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        assert_eq!(refused.headers()[header::CONTENT_TYPE], "application/json");
        let status = refused.refusal().expect("a Status");
        assert_eq!(status.code(), Some(403));
        let shown = format!(
            "the handshake was refused with 403 Forbidden: {}",
            status.message().unwrap()
        );
        assert_eq!(refused.to_string(), shown);
    }
    for connect in transports("/nowhere") {
        let error = soon(connect.connect(app.clone())).await.unwrap_err();
        let refused = error.downcast::<Refused>().expect("an answer");
        assert_eq!(refused.status(), StatusCode::NOT_FOUND);
        assert_eq!((refused.body(), refused.refusal()), (&b""[..], None));
    }
}

#[tokio::test(start_paused = true)]
async fn what_breaks_the_rules_can_be_sent() {
    for connect in transports("/") {
        let connect = connect.offer(subprotocols::V4_BASE64);
        let mut client = soon(connect.connect(session(echo))).await.unwrap();
        client.send_frame(Frame::text("0a=b")).await.unwrap();
        let transcript = soon(client.read_to_end()).await;
        assert_eq!(transcript.close_code, Some(1007));
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_cannot_be_sent_names_its_cause_and_no_secret() {
    let authorization = http::header::AUTHORIZATION;
    for (connect, cause) in [
        (Connect::to("exec"), "the path \"exec\" does not begin"),
        (Connect::to("/a b"), "the path \"/a b\" cannot be requested"),
        (
            Connect::to("/").header(authorization, "Bearer geheim\n"),
            "the value of the header authorization cannot be sent",
        ),
        (
            Connect::to("/").offer("geheim\n"),
            "the value of the header sec-websocket-protocol cannot be sent",
        ),
    ] {
        let error = connect.connect(session(echo)).await.unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with(cause), "{error}");
        assert!(!error.contains("geheim"), "{error}");
    }
}

// Clients that are gone.

/// What a service reads of a client that does as the function says.
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

        // With one message, which has no other to push it.
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

/// Where the server may be anywhere when its client goes.
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
    // Of each length that base64 treats in its own way, and of each of a frame's.
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
        // Whose service does not read, so that what it sends cannot arrive.
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

// Time.

#[tokio::test(start_paused = true)]
async fn a_client_that_stalls_makes_the_service_wait_and_loses_nothing() {
    const MUCH: usize = 4 << 20;
    for connect in transports("/") {
        let (tell, mut told) = oneshot::channel();
        let service = once(move |mut channels: ChannelSet| async move {
            let mut output = channels.take_writer(1).ok_or("no channel 1")?;
            output.write_all(&vec![7; MUCH]).await?;
            let _ = tell.send(());
            Ok(())
        });
        let connect = connect.offer(subprotocols::V4).buffer(10_000);
        let mut client = soon(connect.connect(service)).await.unwrap();
        let start = Instant::now();
        client.stall(Duration::from_secs(60)).await;
        assert_eq!(start.elapsed().as_secs(), 60);
        assert!(told.try_recv().is_err(), "it cannot be done");
        let transcript = soon(client.read_to_end()).await;
        assert_eq!(transcript.channel(1).len(), MUCH);
        assert_eq!(transcript.close_code, Some(1000));
    }
}

#[tokio::test(start_paused = true)]
async fn hours_are_over_at_once_and_exactly() {
    const IDLE: Duration = Duration::from_secs(4 * 60 * 60);
    for connect in transports("/") {
        let service = layer().idle_timeout(IDLE).layer(service_fn(echo));
        let connect = connect.offer(subprotocols::V5);
        let mut client = connect.connect(service).await.unwrap();
        client.send(0, b"hello").await.unwrap();
        client.receive().await;
        let start = Instant::now();
        let transcript = timeout(2 * IDLE, client.read_to_end()).await.unwrap();
        assert_eq!(transcript.close_code, Some(1001));
        let late = start.elapsed() - IDLE;
        assert!(late < Duration::from_secs(2), "{late:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_upgrade_is_told_as_each_transport_can() {
    // A route that hides the upgrade, as a layer may that rebuilds requests.
    for (connect, code) in transports("/").into_iter().zip([426, 400]) {
        let session = session(echo);
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let version = request.version();
            let mut plain = http::Request::new(request.into_body());
            *plain.version_mut() = version;
            session.clone().oneshot(plain)
        });
        let error = soon(connect.connect(service)).await.unwrap_err();
        let refused = error.downcast::<Refused>().expect("an answer");
        assert_eq!(refused.status(), code);
    }
}

/// Pings keep the clock moving: without a bound of the client's own the test would run,
/// and burn a core, for ever.
#[tokio::test(start_paused = true)]
async fn a_wait_for_what_never_comes_ends() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    // Reads nothing, and goes on for ever.
    let service = WsStreamLayer::new(protocols())
        .limits(Limits::default().stall_reserve(0))
        .layer(service_fn(async |channels: ChannelSet| {
            let _channels = channels;
            pending::<Result<(), BoxError>>().await
        }));
    let assert_over = |start: Instant, limit: Duration, text: String| {
        assert_eq!(start.elapsed().as_secs(), limit.as_secs(), "{text}");
        assert!(text.contains("testing::Connect::call_timeout"), "{text}");
    };
    for connect in transports("/") {
        let mut client = soon(connect.connect(service.clone())).await.unwrap();
        let start = Instant::now();
        let receiving = tokio::spawn(async move { client.receive().await });
        let panic = timeout(2 * DAY, receiving).await.unwrap().unwrap_err();
        assert_over(start, DAY, panic.to_string());
    }

    const MINUTE: Duration = Duration::from_secs(60);
    for connect in transports("/") {
        let connect = connect.buffer(1000).call_timeout(MINUTE);
        let client = async || {
            soon(connect.clone().connect(service.clone()))
                .await
                .unwrap()
        };

        let reading = client().await.read_to_end();
        let start = Instant::now();
        let reading = timeout(DAY, tokio::spawn(reading)).await.unwrap();
        assert_over(start, MINUTE, reading.unwrap_err().to_string());

        let mut full = client().await;
        let flood = vec![7; 1 << 20];
        // Over HTTP/2 there is room for a few writes of any size.
        let (start, error) = loop {
            let start = Instant::now();
            let sent = timeout(DAY, full.send(0, &flood)).await.unwrap();
            if let Err(error) = sent {
                break (start, error);
            }
        };
        assert_over(start, MINUTE, error.to_string());

        // Not even the handshake is answered.
        let silent = service_fn(|_: http::Request<hyper::body::Incoming>| {
            pending::<Result<http::Response<axum::body::Body>, BoxError>>()
        });
        let start = Instant::now();
        let answer = timeout(DAY, connect.connect(silent)).await.unwrap();
        assert_over(start, MINUTE, answer.unwrap_err().to_string());
    }

    let connect = Connect::to("/").buffer(1000).call_timeout(MINUTE);
    let client = soon(connect.connect(service)).await.unwrap();
    let start = Instant::now();
    let cut = timeout(DAY, client.cut_off(0, &[7; 1 << 20])).await;
    assert_over(start, MINUTE, cut.unwrap().unwrap_err().to_string());
}

#[tokio::test(start_paused = true)]
async fn a_wait_of_days_can_be_asked_for() {
    const DAYS: Duration = Duration::from_secs(3 * 24 * 60 * 60);
    for connect in transports("/") {
        let service = WsStreamLayer::new(protocols())
            .idle_timeout(DAYS)
            .layer(service_fn(echo));
        let connect = connect.call_timeout(None);
        let mut client = connect.connect(service).await.unwrap();
        assert_eq!(
            client.receive().await,
            Received::Closed {
                code: Some(1001),
                reason: "idle timeout".into()
            }
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_channel_is_refused_where_there_is_none() {
    for offer in ALL {
        let service = layer().layer(service_fn(echo));
        let connect = match offer {
            "" => Connect::to("/"),
            offer => Connect::to("/").offer(offer),
        };
        let client = connect.connect(service).await;
        let closed = client.unwrap().close_channel(0).await;
        assert_eq!(
            closed.is_ok(),
            offer == subprotocols::V5,
            "{offer}: {closed:?}"
        );
    }
}
