//! Tower middleware that turns a WebSocket upgrade into typed byte channels.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod access;
mod body;
mod channel;
mod config;
mod connection;
mod error;
mod frame;
mod future;
mod handshake;
mod layer;
mod mux;
mod protocol;
mod service;
mod session;
mod wire;

#[cfg(feature = "remotecommand")]
pub mod remotecommand;
#[cfg(feature = "testing")]
pub mod testing;

pub use self::{
    access::OriginPolicy,
    body::{NoBody, ResponseBody},
    channel::{Channel, ChannelReader, ChannelSet, ChannelSink, ChannelStream, ChannelWriter},
    config::Limits,
    error::{BoxError, EndCause},
    future::ResponseFuture,
    handshake::{
        IsWebSocketRequest, ProtocolSource, Rejection, RejectionKind, is_websocket_request,
        is_websocket_request_with_stream_close_protocol,
        is_websocket_request_with_tunneling_protocol,
    },
    layer::WsStreamLayer,
    protocol::{
        ChannelProtocolConfig, ChannelProtocols, ChannelProtocolsBuilder, ChannelType, ConfigError,
        Encoding, Status, subprotocols,
    },
    service::{UpgradeRequired, WsStream},
    session::{CloseError, Hold, LastWords, Outcome, Session},
};
