//! A proxy in memory that does what networks and other proxies do: it cuts, resets, stalls, delays,
//! splits, and mistakes one end of file for two.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{
        AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf,
        WriteHalf,
    },
    sync::{mpsc, watch},
    time::sleep,
};

/// The way in which bytes are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    AsTheyCome,
    OneByOne,
    /// Each piece waits for this long.
    Delayed(Duration),
}

/// The reaction of the proxy to an end of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtEof {
    PassItOn,
    /// The other side never hears of it.
    SwallowIt,
    /// Both connections are closed, with everything that was not passed on.
    CloseBoth,
}

/// The rules of a proxy for one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) pace: Pace,
    pub(crate) at_eof: AtEof,
}

/// A direction of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the client to the server.
    Up,
    Down,
}

/// The end of a connection that the server holds. It can be reset.
#[derive(Debug)]
pub(crate) struct Far {
    io: DuplexStream,
    reset: Arc<AtomicBool>,
}

/// The controls of a proxy. It goes on when they are dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    stalled: [watch::Sender<bool>; 2],
    cut: mpsc::Sender<()>,
    reset: Arc<AtomicBool>,
}

/// The state of one side of a proxy, of which it has two.
const CAPACITY: usize = 64 * 1024;

impl Proxy {
    /// Spawns a proxy between the two ends that it returns, of which the first is the client's.
    pub(crate) fn spawn(rules: impl Fn(Way) -> Rules) -> (DuplexStream, Far, Self) {
        let (near, client) = tokio::io::duplex(CAPACITY);
        let (server, far) = tokio::io::duplex(CAPACITY);
        let (stall_up, up_stalled) = watch::channel(false);
        let (stall_down, down_stalled) = watch::channel(false);
        let (cut, mut is_cut) = mpsc::channel(1);
        let reset = Arc::new(AtomicBool::new(false));
        let (from_client, to_client) = tokio::io::split(client);
        let (from_server, to_server) = tokio::io::split(server);
        let up = copy(from_client, to_server, rules(Way::Up), up_stalled);
        let down = copy(from_server, to_client, rules(Way::Down), down_stalled);
        tokio::spawn(async move {
            tokio::select! {
                _ = async { tokio::try_join!(up, down) } => {}
                Some(()) = is_cut.recv() => {}
            }
        });
        let far = Far {
            io: far,
            reset: Arc::clone(&reset),
        };
        let proxy = Self {
            stalled: [stall_up, stall_down],
            cut,
            reset,
        };
        (near, far, proxy)
    }

    /// Passes nothing on in one direction any more, and no end of file.
    pub(crate) fn stall(&self, way: Way) {
        self.stalled[way as usize].send_replace(true);
    }

    /// Drops both connections, with everything that was not passed on.
    pub(crate) fn cut(&self) {
        let _ = self.cut.try_send(());
    }

    /// Drops both connections. The server's side is reset: what it has not read is lost.
    pub(crate) fn reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
        self.cut();
    }
}

/// Copies one direction. An error means that both connections are to be closed.
async fn copy(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    rules: Rules,
    mut stalled: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut buf = [0; 4096];
    let most = match rules.pace {
        Pace::OneByOne => 1,
        Pace::AsTheyCome | Pace::Delayed(_) => buf.len(),
    };
    loop {
        let n = from.read(&mut buf[..most]).await?;
        if stalled.wait_for(|stalled| !stalled).await.is_err() && *stalled.borrow() {
            // The controls are gone, and nobody can end the stall.
            std::future::pending::<()>().await;
        }
        if let Pace::Delayed(time) = rules.pace {
            sleep(time).await;
        }
        if n > 0 {
            to.write_all(&buf[..n]).await?;
            continue;
        }
        return match rules.at_eof {
            AtEof::PassItOn => to.shutdown().await,
            AtEof::SwallowIt => std::future::pending().await,
            AtEof::CloseBoth => Err(io::ErrorKind::UnexpectedEof.into()),
        };
    }
}

impl Far {
    fn check(&self) -> io::Result<()> {
        match self.reset.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::ConnectionReset.into()),
            false => Ok(()),
        }
    }
}

impl AsyncRead for Far {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Far {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
