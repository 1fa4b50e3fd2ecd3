//! Memory is bounded by configuration: a message of 1 GiB passes through in
//! some KiB, whether it comes in one frame or in a million.
//!
//! The server is a process of its own (this test's binary, run once more), so
//! that its resident memory can be sampled from outside.

#![cfg(target_os = "linux")]

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tower::ServiceBuilder;
use tower_wsstream::{BoxError, ChannelProtocols, ChannelSet, ChannelType, WsStreamLayer};

/// Says to a child that it is the server.
const SERVE: &str = "WSSTREAM_MEMORY_SERVE";

const GIB: u64 = 1 << 30;
const FRAGMENTS: u64 = 1_000_000;

/// What resident memory may rise above the warm figure.
const RISE: u64 = 2 << 20;

/// Counts what comes on channel 0, and says so on channel 1 when it ended.
async fn sink(mut channels: ChannelSet) -> Result<(), BoxError> {
    let mut input = channels.take_reader(0).ok_or("channel 0")?;
    let mut output = channels.take_writer(1).ok_or("channel 1")?;
    let mut total = 0;
    loop {
        let n = match input.fill_buf().await?.len() {
            0 => break,
            n => n,
        };
        input.consume(n);
        total += n as u64;
    }
    output.write_all(&total.to_le_bytes()).await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn serve() -> Result<(), BoxError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{SERVE} {}", listener.local_addr()?);
    let protocols = ChannelProtocols::standard([ChannelType::Read, ChannelType::Write])?;
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(protocols))
        .service_fn(sink);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(
                    TokioIo::new(stream),
                    TowerToHyperService::new(service.clone()),
                )
                .with_upgrades(),
        );
    }
}

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(test: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(SERVE, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The harness may have written something before it, on the same line.
        let address = lines
            .map(Result::unwrap)
            .find_map(|line| Some(line.split_once(SERVE)?.1.trim().to_owned()))
            .unwrap();
        Self { child, address }
    }

    fn resident(&self) -> u64 {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream
        .write_all(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
              Sec-WebSocket-Protocol: channel.k8s.io\r\n\r\n",
        )
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", head.escape_ascii());
    stream
}

/// Every byte of the masking key, and of a masked payload of zeros.
const KEY: u8 = 7;

/// A masked head.
fn head(first: u8, len: u64) -> Vec<u8> {
    let mut head = vec![first];
    match len {
        ..126 => head.push(0x80 | len as u8),
        126..65536 => {
            head.push(0x80 | 126);
            head.extend((len as u16).to_be_bytes());
        }
        _ => {
            head.push(0x80 | 127);
            head.extend(len.to_be_bytes());
        }
    }
    head.extend([KEY; 4]);
    head
}

/// Sends one message of `total` payload bytes for channel 0 in so many frames,
/// ends the input with a Close, and reads what the server counted.
fn session(server: &Server, total: u64, fragments: u64) {
    let mut stream = connect(server);
    let zeros = vec![KEY; 64 * 1024];
    let mut pending = Vec::new();
    let mut left = total + 1;
    for n in 0..fragments {
        let len = if n + 1 == fragments {
            left
        } else {
            (total + 1) / fragments
        };
        left -= len;
        let fin = if n + 1 == fragments { 0x80 } else { 0 };
        pending.extend(head(fin | if n == 0 { 2 } else { 0 }, len));
        let mut body = len;
        while body > 0 {
            let piece = body.min(zeros.len() as u64);
            pending.extend_from_slice(&zeros[..piece as usize]);
            body -= piece;
            if pending.len() >= zeros.len() {
                stream.write_all(&pending).unwrap();
                pending.clear();
            }
        }
    }
    pending.extend(head(0x88, 0));
    stream.write_all(&pending).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let mut expected = vec![0x82, 9, 1];
    expected.extend(total.to_le_bytes());
    expected.extend([0x88, 0]);
    assert_eq!(answer, expected);
}

#[test]
fn a_message_of_a_gibibyte_costs_nothing() {
    const NAME: &str = "a_message_of_a_gibibyte_costs_nothing";
    if env::var_os(SERVE).is_some() {
        return serve().unwrap();
    }
    let server = Server::start(NAME);
    for _ in 0..20 {
        session(&server, 4 << 20, 3);
    }
    let warm = server.resident();
    let highest = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                highest.fetch_max(server.resident(), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(100));
            }
        });
        session(&server, GIB, 1);
        session(&server, GIB, FRAGMENTS);
        done.store(true, Ordering::Relaxed);
    });
    let rise = highest.into_inner().saturating_sub(warm);
    println!("resident memory: {warm} bytes warm, at most {rise} more");
    assert!(rise < RISE, "{rise} bytes more than after the warm-up");
}
