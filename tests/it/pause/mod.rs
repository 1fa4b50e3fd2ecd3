//! Reading that is paused: the peer is kept alive, and its connection is watched.

mod flood;
mod memory;
mod tcp;

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};
use tower_wsstream::{BoxError, ChannelReader, ChannelSet, EndCause, subprotocols};

use crate::support::{
    BINARY, BITE, End, LONG, PING, PONG, Raw, Watchdog, frame, on, once, open_tcp, open_with,
    read_out, within,
};

const WINDOW: usize = 256 * 1024;
const PERIOD: Duration = Duration::from_millis(600);
/// Much less than the period: an event as late as a Pong was woken by the timer of the Pong.
const AT_ONCE: Duration = Duration::from_millis(50);

/// Hands the reader of channel 0 to the test, and waits for the end.
async fn hand_over(
    mut set: ChannelSet,
    stdin: oneshot::Sender<ChannelReader>,
) -> Result<(), BoxError> {
    let reader = set.take_reader(0).unwrap();
    let ended = set.session().ended();
    let _open = set.take_writer(1);
    assert!(stdin.send(reader).is_ok());
    ended.await;
    Ok(())
}

/// Opens a session whose reader does not read, and sends more than there is room for.
async fn paused(subprotocol: &str) -> (Raw<DuplexStream>, ChannelReader) {
    let (sender, stdin) = oneshot::channel();
    let mut client = open_with(once(|set| hand_over(set, sender)), subprotocol, 4 * WINDOW).await;
    for _ in 1..WINDOW / 8192 {
        client.send(0, &[7; 8192]).await.unwrap();
    }
    // Four characters make three bytes, the last four of a message perhaps fewer.
    let last = if subprotocol == subprotocols::V4_BASE64 {
        8190
    } else {
        8192
    };
    client.send(0, &vec![7; last]).await.unwrap();
    let before = timeout(Duration::from_secs(2), client.next()).await;
    assert!(
        before.is_err(),
        "the window is full, and nothing is behind it: {before:?}"
    );
    client.send(0, b"behind").await.unwrap();
    (client, stdin.await.unwrap())
}

async fn expect_pong(client: &mut Raw<DuplexStream>) {
    let pong = within(LONG, client.next()).await.unwrap();
    assert_eq!((pong.opcode, pong.payload.len()), (PONG, 0));
}
