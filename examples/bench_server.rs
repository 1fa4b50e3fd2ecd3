//! The server that load generators measure. It uses `WsStreamLayer` with its defaults,
//! five channels, and every subprotocol that has channels.
//!
//!     cargo run --profile fastest --example bench_server -- --listen 127.0.0.1:8002
//!
//! | path | what the service does |
//! |---|---|
//! | `/echo` | sends the data of channel 0 back on channel 1 |
//! | `/source?bytes=N&chunk=C` | writes N bytes to channel 1, C at a time; with `&tasks=2` from two tasks, to channels 1 and 2 |
//! | `/sink` | reads channel 0 to its end, then sends the number of bytes, as 8 bytes in little-endian order |
//! | `/idle` | waits for the end of the session |
//! | `/exec?command=true&stdout=true` | runs the command behind `RemoteCommandLayer`, as a kubelet would |

use std::{convert::Infallible, env, io, net::SocketAddr, process::Stdio, time::Duration};

use http::{Request, request::Parts};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt},
    net::TcpListener,
    process::Command,
    time::sleep,
};
use tower::{Service, ServiceBuilder};
use tower_wsstream::{
    BoxError, ChannelProtocolConfig, ChannelProtocols, ChannelSet, ChannelType, ChannelWriter,
    ConfigError, Encoding, ProtocolSource, WsStreamLayer,
    remotecommand::{self, ExitStatus, RemoteCommand, RemoteCommandLayer},
    subprotocols,
};

/// The time for the head of a request.
const HEAD: Duration = Duration::from_secs(30);

/// The wait after an accept that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// The part of the request that the service needs, so that it can drop the head.
enum Work {
    Echo,
    Source {
        bytes: u64,
        chunk: usize,
        both: bool,
    },
    Sink,
    Idle,
}

impl Work {
    fn of(head: Option<&Parts>) -> Result<Self, BoxError> {
        let uri = &head.ok_or("the head was taken")?.uri;
        let number = |name: &str, default: u64| -> Result<u64, BoxError> {
            let query = uri.query().unwrap_or_default();
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            Ok(match pairs.find(|(key, _)| *key == name) {
                Some((_, value)) => value.parse()?,
                None => default,
            })
        };
        match uri.path() {
            "/echo" => Ok(Self::Echo),
            "/source" => Ok(Self::Source {
                bytes: number("bytes", u64::MAX)?,
                chunk: usize::try_from(number("chunk", 32 * 1024)?)?.max(1),
                both: number("tasks", 1)? > 1,
            }),
            "/sink" => Ok(Self::Sink),
            "/idle" => Ok(Self::Idle),
            path => Err(format!("no such path: {path}").into()),
        }
    }
}

async fn write(mut output: ChannelWriter, mut bytes: u64, chunk: usize) -> io::Result<()> {
    let chunk = vec![b'x'; chunk];
    while bytes > 0 {
        let n = bytes.min(chunk.len() as u64) as usize;
        output.write_all(&chunk[..n]).await?;
        bytes -= n as u64;
    }
    Ok(())
}

/// The path at which commands run. Their channels are those that the query asks for.
const EXEC: &str = "/exec";

async fn pump(from: Option<impl AsyncRead + Unpin>, to: Option<ChannelWriter>) -> io::Result<()> {
    if let (Some(mut from), Some(mut to)) = (from, to) {
        tokio::io::copy(&mut from, &mut to).await?;
    }
    Ok(())
}

async fn exec(command: RemoteCommand) -> Result<ExitStatus, BoxError> {
    let (program, arguments) = command.options.command.split_first().ok_or("no command")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let out = pump(child.stdout.take(), command.stdout);
    let err = pump(child.stderr.take(), command.stderr);
    let ((), (), status) = tokio::try_join!(out, err, child.wait())?;
    Ok(status.into())
}

async fn run(mut channels: ChannelSet) -> Result<(), BoxError> {
    if channels
        .request()
        .is_some_and(|head| head.uri.path() == EXEC)
    {
        let mut commands = ServiceBuilder::new()
            .layer(RemoteCommandLayer::new())
            .service_fn(exec);
        return commands.call(channels).await;
    }
    let work = Work::of(channels.request())?;
    let session = channels.session().clone();
    let mut input = channels.take_reader(0).ok_or("no readable channel 0")?;
    let mut output = channels.take_writer(1).ok_or("no writable channel 1")?;
    let second = channels.take_writer(2);
    drop(channels);
    match work {
        Work::Echo => loop {
            let bytes = input.fill_buf().await?;
            let n = bytes.len();
            if n == 0 {
                return Ok(());
            }
            output.write_all(bytes).await?;
            input.consume(n);
        },
        Work::Source { bytes, chunk, both } => {
            drop(input);
            match second.filter(|_| both) {
                Some(second) => {
                    let beside = tokio::spawn(write(second, bytes / 2, chunk));
                    write(output, bytes - bytes / 2, chunk).await?;
                    beside.await??;
                }
                None => write(output, bytes, chunk).await?,
            }
            Ok(())
        }
        Work::Sink => {
            let mut total = 0_u64;
            loop {
                let n = input.fill_buf().await?.len();
                if n == 0 {
                    break;
                }
                input.consume(n);
                total += n as u64;
            }
            output.write_all(&total.to_le_bytes()).await?;
            Ok(())
        }
        Work::Idle => {
            session.ended().await;
            Ok(())
        }
    }
}

/// Returns the table of subprotocols: stdin, stdout, stderr, error and resize for each.
fn protocols() -> Result<ChannelProtocols, ConfigError> {
    use ChannelType::{Read, Write};
    let channels =
        |encoding| ChannelProtocolConfig::new(encoding, [Read, Write, Write, Write, Read]);
    let binary = || channels(Encoding::Binary);
    let base64 = || channels(Encoding::Base64);
    ChannelProtocols::builder()
        .protocol(subprotocols::V5, binary().half_close(true))
        .protocol(subprotocols::V4, binary())
        .protocol(subprotocols::V4_BASE64, base64())
        .protocol(subprotocols::CHANNEL, binary())
        .protocol(subprotocols::BASE64_CHANNEL, base64())
        .protocol("", binary())
        .build()
}

/// Serves HTTP/1.1 only, so that the connection has no wrapper of a server for both versions.
async fn serve<S, B>(listener: TcpListener, service: S) -> Infallible
where
    S: Service<Request<Incoming>, Response = http::Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // There is usually no descriptor left, until a connection ends.
            sleep(PAUSE).await;
            continue;
        };
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(
            server
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades(),
        );
    }
}

fn main() -> Result<(), BoxError> {
    let mut listen: SocketAddr = "127.0.0.1:8002".parse()?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or(format!("{arg} needs a value"))?;
        match arg.as_str() {
            "--listen" => listen = value.parse()?,
            "--threads" => {
                runtime.worker_threads(value.parse()?);
            }
            _ => return Err(format!("unknown argument {arg}: --listen ADDR, --threads N").into()),
        }
    }
    runtime.enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        println!("listening on http://{}", listener.local_addr()?);
        let table = protocols()?;
        let source = move |head: &Parts| match head.uri.path() {
            EXEC => remotecommand::Protocols::default().protocols(head),
            _ => Ok(table.clone()),
        };
        let service = ServiceBuilder::new()
            .layer(WsStreamLayer::new(source))
            .service_fn(run);
        // This runs on a worker, so that a connection starts on the thread that accepts it.
        match tokio::spawn(serve(listener, service)).await? {}
    })
}
