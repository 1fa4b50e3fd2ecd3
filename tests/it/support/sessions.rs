//! Layers and services of sessions.

use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;
use tower::{Layer, util::ServiceFn};
use tower_wsstream::{
    BoxError, ChannelProtocolConfig, ChannelProtocols, ChannelSet,
    ChannelType::{Read, Write},
    Encoding, SessionConfig, WsStream, WsStreamLayer,
    policy::Limits,
    subprotocols,
};

/// No subprotocol, and one of each set of rules.
pub(crate) const ALL: [&str; 6] = [
    "",
    subprotocols::CHANNEL,
    subprotocols::BASE64_CHANNEL,
    subprotocols::V4,
    subprotocols::V4_BASE64,
    subprotocols::V5,
];

/// Returns the table of a command with a terminal: channels 0 and 4 are inbound, 1 to 3 are
/// outbound.
pub(crate) fn protocols() -> ChannelProtocols {
    let channels = [Read, Write, Write, Write, Read];
    let raw = ChannelProtocolConfig::new(Encoding::Binary, channels);
    let base64 = ChannelProtocolConfig::new(Encoding::Base64, channels);
    ChannelProtocols::builder()
        .protocol(subprotocols::V5, raw.clone().half_close(true))
        .protocol(subprotocols::V4, raw.clone())
        .protocol(subprotocols::V4_BASE64, base64.clone())
        .protocol(subprotocols::CHANNEL, raw.clone())
        .protocol(subprotocols::BASE64_CHANNEL, base64)
        .protocol("", raw)
        .build()
        .expect("a table like that of exec")
}

/// Returns a layer over [`protocols`] without Pings and without a stall reserve, which have tests
/// of their own.
pub(crate) fn layer() -> WsStreamLayer {
    WsStreamLayer::new(protocols()).config(config())
}

/// Returns a layer with the default configuration, an inbound channel 0 and an outbound channel 1.
pub(crate) fn standard() -> WsStreamLayer {
    WsStreamLayer::new(ChannelProtocols::standard([Read, Write]).unwrap())
}

/// Returns a configuration without Pings and without a stall reserve.
pub(crate) fn config() -> SessionConfig {
    SessionConfig::default()
        .keep_alive(None)
        .limits(Limits::default().stall_reserve(0))
}

/// Returns a service whose sessions run a function.
pub(crate) fn session<F, Fut>(function: F) -> WsStream<ServiceFn<F>>
where
    F: FnMut(ChannelSet) -> Fut,
    Fut: Future<Output = Result<(), BoxError>>,
{
    layer().layer(tower::service_fn(function))
}

/// Returns a service for the one session that runs a function.
pub(crate) fn once<F, Fut>(
    function: F,
) -> WsStream<ServiceFn<impl FnMut(ChannelSet) -> Fut + Clone + Send + 'static>>
where
    F: FnOnce(ChannelSet) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    once_in(layer(), function)
}

/// Returns a service for one session, inside a layer of the caller's.
pub(crate) fn once_in<F, Fut>(
    layer: WsStreamLayer,
    function: F,
) -> WsStream<ServiceFn<impl FnMut(ChannelSet) -> Fut + Clone + Send + 'static>>
where
    F: FnOnce(ChannelSet) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let function = Arc::new(Mutex::new(Some(function)));
    layer.layer(tower::service_fn(move |set| {
        let function = function.lock().unwrap().take();
        function.expect("there is one session")(set)
    }))
}

/// Sends the input of channel 0 back on channel 1.
pub(crate) async fn echo(mut channels: ChannelSet) -> Result<(), BoxError> {
    let mut input = channels.take_reader(0).ok_or("no channel 0")?;
    let mut output = channels.take_writer(1).ok_or("no channel 1")?;
    drop(channels);
    tokio::io::copy_buf(&mut input, &mut output).await?;
    output.shutdown().await?;
    Ok(())
}

/// Keeps its session, and never ends.
pub(crate) async fn never(_channels: ChannelSet) -> Result<(), BoxError> {
    std::future::pending().await
}
