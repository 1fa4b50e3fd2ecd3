//! The cases of Go's wsstream for connections.

use super::*;

fn go_table() -> WsStreamLayer {
    use ChannelType::{Ignore, Read, ReadWrite, Write};
    let channels = [ReadWrite, ReadWrite, Ignore, Read, Write];
    WsStreamLayer::new(ChannelProtocols::standard(channels).unwrap())
}

async fn open(subprotocol: Option<&str>) -> (tower_wsstream::testing::Client, ChannelSet) {
    let (inner, mut sets) = handing();
    let connect = Connect::to("/");
    let connect = match subprotocol {
        Some(name) => connect.offer(name),
        None => connect,
    };
    let client = connect.connect(go_table().layer(inner)).await.unwrap();
    assert_eq!(client.subprotocol(), subprotocol.unwrap_or_default());
    (client, sets.recv().await.unwrap())
}

async fn read(channel: &mut Channel) -> Vec<u8> {
    let mut buf = [0; 64];
    let n = timeout(LONG, channel.read(&mut buf))
        .await
        .expect("does not block");
    buf[..n.unwrap()].to_vec()
}

const TABLES: [Option<&str>; 3] = [
    None,
    Some(subprotocols::CHANNEL),
    Some(subprotocols::BASE64_CHANNEL),
];

#[tokio::test(start_paused = true)]
async fn channels_go_both_ways_by_their_type() -> Result<(), BoxError> {
    for subprotocol in TABLES {
        let (mut client, set) = open(subprotocol).await;
        let mut channels = set.into_channels();
        assert_eq!(channels.len(), 5);

        client.send(0, b"client").await?;
        assert_eq!(read(&mut channels[0]).await, b"client");
        channels[1].write_all(b"server").await?;
        assert_eq!(
            client.receive().await,
            Received::Message(1, Bytes::from("server"))
        );
        // The other direction works too: both channels are bidirectional.
        channels[0].write_all(b"zero").await?;
        assert_eq!(
            client.receive().await,
            Received::Message(0, Bytes::from("zero"))
        );
        client.send(1, b"one").await?;
        assert_eq!(read(&mut channels[1]).await, b"one");
        // Each channel has one direction.
        client.send(3, b"three").await?;
        assert_eq!(read(&mut channels[3]).await, b"three");
        channels[4].write_all(b"four").await?;
        assert_eq!(
            client.receive().await,
            Received::Message(4, Bytes::from("four"))
        );
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_side_that_a_channel_does_not_have_blocks_nobody() -> Result<(), BoxError> {
    for subprotocol in TABLES {
        let (mut client, set) = open(subprotocol).await;
        let mut channels = set.into_channels();
        // More than any budget, so a write that waits would show.
        let large = vec![0; 512 * 1024];
        for id in [2, 3] {
            timeout(LONG, channels[id].write_all(&large)).await??;
            timeout(LONG, channels[id].flush()).await??;
        }
        for id in [2, 4] {
            assert_eq!(read(&mut channels[id]).await, b"");
            for piece in large.chunks(32 * 1024) {
                timeout(LONG, client.send(u8::try_from(id)?, piece)).await??;
            }
            assert_eq!(read(&mut channels[id]).await, b"");
        }
        // None of it was sent, and none of it reached another channel.
        client.send(0, b"after").await?;
        assert_eq!(read(&mut channels[0]).await, b"after");
        channels[1].write_all(b"after").await?;
        assert_eq!(
            client.receive().await,
            Received::Message(1, Bytes::from("after"))
        );
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_typed_set_gives_only_the_sides_there_are() {
    let (_client, mut set) = open(None).await;
    let sides = [
        (true, true),
        (true, true),
        (false, false),
        (true, false),
        (false, true),
    ];
    for (id, (reads, writes)) in (0..).zip(sides) {
        assert_eq!(set.take_reader(id).is_some(), reads, "{id}");
        assert_eq!(set.take_writer(id).is_some(), writes, "{id}");
        assert!(
            set.take(id).is_none() && set.take_reader(id).is_none(),
            "taken: {id}"
        );
    }
    assert!(set.take(5).is_none() && set.take(255).is_none());
}

/// Compares bytes, because the client of the other tests decodes by our own rules.
#[tokio::test(start_paused = true)]
async fn messages_of_both_encodings_byte_by_byte() {
    for (subprotocol, sent, received) in [
        (
            subprotocols::CHANNEL,
            Message::binary(&b"\x00client"[..]),
            Message::binary(&b"\x01server"[..]),
        ),
        (
            subprotocols::CHANNEL,
            Message::text("\0client"),
            Message::binary(&b"\x01server"[..]),
        ),
        (
            subprotocols::BASE64_CHANNEL,
            Message::text("0Y2xpZW50"),
            Message::text("1c2VydmVy"),
        ),
        (
            subprotocols::BASE64_CHANNEL,
            Message::binary(&b"0Y2xpZW50"[..]),
            Message::text("1c2VydmVy"),
        ),
    ] {
        let (inner, mut sets) = handing();
        let mut client = serve_in_memory(go_table().layer(inner));
        client
            .write_all(&Head::to("/").offer(subprotocol).bytes())
            .await
            .unwrap();
        read_head(&mut client).await;
        let mut client = speak(client).await;
        let mut channels = sets.recv().await.unwrap().into_channels();
        client.send(sent).await.unwrap();
        assert_eq!(read(&mut channels[0]).await, b"client");
        channels[1].write_all(b"server").await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), received);
    }
}
