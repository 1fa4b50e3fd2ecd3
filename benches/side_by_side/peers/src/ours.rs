//! This crate over TLS, HTTP/2 and SPDY. Over plain HTTP/1.1, `examples/bench_server` is
//! measured.
use crate::common::*;
use crate::secure;
use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};
use tower::ServiceBuilder;
use tower_wsstream::portforward::{self, ForwardedPort, PortForwardLayer};
use tower_wsstream::{
    BoxError, ChannelProtocolConfig, ChannelProtocols, ChannelSet, ChannelType, Encoding,
    StreamingLayer, WsStreamLayer, subprotocols,
};

fn job(head: Option<&http::request::Parts>) -> Result<Job, BoxError> {
    let uri = &head.ok_or("the head was taken")?.uri;
    parse_job(uri.path(), uri.query().unwrap_or("")).ok_or("no such path".into())
}

async fn work<R, W>(job: Job, mut input: R, mut output: W) -> io::Result<()>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    match job {
        Job::Echo => loop {
            let bytes = input.fill_buf().await?;
            let n = bytes.len();
            if n == 0 {
                return Ok(());
            }
            output.write_all(bytes).await?;
            input.consume(n);
        },
        Job::Source { bytes, chunk } => {
            for piece in Chunks::new(bytes, chunk) {
                output.write_all(piece).await?;
            }
        }
        Job::Sink | Job::Idle => {
            let mut total = 0u64;
            loop {
                let n = input.fill_buf().await?.len();
                if n == 0 {
                    break;
                }
                input.consume(n);
                total += n as u64;
            }
            output.write_all(&total.to_le_bytes()).await?;
        }
    }
    Ok(())
}

async fn channels(mut channels: ChannelSet) -> Result<(), BoxError> {
    let job = job(channels.request())?;
    let input = channels.take_reader(0).ok_or("no readable channel 0")?;
    let output = channels.take_writer(1).ok_or("no writable channel 1")?;
    drop(channels);
    Ok(work(job, input, output).await?)
}

async fn port(mut port: ForwardedPort) -> Result<(), BoxError> {
    let job = job(port.request.take().as_deref())?;
    let (input, output) = port.stream.into_split();
    Ok(work(job, input, output).await?)
}

fn protocols() -> ChannelProtocols {
    use ChannelType::{Read, Write};
    let channels =
        |encoding| ChannelProtocolConfig::new(encoding, [Read, Write, Write, Write, Read]);
    ChannelProtocols::builder()
        .protocol(
            subprotocols::V5,
            channels(Encoding::Binary).half_close(true),
        )
        .protocol(subprotocols::V4, channels(Encoding::Binary))
        .protocol(subprotocols::CHANNEL, channels(Encoding::Binary))
        .protocol(subprotocols::BASE64_CHANNEL, channels(Encoding::Base64))
        .build()
        .expect("a table")
}

/// Serves the five channels.
pub async fn serve(port: u16, tls: bool) {
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(protocols()))
        .service_fn(channels);
    secure::serve(port, tls, service).await;
}

/// Serves port-forward: through the tunnel, and by POST. The target of every port is the work
/// that the path of the request names.
pub async fn forward(to: u16, tls: bool) {
    let service = ServiceBuilder::new()
        .layer(StreamingLayer::new(portforward::Protocols::default()))
        .layer(PortForwardLayer::new())
        .service_fn(port);
    secure::serve(to, tls, service).await;
}
