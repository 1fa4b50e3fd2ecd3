//! The ends of a session, as its reader, its writer and its client see them.

mod close;
mod hold;
mod linger;
mod peer;
#[cfg(feature = "remotecommand")]
mod phases;
mod service;
#[cfg(feature = "remotecommand")]
mod status;
#[cfg(feature = "remotecommand")]
mod table;
mod words;
mod writers;

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use tower_wsstream::{
    BoxError, ChannelSet, EndCause, Session,
    policy::{ByteRate, Limits},
    session::{Hold, LastWords, Outcome},
    subprotocols,
};

use crate::support::{
    ALL, BINARY, CLOSE, End, LONG, PING, PONG, Raw, TEXT, Told, Watchdog, assert_after, base64,
    config, drop_note, frame, layer, millis, on, once, once_in, open, open_tcp, open_watched,
    open_with, read_out, secs, serve, session, soon, within,
};

/// The act of the client that ends the session.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Close(Option<u16>),
    /// The connection ends without a Close.
    Drop,
    ReservedBit,
    Unmasked,
    TooLarge,
    NotUtf8,
    NotBase64,
    ShortClose,
    BadCloseCode,
    MalformedChannelClose,
}

const LARGEST: u64 = 100_000;

async fn act(act: Act, mut client: Raw<DuplexStream>) -> Option<Raw<DuplexStream>> {
    let bytes = match act {
        Act::Close(code) => {
            client.close(code).await.unwrap();
            return Some(client);
        }
        Act::Drop => return None,
        Act::ReservedBit => vec![0xc2, 0x80, 0, 0, 0, 0],
        Act::Unmasked => vec![0x82, 0x02, 0, b'x'],
        Act::TooLarge => {
            let mut head = vec![0x82, 0xff];
            head.extend_from_slice(&(LARGEST + 1).to_be_bytes());
            head.extend_from_slice(&[0; 4]);
            head
        }
        Act::NotUtf8 => frame(true, TEXT, &on(0, b"\xff")),
        Act::NotBase64 => frame(true, TEXT, b"0!!!!"),
        Act::ShortClose => frame(true, CLOSE, &[3]),
        Act::BadCloseCode => frame(true, CLOSE, &1005_u16.to_be_bytes()),
        Act::MalformedChannelClose => frame(true, BINARY, &[255, 0, 0]),
    };
    client.bytes(&bytes).await.unwrap();
    Some(client)
}

/// The end of the service.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Ok,
    Err,
    Panic,
    /// The service ignores the end of its session.
    Never,
}

async fn finish(how: How) -> Result<(), BoxError> {
    match how {
        How::Ok => Ok(()),
        How::Err => Err("failed on purpose".into()),
        How::Panic => panic!("panicked on purpose"),
        How::Never => std::future::pending().await,
    }
}

/// 1000 means that the outcome was reported, and a service that fails has no way to report it.
fn own_code(how: How) -> u16 {
    match how {
        How::Ok => 1000,
        How::Err | How::Panic => 1011,
        How::Never => unreachable!("it has no end of its own"),
    }
}
