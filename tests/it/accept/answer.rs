//! The 101, and what must not be seen of its request.

use super::*;

async fn answered(head: &Head) -> (String, DuplexStream) {
    let service = standard().layer(service_fn(async |_: ChannelSet| {
        pending::<Result<(), BoxError>>().await
    }));
    let mut client = serve_in_memory(service);
    client.write_all(&head.bytes()).await.unwrap();
    (read_head(&mut client).await, client)
}

#[tokio::test(start_paused = true)]
async fn the_101_says_this_and_nothing_else() {
    let head = Head::to("/").with("Sec-WebSocket-Extensions", "permessage-deflate");
    for (head, selected) in [
        (head.clone(), None),
        (
            head.clone()
                .offer("x, base64.channel.k8s.io, channel.k8s.io"),
            Some("base64.channel.k8s.io"),
        ),
        (
            head.offer("base64url.bearer.authorization.k8s.io.c2VjcmV0")
                .offer("channel.k8s.io"),
            Some("channel.k8s.io"),
        ),
    ] {
        let (answer, _client) = answered(&head).await;
        let mut lines = answer.trim_end().lines();
        assert_eq!(lines.next(), Some("HTTP/1.1 101 Switching Protocols"));
        let mut lines: Vec<_> = lines.filter(|line| !line.starts_with("date: ")).collect();
        lines.sort_unstable();
        let accept = format!("sec-websocket-accept: {}", ACCEPT);
        let selected = selected.map(|name| format!("sec-websocket-protocol: {name}"));
        let mut expected = vec!["connection: Upgrade", &accept];
        expected.extend(selected.as_deref());
        expected.push("upgrade: websocket");
        assert_eq!(lines, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn the_body_of_the_101_is_at_its_end_and_says_so() {
    let (inner, _sets) = handing();
    let (request, _wire) = hold(&Head::to("/")).await;
    let response = standard().layer(inner).oneshot(request).await.unwrap();
    assert_eq!(sorted(response.headers()).len(), 3);
    assert!(response.body().is_end_stream());
    assert_eq!(response.body().size_hint().exact(), Some(0));
}

/// Returns a handshake and the frames behind it, for one packet.
fn eager() -> Vec<u8> {
    let mut bytes = Head::to("/").bytes();
    bytes.extend(frame(true, 2, b"\x00early"));
    bytes.extend(frame(true, 2, b"\x00 frames"));
    bytes.extend(frame(true, 8, &1000u16.to_be_bytes()));
    bytes
}

fn echo_at_end() -> impl Inner {
    service_fn(async |mut set: ChannelSet| {
        let mut all = Vec::new();
        set.take_reader(0).unwrap().read_to_end(&mut all).await?;
        set.take_writer(1).unwrap().write_all(&all).await?;
        Ok::<_, BoxError>(())
    })
}

async fn hears_its_echo<T>(mut client: T)
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    client.write_all(&eager()).await.unwrap();
    let answer = read_head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"\x82\x0d\x01early frames\x88\x02\x03\xe8");
}

#[tokio::test(start_paused = true)]
async fn frames_in_the_packet_of_the_request_are_not_lost() {
    let client = serve_in_memory(standard().layer(echo_at_end()));
    timeout(LONG, hears_its_echo(client)).await.unwrap();
}

#[tokio::test]
async fn frames_in_the_packet_of_the_request_are_not_lost_over_tcp() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    serve(listener.accept().await?.0, standard().layer(echo_at_end()));
    timeout(Duration::from_secs(20), hears_its_echo(client)).await?;
    Ok(())
}

// Credentials do not show.

fn with_token(target: &str) -> Connect {
    Connect::to(target)
        .offer(format!("base64url.bearer.authorization.k8s.io.{TOKEN}"))
        .header(http::header::AUTHORIZATION, format!("Bearer {TOKEN}"))
}

fn hides(what: &impl fmt::Debug) {
    for text in [format!("{what:?}"), format!("{what:#?}")] {
        assert!(!text.contains(TOKEN) && !text.contains("Bearer"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn debug_shows_no_credential() {
    let (inner, mut sets) = handing();
    let service = standard().layer(inner);
    hides(&service);
    let accepted = with_token("/").offer(subprotocols::CHANNEL);
    let _client = accepted.connect(service.clone()).await.unwrap();
    let mut set = sets.recv().await.unwrap();
    hides(&set);
    hides(set.session());
    hides(&set.take(0));
    hides(&set.into_channels());

    let head = Head::to("/").offer(&format!("base64url.bearer.authorization.k8s.io.{TOKEN}"));
    let (request, _wire) = hold(&head).await;
    let response = service.oneshot(request).await.unwrap();
    hides(&response);
    hides(response.extensions().get::<Rejection>().unwrap());
    assert!(
        !response
            .extensions()
            .get::<Rejection>()
            .unwrap()
            .to_string()
            .contains(TOKEN)
    );
    let refusal = refusal(response, 403, RejectionKind::NoCommonSubprotocol).await;
    hides(&refusal);
}
