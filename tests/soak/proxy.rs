//! A proxy over TCP that does what networks and other proxies do.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::{random::Random, tally::Tally};

/// The one thing that a proxy does besides passing bytes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Both connections are dropped, with everything that was not passed on.
    Cut,
    /// Both connections are reset.
    Reset,
    /// A direction stands still, and then both connections are dropped.
    Mute,
    /// A direction stands still, and then goes on.
    Stall,
    /// Each piece waits.
    Delay,
    /// Some bytes are passed on one by one.
    SingleBytes,
    /// Both connections are dropped at the first end of file, as opaque proxies do.
    CloseBoth,
}

const FAULTS: [Fault; 7] = [
    Fault::Cut,
    Fault::Reset,
    Fault::Mute,
    Fault::Stall,
    Fault::Delay,
    Fault::SingleBytes,
    Fault::CloseBoth,
];

/// The number of bytes that are passed on one by one.
const SINGLE: u64 = 4096;

/// A fault, and where it happens in one of the two directions.
#[derive(Clone, Copy, Debug)]
struct Plan {
    fault: Fault,
    upwards: bool,
    after: u64,
    time: Duration,
}

impl Plan {
    fn draw(random: &mut Random) -> Self {
        let fault = FAULTS[random.next(FAULTS.len() as u64) as usize];
        Self {
            fault,
            upwards: random.next(2) == 0,
            after: match random.next(8) {
                0 => random.next(400_000),
                1..4 => random.next(1000),
                _ => random.about(),
            },
            time: Duration::from_millis(match fault {
                Fault::Delay => random.next(5),
                _ => random.next(1500),
            }),
        }
    }
}

/// Set once the proxy has broken its connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Broke(Arc<AtomicBool>);

impl Broke {
    pub(crate) fn is_broken(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Connects to a server through a proxy, and returns the client's end.
pub(crate) async fn connect(
    server: TcpStream,
    random: &mut Random,
    tally: &Tally,
) -> io::Result<(TcpStream, Broke)> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let near = TcpStream::connect(listener.local_addr()?);
    let (near, client) = tokio::try_join!(near, listener.accept())?;
    let broke = Broke::default();
    let proxy = Proxy {
        plan: Plan::draw(random),
        broke: broke.clone(),
        tally: tally.clone(),
    };
    tokio::spawn(proxy.run(client.0, server));
    Ok((near, broke))
}

struct Proxy {
    plan: Plan,
    broke: Broke,
    tally: Tally,
}

impl Proxy {
    async fn run(self, mut client: TcpStream, mut server: TcpStream) {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = self.copy(from_client, to_server, true);
        let down = self.copy(from_server, to_client, false);
        // An error drops both connections.
        let _ = tokio::try_join!(up, down);
        if self.plan.fault == Fault::Reset && self.broke.is_broken() {
            let _ = client.set_zero_linger();
            let _ = server.set_zero_linger();
        }
    }

    fn note(&self) {
        let fault = self.plan.fault;
        if matches!(fault, Fault::Cut | Fault::Reset | Fault::Mute) {
            self.broke.0.store(true, Ordering::SeqCst);
        }
        self.tally.note(format!("fault: {fault:?}"));
    }

    /// Copies one direction.
    async fn copy(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        upwards: bool,
    ) -> io::Result<()> {
        let Plan {
            fault, after, time, ..
        } = self.plan;
        let mine = self.plan.upwards == upwards;
        let mut buf = vec![0; 16 * 1024];
        let (mut passed, mut happened) = (0, false);
        loop {
            let single =
                mine && fault == Fault::SingleBytes && (after..after + SINGLE).contains(&passed);
            let most = if single { 1 } else { buf.len() };
            let n = from.read(&mut buf[..most]).await?;
            if n == 0 && fault == Fault::CloseBoth {
                self.note();
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if n == 0 {
                return to.shutdown().await;
            }
            let mut bytes = &buf[..n];
            if mine && !happened && passed + n as u64 > after {
                happened = true;
                let first = after.saturating_sub(passed) as usize;
                match fault {
                    Fault::Cut | Fault::Reset | Fault::Mute | Fault::Stall => {
                        to.write_all(&bytes[..first]).await?;
                        bytes = &bytes[first..];
                        self.note();
                    }
                    Fault::Delay | Fault::SingleBytes => self.note(),
                    Fault::CloseBoth => {}
                }
                match fault {
                    Fault::Cut | Fault::Reset => return Err(io::ErrorKind::Other.into()),
                    Fault::Mute => {
                        sleep(time).await;
                        return Err(io::ErrorKind::Other.into());
                    }
                    Fault::Stall => sleep(time).await,
                    Fault::Delay | Fault::SingleBytes | Fault::CloseBoth => {}
                }
            }
            if mine && fault == Fault::Delay {
                sleep(time).await;
            }
            to.write_all(bytes).await?;
            passed += n as u64;
        }
    }
}
