//! From writes to messages.

use super::*;

async fn frames_of_one_message(client: &mut Raw<DuplexStream>) -> Vec<Frame> {
    let mut frames = Vec::new();
    loop {
        let frame = within(LONG, client.next()).await.unwrap();
        let last = frame.fin && matches!(frame.opcode, CONTINUATION | BINARY | TEXT);
        frames.push(frame);
        if last {
            return frames;
        }
    }
}

/// RFC 6455, 5.4.
#[tokio::test(start_paused = true)]
async fn a_large_message_leaves_in_fragments_and_a_ping_is_answered_between_them() {
    for (subprotocol, payload) in [
        (subprotocols::V5, 32 * 1024),
        (subprotocols::V4_BASE64, 32 * 1024),
    ] {
        let service = once(|mut set: ChannelSet| async move {
            let mut stdout = set.take_writer(1).unwrap();
            stdout.send(vec![7; 1 << 20]).await?;
            std::future::pending().await
        });
        let mut client = open_with(service, subprotocol, 10_000).await;
        // The first fragment is in flight when the Ping arrives.
        sleep(Duration::from_millis(10)).await;
        client.bytes(&frame(true, PING, b"now")).await.unwrap();
        let frames = frames_of_one_message(&mut client).await;
        let at = frames.iter().position(|frame| frame.opcode == PONG);
        let at = at.expect("an answer between the fragments");
        assert!(at <= 2, "behind {at} fragments");
        assert_eq!(&frames[at].payload[..], b"now");
        for (n, frame) in frames
            .iter()
            .filter(|frame| frame.opcode != PONG)
            .enumerate()
        {
            assert!(
                frame.payload.len() <= 1 + payload,
                "{}",
                frame.payload.len()
            );
            assert_eq!(frame.opcode == CONTINUATION, n > 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_takes_32_kib_at_most_and_makes_one_message_of_it() {
    for subprotocol in ALL {
        let (sizes, mut size) = mpsc::unbounded_channel();
        let service = once(move |mut set: ChannelSet| async move {
            let mut stdout = set.take_writer(1).unwrap();
            for len in [0, 1, 32 * 1024, 32 * 1024 + 1, 1 << 20] {
                sizes.send(stdout.write(&pattern(len)).await?)?;
            }
            Ok(())
        });
        let mut client = open(service, subprotocol).await;
        let told = within(LONG, client.read_to_end()).await;
        let lens: Vec<_> = told
            .messages
            .iter()
            .map(|(_, payload)| payload.len())
            .collect();
        const CUT: usize = 32 * 1024;
        // An empty write sends nothing.
        assert_eq!(lens, [1, CUT, CUT, CUT]);
        for expected in [0, 1, CUT, CUT, CUT] {
            assert_eq!(size.recv().await, Some(expected));
        }
    }
}
