//! A session that has warmed up does not allocate: not for 10,000 messages of any size, in either
//! direction, after the first 100.
//!
//! The server is hyper with the default `WsStreamLayer`, over TCP. The client is a thread that has
//! prepared everything it sends, and reads into one array. There is only one test, because the
//! allocations of another would be counted.

use std::{
    alloc::System,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use stats_alloc::{INSTRUMENTED_SYSTEM, Stats, StatsAlloc};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt},
    net::TcpListener,
    runtime::{Builder, Runtime},
};
use tower::ServiceBuilder;
use tower_wsstream::{
    BoxError, ChannelProtocolConfig, ChannelProtocols, ChannelSet, ChannelType, Encoding,
    WsStreamLayer, subprotocols,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const WARM_UP: usize = 100;
const MESSAGES: usize = 10_000;

fn counted(base64: bool) -> usize {
    // Unoptimised base64 is slow.
    if base64 { MESSAGES / 10 } else { MESSAGES }
}

/// The bytes of payload that the service has received.
static RECEIVED: AtomicUsize = AtomicUsize::new(0);

/// The messages that the service has written.
static WRITTEN: AtomicUsize = AtomicUsize::new(0);

async fn echo(mut channels: ChannelSet) -> Result<(), BoxError> {
    let mut input = channels.take_reader(0).ok_or("channel 0")?;
    let mut output = channels.take_writer(1).ok_or("channel 1")?;
    drop(channels);
    loop {
        let bytes = input.fill_buf().await?;
        let n = bytes.len();
        if n == 0 {
            return Ok(());
        }
        output.write_all(bytes).await?;
        input.consume(n);
    }
}

async fn sink(mut channels: ChannelSet) -> Result<(), BoxError> {
    let mut input = channels.take_reader(0).ok_or("channel 0")?;
    drop(channels);
    loop {
        let n = input.fill_buf().await?.len();
        if n == 0 {
            return Ok(());
        }
        input.consume(n);
        RECEIVED.fetch_add(n, Ordering::SeqCst);
    }
}

async fn source(mut channels: ChannelSet, size: usize) -> Result<(), BoxError> {
    let mut output = channels.take_writer(1).ok_or("channel 1")?;
    drop(channels);
    let payload = vec![7; size];
    loop {
        output.write_all(&payload).await?;
        WRITTEN.fetch_add(1, Ordering::SeqCst);
    }
}

async fn run(channels: ChannelSet) -> Result<(), BoxError> {
    let path = channels.request().ok_or("the head was taken")?.uri.path();
    match path.trim_start_matches('/').split_once('/') {
        Some(("echo", _)) => echo(channels).await,
        Some(("sink", _)) => sink(channels).await,
        Some(("source", size)) => {
            let size = size.parse()?;
            source(channels, size).await
        }
        _ => Err("no such path".into()),
    }
}

fn protocols() -> ChannelProtocols {
    use ChannelType::{Read, Write};
    let channels = |encoding| ChannelProtocolConfig::new(encoding, [Read, Write]);
    ChannelProtocols::builder()
        .protocol(
            subprotocols::V5,
            channels(Encoding::Binary).half_close(true),
        )
        .protocol(subprotocols::V4_BASE64, channels(Encoding::Base64))
        .build()
        .unwrap()
}

fn serve(runtime: &Runtime) -> SocketAddr {
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(protocols()))
        .service_fn(run);
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(
                        TokioIo::new(stream),
                        TowerToHyperService::new(service.clone()),
                    )
                    .with_upgrades(),
            );
        }
    });
    address
}

fn connect(address: SocketAddr, path: &str, subprotocol: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    )
    .unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    stream
}

