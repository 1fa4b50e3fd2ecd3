//! Sessions and refusals.

use super::*;

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

/// A name that Kubernetes does not define tells the client nothing about its encoding.
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
    // The service collects its input first, because this client does not read while it writes.
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
        // The second one is selected.
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
