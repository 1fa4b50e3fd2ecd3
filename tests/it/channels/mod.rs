//! The bytes of a channel, and the effect of a channel on its siblings.

mod close;
mod handles;
mod messages;
mod streams;
mod windows;
mod writes;

use std::{
    io,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tower_wsstream::{
    BoxError, ChannelReader, ChannelSet, Session, channel::ChannelStream, policy::Limits,
    subprotocols,
};

use crate::support::{
    ALL, BINARY, BITE, End, Frame, Head, LONG, PING, PONG, Raw, TEXT, Watchdog, base64, frame,
    layer, on, once, once_in, open, open_with, read_out, serve, within,
};

const WINDOW: usize = 256 * 1024;
const CHUNK: usize = 16 * 1024;
const CONTINUATION: u8 = 0;

/// The readers of a session, which stays open until the test ends.
struct Readers {
    stdin: ChannelReader,
    resize: ChannelReader,
    session: Session,
}

/// Opens a session whose readers the test holds.
async fn readers(subprotocol: &str) -> (Raw<DuplexStream>, Readers) {
    readers_in(layer(), subprotocol).await
}

async fn readers_in(
    layer: tower_wsstream::WsStreamLayer,
    subprotocol: &str,
) -> (Raw<DuplexStream>, Readers) {
    let (sender, receiver) = oneshot::channel();
    let service = once_in(layer, move |mut set: ChannelSet| async move {
        let readers = Readers {
            stdin: set.take_reader(0).unwrap(),
            resize: set.take_reader(4).unwrap(),
            session: set.session().clone(),
        };
        let ended = set.session().ended();
        assert!(sender.send(readers).is_ok());
        ended.await;
        Ok(())
    });
    let client = open_with(service, subprotocol, 16 * WINDOW).await;
    (client, receiver.await.unwrap())
}

async fn expect(reader: &mut ChannelReader, bytes: &[u8]) {
    let mut came = vec![0; bytes.len()];
    let reading = within(LONG, reader.read_exact(&mut came)).await;
    reading.unwrap();
    assert!(came == bytes, "{} other bytes", bytes.len());
}

/// Checks that time passes and no data arrives.
async fn expect_nothing(reader: &mut ChannelReader) {
    let read = timeout(Duration::from_secs(5), reader.fill_buf()).await;
    assert!(read.is_err(), "{:?}", read.unwrap().map(<[u8]>::len));
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}
