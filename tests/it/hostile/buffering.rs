//! A server end that buffers writes until it is flushed, as TLS may.

use super::*;
use futures_util::StreamExt;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio_tungstenite::{WebSocketStream, tungstenite::client::IntoClientRequest};
use tower_wsstream::WsStream;

pub(super) struct Client(WebSocketStream<DuplexStream>);

impl Client {
    pub(super) async fn next_data(&mut self) -> Bytes {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Binary(bytes))) => return bytes,
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

struct Buffering {
    io: DuplexStream,
    buffer: Vec<u8>,
}

impl AsyncRead for Buffering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Buffering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.buffer.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let before = self.buffer.len();
        bufs.iter()
            .for_each(|buf| self.buffer.extend_from_slice(buf));
        Poll::Ready(Ok(self.buffer.len() - before))
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while !this.buffer.is_empty() {
            let n = std::task::ready!(Pin::new(&mut this.io).poll_write(cx, &this.buffer))?;
            this.buffer.drain(..n);
        }
        Pin::new(&mut this.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

pub(super) async fn connect<S>(service: WsStream<S>) -> Client
where
    S: tower::Service<ChannelSet, Response = ()> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    let (near, io) = tokio::io::duplex(1 << 20);
    let io = Buffering {
        io,
        buffer: Vec::new(),
    };
    tokio::spawn(async move {
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(io), TowerToHyperService::new(service))
            .with_upgrades()
            .await;
    });
    let mut request = "ws://localhost/".into_client_request().unwrap();
    request
        .headers_mut()
        .insert("sec-websocket-protocol", NAME.parse().unwrap());
    Client(
        tokio_tungstenite::client_async(request, near)
            .await
            .unwrap()
            .0,
    )
}
