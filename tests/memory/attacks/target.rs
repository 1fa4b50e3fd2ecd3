//! The services under attack, and what their process says of itself.

use std::{convert::Infallible, process::Stdio, time::Duration};

use futures_util::future::Either;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use stats_alloc::INSTRUMENTED_SYSTEM;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Handle,
    time,
};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_wsstream::{
    BoxError, SessionConfig, Sessions, StreamingLayer,
    policy::Limits,
    portforward::{self, ForwardError, ForwardedPort, PortForwardLayer},
    remotecommand::{self, ExitStatus, RemoteCommand, RemoteCommandLayer},
};

/// The ports, by what their service does.
pub(crate) const READS: u16 = 80;
pub(crate) const NEVER_READS: u16 = 81;
pub(crate) const WRITES: u16 = 82;
pub(crate) const FAILS: u16 = 83;

/// The sizes of the buffers of sockets: small, so that little is in the kernel.
pub(crate) const FROM_CLIENT: u32 = 64 * 1024;
pub(crate) const TO_CLIENT: u32 = 16 * 1024;

/// The memory beyond their windows that the channels of one session may take, and of all.
pub(super) const RESERVE: usize = 512 * 1024;
pub(super) const RESERVE_OF_ALL: usize = 16 << 20;

/// The prefix of a path of commands. All others are for ports.
pub(crate) const EXEC: &str = "/exec";

async fn forward(port: ForwardedPort) -> Result<(), BoxError> {
    static ZEROS: [u8; 32 * 1024] = [0; 32 * 1024];
    let session = port.session.clone();
    let number = port.port;
    // It keeps a buffer of the server alive.
    drop(port.request);
    let (mut input, mut output) = port.stream.into_split();
    match number {
        FAILS => Err(ForwardError::connection("refused").into()),
        NEVER_READS => {
            output.flush().await?;
            session.ended().await;
            Ok(())
        }
        WRITES => loop {
            output.write_all(&ZEROS).await?;
        },
        _ => loop {
            match input.fill_buf().await?.len() {
                0 => return Ok(()),
                n => input.consume(n),
            }
        },
    }
}

/// Runs `cat` for any command.
async fn cat(mut command: RemoteCommand) -> Result<ExitStatus, BoxError> {
    let mut child = tokio::process::Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (mut to, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    drop(command.request.take());
    let mut stdin = command.stdin.take().ok_or("stdin")?;
    let mut stdout = command.stdout.take().ok_or("stdout")?;
    let copy_in = async move { tokio::io::copy(&mut stdin, &mut to).await };
    tokio::try_join!(copy_in, tokio::io::copy(&mut from, &mut stdout))?;
    Ok(child.wait().await?.into())
}

/// Returns a service with the default configuration, but for the stall reserve.
pub(crate) fn service() -> impl Service<
    Request<Incoming>,
    Response = Response<impl Body<Data: Send, Error: Into<BoxError>> + Send + 'static>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ 'static {
    // Less than by default, so that clients have to send less to fill it.
    let config = SessionConfig::default()
        .limits(Limits::default().stall_reserve(RESERVE))
        .sessions(Sessions::with_stall_reserve(RESERVE_OF_ALL));
    let ports = ServiceBuilder::new()
        .layer(StreamingLayer::new(portforward::Protocols::default()).config(config.clone()))
        .layer(PortForwardLayer::new())
        .service_fn(forward);
    let commands = ServiceBuilder::new()
        .layer(StreamingLayer::new(remotecommand::Protocols::default()).config(config))
        .layer(RemoteCommandLayer::new())
        .service_fn(cat);
    tower::service_fn(move |request: Request<Incoming>| {
        match request.uri().path().starts_with(EXEC) {
            true => Either::Left(commands.clone().oneshot(request)),
            false => Either::Right(ports.clone().oneshot(request)),
        }
    })
}

/// Listens with small buffers, which accepted sockets inherit.
pub(crate) fn listen() -> Result<TcpListener, BoxError> {
    let socket = TcpSocket::new_v4()?;
    socket.set_send_buffer_size(TO_CLIENT)?;
    socket.set_recv_buffer_size(FROM_CLIENT)?;
    socket.bind("127.0.0.1:0".parse()?)?;
    Ok(socket.listen(4096)?)
}

/// Answers each byte with the bytes of this process's heap, its number of tasks, and the bytes that it
/// has ever allocated, once as many seconds have passed as the byte says. They pass at once.
pub(crate) async fn report(mut stream: TcpStream) -> Result<(), BoxError> {
    // The test ends it.
    while let Ok(seconds) = stream.read_u8().await {
        if seconds > 0 {
            time::pause();
            time::advance(Duration::from_secs(seconds.into())).await;
            time::resume();
        }
        let stats = INSTRUMENTED_SYSTEM.stats();
        let allocated = stats.bytes_allocated as u64;
        let heap = allocated - stats.bytes_deallocated as u64;
        let tasks = Handle::current().metrics().num_alive_tasks() as u64;
        let answer = [heap, tasks, allocated].map(u64::to_le_bytes);
        stream.write_all(&answer.concat()).await?;
    }
    Ok(())
}
