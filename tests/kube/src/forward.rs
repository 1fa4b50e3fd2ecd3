//! `portforward`: ports of the pod, which are ports of this machine.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{try_join, try_join_all};
use kube::api::Portforwarder;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::checks::{Checked, bytes};
use crate::pod::{POD, Pod, why};
use crate::report::{Failure, equal};

/// The pieces that a client sends before it reads its echo. kube copies both directions of all
/// ports in one loop: while it waits to send, it does not receive. If more data is on its way
/// than the buffers hold, both sides wait for ever. A window of the server holds twice this.
const AHEAD: usize = 32;
const PIECE: usize = 4 << 10;

/// Silence of this length is a hang.
const SILENCE: Duration = Duration::from_secs(60);

/// As many bytes each way through each of two ports, at once.
pub(crate) async fn both_ways(pod: &Pod, mib: usize) -> Checked {
    let targets = [Target::new(echo).await?, Target::new(echo).await?];
    let mut forwarder = forward(pod, &targets).await?;
    // No place holds the same byte in both.
    let sent = Arc::new(bytes((mib << 20) + 1));
    let talks = targets.iter().enumerate().map(|(from, target)| {
        let stream = take_stream(&mut forwarder, target);
        let sent = Arc::clone(&sent);
        async move { there_and_back(stream?, &sent[from..from + (mib << 20)]).await }
    });
    let talks = try_join_all(talks.collect::<Vec<_>>()).await;
    let errors = targets
        .iter()
        .map(|target| forwarder.take_error(target.port));
    let errors: Vec<_> = errors.flatten().collect();
    joined(talks, forwarder).await?;
    for error in errors {
        equal(error.await, None, "error")?;
    }
    Ok(format!("{mib} MiB each way through each of 2 ports"))
}

/// A port without a listener: the client is told in words, and the other port is not affected.
pub(crate) async fn refused_port(pod: &Pod) -> Checked {
    let good = Target::new(echo).await?;
    let mut bad = Target::new(echo).await?;
    bad.close().await;
    let targets = [bad, good];
    let mut forwarder = forward(pod, &targets).await?;
    let stream = take_stream(&mut forwarder, &targets[1])?;
    let bad = targets[0].port;
    let error = forwarder.take_error(bad).ok_or("kube gives no error")?;
    let talk = async {
        let text = error.await.ok_or("no text on the error channel")?;
        if !text.contains(&bad.to_string()) || !text.contains("refused") {
            return Err(format!("no reason in {text:?}").into());
        }
        there_and_back(stream, &bytes(1 << 20)).await?;
        Ok(text)
    };
    let talk = within(talk).await;
    joined(talk, forwarder).await
}

/// A target that talks and hangs up, which a client sees as the end of its stream.
/// Without `join`: kube sends a Close of its own behind the one that it has had, and
/// then complains of that.
pub(crate) async fn target_ends_first(pod: &Pod) -> Checked {
    let target = [Target::new(async |mut socket: TcpStream| {
        let _ = socket.write_all(b"bye").await;
    })
    .await?];
    let mut forwarder = forward(pod, &target).await?;
    let mut stream = take_stream(&mut forwarder, &target[0])?;
    let mut heard = Vec::new();
    within(async { Ok(stream.read_to_end(&mut heard).await?) }).await?;
    equal(heard.as_slice(), b"bye", "heard")?;
    Ok(String::new())
}

/// A client that is gone in the middle: to the target that must not look like the
/// end of what it sends.
pub(crate) async fn broken_off(pod: &Pod) -> Checked {
    let (tell, mut told) = mpsc::unbounded_channel();
    let target = [Target::new(move |mut socket: TcpStream| {
        let tell = tell.clone();
        async move {
            let first = socket.read_u8().await;
            let _ = tell.send(first.map(usize::from));
            let _ = tell.send(socket.read(&mut [0]).await);
        }
    })
    .await?];
    let mut forwarder = forward(pod, &target).await?;
    let mut stream = take_stream(&mut forwarder, &target[0])?;
    stream.write_all(&[7]).await?;
    let mut next = async || within(async { told.recv().await.ok_or("gone".into()) }).await;
    equal(next().await??, 7, "first byte")?;
    forwarder.abort();
    match next().await? {
        Err(error) => Ok(error.to_string()),
        Ok(count) => Err(format!("it has read {count} bytes").into()),
    }
}

