//! First messages, and which ports are accepted.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_number_of_the_port_comes_first_and_alone() {
    for offer in OFFERS {
        for query in [
            "ports=80,65535,258",
            "ports=80&ports=65535&ports=258",
            "&ports=80%2C65535&x=y&ports=258",
        ] {
            // Written in the first poll.
            let service = forward(async |mut port: ForwardedPort| {
                port.stream.write_all(b"hello").await?;
                port.stream
                    .write_all(&port.index.to_string().into_bytes())
                    .await?;
                Ok(())
            });
            let mut client = open(service, query, offer).await;
            let told = within(LONG, client.read_to_end()).await;
            let mut expected = Vec::new();
            for (index, port) in [80, 65535, 258].into_iter().enumerate() {
                let index = index.to_string().into_bytes();
                expected.push(vec![greeting(port), b"hello".to_vec(), index]);
                expected.push(vec![greeting(port)]);
            }
            assert_eq!(by_channel(&told.messages, 6), expected, "{offer} {query}");
            assert_eq!(told.close, Some(Some(1000)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn first_messages_wait_for_no_service() {
    let service = forward(async |port: ForwardedPort| {
        let _port = port;
        pending().await
    });
    let mut client = open(service, "ports=80,443", V4).await;
    for expected in [
        on(0, &[80, 0]),
        on(1, &[80, 0]),
        on(2, &[187, 1]),
        on(3, &[187, 1]),
    ] {
        let frame = within(LONG, client.next()).await.unwrap();
        assert_eq!((frame.fin, frame.opcode), (true, BINARY));
        assert_eq!(frame.payload, expected);
    }
}

// Negotiation.

#[tokio::test(start_paused = true)]
async fn v4_is_picked_wherever_it_is_offered() {
    let service = forward(async |_: ForwardedPort| Ok(()));
    for (offers, expected) in [
        (
            &[
                V5,
                V4,
                "v3.channel.k8s.io",
                "v2.channel.k8s.io",
                "channel.k8s.io",
            ][..],
            V4,
        ),
        (&[V5, V4], V4),
        (&["SPDY/3.1+attach.k8s.io", V4], V4),
        (&[V4_BASE64, V4], V4_BASE64),
        (&[], ""),
    ] {
        let connect = offers
            .iter()
            .fold(Connect::to("/?ports=80"), |to, offer| to.offer(*offer));
        let client = within(LONG, connect.connect(service.clone()))
            .await
            .unwrap();
        assert_eq!(client.subprotocol(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_spoken_is_refused() {
    let service = forward(async |_: ForwardedPort| Ok(()));
    for offer in [
        V5,
        "SPDY/3.1+attach.k8s.io",
        subprotocols::CHANNEL,
        "binary.k8s.io",
    ] {
        let connect = Connect::to("/?ports=80").offer(offer);
        let (status, message) = refused(connect.connect(service.clone())).await;
        assert_eq!(status, 403, "{offer}");
        assert!(message.contains(V4), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_are_no_ports_is_refused() {
    let service = forward(async |_: ForwardedPort| Ok(()));
    let many = |count: usize| format!("ports={}", vec!["80"; count].join(","));
    for (query, offer, words) in [
        ("ports=0", V4, "from 1 to 65535"),
        ("ports=65536", V4, "from 1 to 65535"),
        ("ports=80&ports=x", V4, "from 1 to 65535"),
        ("ports=", V4, "from 1 to 65535"),
        ("", V4, "ports=8080"),
        ("x=80", "", "ports=8080"),
        (&many(128), V4, "127 at most"),
        (&many(40), V4_BASE64, "39 at most"),
    ] {
        let connect = Connect::to(format!("/?{query}")).offer(offer);
        let (status, message) = refused(connect.connect(service.clone())).await;
        assert_eq!(status, 400, "{query}");
        assert!(message.contains(words), "{query}: {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_ports_as_there_can_be() {
    for (offer, count) in [("", 127), (V4, 127), (V4_BASE64, 39)] {
        let service = forward(echo);
        let ports: Vec<_> = (1..=count).map(|port| port.to_string()).collect();
        let query = format!("ports={}", ports.join(","));
        let mut client = open(service, &query, offer).await;
        let mut expected = Vec::new();
        for port in 1..=count {
            let said = payload(port, 3);
            client.send(2 * (port as u8 - 1), &said).await.unwrap();
            expected.push(vec![greeting(port), said]);
            expected.push(vec![greeting(port)]);
        }
        client.close(None).await.unwrap();
        let told = within(LONG, client.read_to_end()).await;
        let channels = usize::from(count) * 2;
        assert_eq!(by_channel(&told.messages, channels), expected, "{offer}");
    }
}
