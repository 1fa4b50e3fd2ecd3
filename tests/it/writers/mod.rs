//! The path that all writers share: order, wake-ups, flushes and budgets, over transports that take
//! little at a time.

mod budget;
mod dozen;
mod flush;
mod random;

use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::join_all};
use proptest::prelude::*;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use tower::Layer;
use tower_wsstream::{
    BoxError, ChannelProtocolConfig, ChannelProtocols, ChannelSet, ChannelType, ChannelWriter,
    Encoding, WsStreamLayer, policy::Limits, subprotocols,
};

use crate::support::{
    ALL, BITE, LONG, Raw, Told, Watchdog, layer, once, once_in, open, open_tcp, open_with, within,
};

const DOZEN: u8 = 12;

/// Returns a layer with twelve outbound channels and one inbound channel.
fn dozen() -> WsStreamLayer {
    let mut channels = vec![ChannelType::Write; DOZEN.into()];
    channels.push(ChannelType::Read);
    let raw = ChannelProtocolConfig::new(Encoding::Binary, channels.clone());
    let base64 = ChannelProtocolConfig::new(Encoding::Base64, channels);
    let table = ChannelProtocols::builder()
        .protocol(subprotocols::V4, raw)
        .protocol(subprotocols::V4_BASE64, base64)
        .build();
    WsStreamLayer::new(table.unwrap())
}

/// Returns the `n`th message of a channel, of 64 bytes.
fn message(channel: u8, n: u32) -> [u8; 64] {
    let mut message = [channel; 64];
    message[..4].copy_from_slice(&n.to_be_bytes());
    message
}

async fn write_messages(mut writer: ChannelWriter, messages: u32) {
    let channel = writer.id();
    for n in 0..messages {
        writer.write_all(&message(channel, n)).await.unwrap();
    }
}

/// Half of the writers write in the service's future, half in tasks of their own. None flushes.
async fn dozen_writers(mut set: ChannelSet, messages: u32) -> Result<(), BoxError> {
    let mut own = Vec::new();
    for channel in 0..DOZEN {
        let writing = write_messages(set.take_writer(channel).unwrap(), messages);
        if channel % 2 == 0 {
            own.push(writing);
        } else {
            tokio::spawn(writing);
        }
    }
    drop(set);
    join_all(own).await;
    Ok(())
}

fn assert_dozen(told: &Told, messages: u32) {
    for channel in 0..DOZEN {
        let expected: Vec<u8> = (0..messages).flat_map(|n| message(channel, n)).collect();
        assert!(told.channel(channel) == expected, "channel {channel}");
    }
    assert!(told.messages.iter().all(|(_, payload)| payload.len() == 64));
    assert_eq!(told.close, Some(Some(1000)));
}