/// `join` at once, which is a Close before anything was said.
pub(crate) async fn joined_at_once(pod: &Pod) -> Checked {
    let targets = [Target::new(echo).await?, Target::new(echo).await?];
    let forwarder = forward(pod, &targets).await?;
    joined(Ok(String::new()), forwarder).await
}

/// An answer before the upgrade is an error that kube can read.
pub(crate) async fn no_such_pod(pod: &Pod) -> Checked {
    match pod.api.portforward("nobody", &[80]).await {
        Err(kube::Error::Api(status)) => {
            equal(status.code, 404, "code")?;
            Ok(status.message)
        }
        Err(error) => Err(why("another error", &error)),
        Ok(_) => Err("it was found".into()),
    }
}

async fn forward(pod: &Pod, targets: &[Target]) -> Result<Portforwarder, Failure> {
    let ports: Vec<_> = targets.iter().map(|target| target.port).collect();
    Ok(pod.api.portforward(POD, &ports).await?)
}

fn take_stream(
    forwarder: &mut Portforwarder,
    target: &Target,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + use<>, Failure> {
    let stream = forwarder.take_stream(target.port);
    Ok(stream.ok_or("kube gives no stream")?)
}

async fn there_and_back(stream: impl AsyncRead + AsyncWrite, sent: &[u8]) -> Result<(), Failure> {
    let (mut from, mut to) = tokio::io::split(stream);
    let ahead = Semaphore::new(AHEAD * PIECE);
    let send = async {
        for piece in sent.chunks(PIECE) {
            ahead.acquire_many(piece.len() as u32).await?.forget();
            to.write_all(piece).await?;
        }
        Ok::<_, Failure>(())
    };
    let receive = async {
        let mut piece = vec![0; 64 << 10];
        let mut place = 0;
        while place < sent.len() {
            let count = within(async { Ok(from.read(&mut piece).await?) }).await?;
            if count == 0 {
                return Err(format!("the end after {place} bytes").into());
            }
            if sent.get(place..place + count) != Some(&piece[..count]) {
                return Err(format!("other bytes after {place}").into());
            }
            place += count;
            ahead.add_permits(count);
        }
        Ok(())
    };
    try_join(send, receive).await?;
    to.shutdown().await?;
    Ok(())
}

async fn within<T>(talk: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match tokio::time::timeout(SILENCE, talk).await {
        Ok(said) => said,
        Err(_) => Err(format!("nothing for {SILENCE:?}").into()),
    }
}

/// The end, which must come, and be no error.
async fn joined<T>(talk: Result<T, Failure>, forwarder: Portforwarder) -> Result<T, Failure> {
    let end = within(async { Ok(forwarder.join().await) }).await?;
    match (talk, end) {
        (Ok(said), Ok(())) => Ok(said),
        (Ok(_), Err(error)) => Err(why("join", &error)),
        (Err(error), end) => Err(format!("{error}; join says {end:?}").into()),
    }
}

/// A listener of the test's own, while it lives.
struct Target {
    port: u16,
    accepting: JoinHandle<()>,
}

impl Target {
    async fn new<F, Fut>(talk: F) -> Result<Self, Failure>
    where
        F: Fn(TcpStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(talk(socket));
            }
        });
        Ok(Self { port, accepting })
    }

    /// Stops listening. With some luck, no other program takes the port in the meantime.
    async fn close(&mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn echo(mut socket: TcpStream) {
    let (mut from, mut to) = socket.split();
    // A client that breaks off shows elsewhere.
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}