/// Returns one message for channel 0, as a client sends it. The masking key is 0.
fn message(size: usize, base64: bool) -> Vec<u8> {
    let (opcode, prefix, payload) = match base64 {
        // 'A' stands for six zero bits.
        true => (0x81, b'0', vec![b'A'; size.div_ceil(3) * 4]),
        false => (0x82, 0, vec![0; size]),
    };
    let len = payload.len() + 1;
    let mut frame = vec![opcode];
    match len {
        0..126 => frame.push(0x80 | len as u8),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.push(prefix);
    frame.extend(payload);
    frame
}

/// Returns how many bytes the server sends for a message.
fn answer_len(size: usize, base64: bool) -> usize {
    message(size, base64).len() - 4
}

fn allocations_since(before: Stats) -> usize {
    let now = ALLOCATOR.stats() - before;
    now.allocations + now.reallocations
}

/// Reads and discards `bytes` bytes.
fn skip(stream: &mut TcpStream, mut bytes: usize, buffer: &mut [u8]) {
    while bytes > 0 {
        let most = bytes.min(buffer.len());
        let n = stream.read(&mut buffer[..most]).unwrap();
        assert_ne!(n, 0, "the server has ended the session");
        bytes -= n;
    }
}

fn download(address: SocketAddr, size: usize, subprotocol: &str) -> usize {
    let base64 = subprotocol == subprotocols::V4_BASE64;
    let one = answer_len(size, base64);
    WRITTEN.store(0, Ordering::SeqCst);
    let mut stream = connect(address, &format!("/source/{size}"), subprotocol);
    let mut buffer = vec![0; 64 * 1024];
    // Any session that has warmed up fills its socket, and the queue behind it.
    let mut before = 0;
    loop {
        thread::sleep(Duration::from_millis(10));
        let now = WRITTEN.load(Ordering::SeqCst);
        if now > 0 && now == before {
            break;
        }
        before = now;
    }
    skip(&mut stream, one * WARM_UP, &mut buffer);
    let before = ALLOCATOR.stats();
    skip(&mut stream, one * counted(base64), &mut buffer);
    allocations_since(before)
}

/// Sends messages one by one, and awaits the answer to each.
fn round_trips(address: SocketAddr, size: usize, subprotocol: &str) -> usize {
    let base64 = subprotocol == subprotocols::V4_BASE64;
    let mut stream = connect(address, "/echo/", subprotocol);
    let (message, mut buffer) = (message(size, base64), vec![0; 64 * 1024]);
    let mut go = |count| {
        for _ in 0..count {
            stream.write_all(&message).unwrap();
            // A large message arrives in as many pieces as it takes chunks of the window, and each
            // piece is answered. Only the bytes that come back are therefore counted.
            let mut payload = 0;
            while payload < size {
                let mut head = [0; 2];
                stream.read_exact(&mut head).unwrap();
                let len = match head[1] {
                    126 => {
                        let mut len = [0; 2];
                        stream.read_exact(&mut len).unwrap();
                        usize::from(u16::from_be_bytes(len))
                    }
                    len => usize::from(len),
                };
                skip(&mut stream, len, &mut buffer);
                payload += match base64 {
                    true => (len - 1) / 4 * 3,
                    false => len - 1,
                };
            }
        }
    };
    go(WARM_UP);
    let before = ALLOCATOR.stats();
    go(counted(base64));
    allocations_since(before)
}

/// Sends a few messages at a time, so that the window is as full at the beginning as later.
fn upload(address: SocketAddr, size: usize, subprotocol: &str) -> usize {
    const AT_A_TIME: usize = 50;
    let base64 = subprotocol == subprotocols::V4_BASE64;
    let messages = message(size, base64).repeat(AT_A_TIME);
    let payload = match base64 {
        true => size.div_ceil(3) * 3,
        false => size,
    };
    let mut stream = connect(address, "/sink/", subprotocol);
    RECEIVED.store(0, Ordering::SeqCst);
    let mut sent = 0;
    let mut go = |count| {
        for _ in 0..count / AT_A_TIME {
            stream.write_all(&messages).unwrap();
            sent += AT_A_TIME * payload;
            while RECEIVED.load(Ordering::SeqCst) < sent {
                thread::yield_now();
            }
        }
    };
    go(WARM_UP);
    let before = ALLOCATOR.stats();
    go(counted(base64));
    allocations_since(before)
}

type Run = fn(SocketAddr, usize, &str) -> usize;

const RUNS: [(&str, Run); 3] = [
    ("download", download),
    ("upload", upload),
    ("round trips", round_trips),
];

/// Makes every run of a subprotocol against one runtime, and returns the most allocations that a
/// run has made.
fn most(builder: &mut Builder, subprotocol: &str) -> usize {
    let runtime = Arc::new(builder.enable_all().build().unwrap());
    let address = serve(&runtime);
    // Drives a runtime that has no thread of its own.
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let driver = thread::spawn({
        let runtime = Arc::clone(&runtime);
        move || {
            let _ = runtime.block_on(stopped);
        }
    });
    // tokio allocates its list of the tasks that have used up their budget when the first task does
    // so.
    download(address, 32 * 1024, subprotocol);
    let mut most = 0;
    for size in [64, 32 * 1024] {
        for (name, run) in RUNS {
            let n = run(address, size, subprotocol);
            println!("{subprotocol}, messages of {size} B, {name}: {n} allocations");
            most = most.max(n);
        }
    }
    drop(stop);
    driver.join().unwrap();
    most
}

#[test]
fn a_session_in_its_stride_allocates_nothing() {
    for subprotocol in [subprotocols::V5, subprotocols::V4_BASE64] {
        assert_eq!(most(&mut Builder::new_current_thread(), subprotocol), 0);
    }
    // A session may move to a worker that has not run one yet, and whose stock is empty: it
    // allocates 16 chunks and 8 out buffers once.
    let two = most(
        Builder::new_multi_thread().worker_threads(2),
        subprotocols::V5,
    );
    assert!(two <= 16 + 8, "{two}");
}
