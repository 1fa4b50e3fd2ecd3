//! The services under attack, on the server of the guide: over HTTP/1.1 and HTTP/2 on one address,
//! and over TLS on another.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{Accept, TlsAcceptor, server::TlsStream};
use tower::ServiceBuilder;
use tower_wsstream::{
    BoxError, ChannelProtocolConfig, ChannelProtocols, ChannelSet,
    ChannelType::{Read, Write},
    Encoding, SessionConfig, Sessions, WsStreamLayer,
    access::BearerSubprotocolLayer,
    policy::Limits,
    subprotocols,
};

use crate::{
    attacks::{
        target::{RESERVE, RESERVE_OF_ALL, listen},
        tls,
    },
    serve::{self, Listener, serve},
};

/// The paths, by what their service does.
pub(super) const READS: &str = "/reads";
pub(super) const NEVER_READS: &str = "/never-reads";
pub(super) const WRITES: &str = "/writes";
pub(super) const ECHOES: &str = "/echoes";
/// It returns at once, and leaves output behind.
pub(super) const RETURNS: &str = "/returns";

/// The output that is left behind.
pub(super) const LEFT: usize = 192 * 1024;

async fn session(mut channels: ChannelSet) -> Result<(), BoxError> {
    static ZEROS: [u8; 32 * 1024] = [0; 32 * 1024];
    let session = channels.session().clone();
    let head = channels.take_request().ok_or("no request")?;
    let path = head.uri.path().to_owned();
    // It keeps a buffer of the server alive.
    drop(head);
    let mut input = channels.take_reader(0).ok_or("channel 0")?;
    let mut output = channels.take_writer(1).ok_or("channel 1")?;
    drop(channels);
    match &*path {
        NEVER_READS => {
            session.ended().await;
        }
        WRITES => loop {
            output.write_all(&ZEROS).await?;
        },
        ECHOES => {
            tokio::io::copy(&mut input, &mut output).await?;
        }
        RETURNS => output.send(vec![0; LEFT]).await?,
        _ => loop {
            match input.fill_buf().await?.len() {
                0 => break,
                n => input.consume(n),
            }
        },
    }
    Ok(())
}

/// Serves until the process is killed. Returns the addresses, the one over TLS last.
pub(crate) async fn spawn() -> Result<[SocketAddr; 2], BoxError> {
    let raw = ChannelProtocolConfig::new(Encoding::Binary, [Read, Write]);
    let protocols = ChannelProtocols::builder()
        .protocol(subprotocols::V5, raw.half_close(true))
        .build()?;
    let sessions = Sessions::with_stall_reserve(RESERVE_OF_ALL);
    let config = SessionConfig::default()
        .limits(Limits::default().stall_reserve(RESERVE))
        .sessions(sessions.clone());
    let service = ServiceBuilder::new()
        .layer(BearerSubprotocolLayer::new())
        .layer(WsStreamLayer::new(protocols).config(config))
        .service_fn(session);
    let plain = listen()?;
    let secure = Secure {
        listener: listen()?,
        acceptor: tls::acceptor(),
    };
    let addresses = [plain.local_addr()?, secure.listener.local_addr()?];
    let never = std::future::pending::<()>;
    tokio::spawn(serve(plain, service.clone(), sessions.clone(), never()));
    tokio::spawn(serve(secure, service, sessions, never()));
    Ok(addresses)
}

/// Accepts connections over TLS. Their handshakes are made in their own tasks, so that none waits for
/// another, and that the time of the first request includes them.
struct Secure {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Secure {
    type Io = Io;

    async fn accept(&self) -> io::Result<Io> {
        let tcp = serve::Listener::accept(&self.listener).await?;
        Ok(Io::Greeting(Box::new(self.acceptor.accept(tcp))))
    }
}

/// A connection over TLS, before or after its handshake.
enum Io {
    Greeting(Box<Accept<TcpStream>>),
    Open(Box<TlsStream<TcpStream>>),
    Failed,
}

impl Io {
    fn poll_open(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Pin<&mut TlsStream<TcpStream>>>> {
        if let Self::Greeting(accept) = self {
            let greeted = ready!(Pin::new(accept).poll(cx));
            *self = match greeted {
                Ok(stream) => Self::Open(Box::new(stream)),
                Err(_) => Self::Failed,
            };
        }
        Poll::Ready(match self {
            Self::Open(stream) => Ok(Pin::new(&mut **stream)),
            _ => Err(io::ErrorKind::NotConnected.into()),
        })
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            // Nothing was sent, so there is nothing to end.
            Self::Greeting(_) | Self::Failed => Poll::Ready(Ok(())),
            Self::Open(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
