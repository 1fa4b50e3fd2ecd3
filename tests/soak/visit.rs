//! One visit of a client: a session from its handshake to its end, or to its fault.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use crate::{
    random::Random,
    raw::{BINARY, Raw, TEXT, base64, frame, on},
};

/// The time of one visit, in which nothing but its own waits takes long.
const LONG: Duration = Duration::from_secs(60);

const SUBPROTOCOLS: [&str; 3] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
];

/// Returns the byte of a stream at an offset. The bytes repeat after 251 × 256.
pub(crate) fn byte(at: u64) -> u8 {
    (at % 251) as u8 ^ (at / 251 % 256) as u8
}

fn bytes(at: u64, len: u64) -> Vec<u8> {
    (at..at + len).map(byte).collect()
}

/// Returns what kind of visit this was, or what was wrong.
pub(crate) async fn visit(
    address: &str,
    name: &str,
    random: &mut Random,
) -> Result<String, String> {
    let offer = SUBPROTOCOLS[random.next(3) as usize];
    let kind = random.next(10);
    let visit = async {
        match kind {
            0..3 => echo(address, offer, random).await,
            3..6 => say(address, offer, random).await,
            6..9 => count(address, name, offer, random).await,
            _ => stay(address, offer, random).await,
        }
    };
    let what = timeout(LONG, visit).await.map_err(|_| "it hangs")??;
    Ok(format!("{offer}: {what}"))
}

async fn connect(address: &str, random: &mut Random) -> Result<TcpStream, String> {
    let socket = TcpSocket::new_v4().map_err(text)?;
    if random.next(3) == 0 {
        // Both sides wait often.
        socket.set_recv_buffer_size(4096).map_err(text)?;
        socket.set_send_buffer_size(4096).map_err(text)?;
    }
    let address = address.parse().map_err(|_| "no address")?;
    socket.connect(address).await.map_err(text)
}

fn text(error: io::Error) -> String {
    error.to_string()
}

async fn open(
    address: &str,
    path: &str,
    offer: &str,
    random: &mut Random,
) -> Result<Raw<TcpStream>, String> {
    let stream = connect(address, random).await?;
    Raw::handshake_at(stream, path, offer).await
}

/// Returns a length: most are short, some are megabytes.
fn len(random: &mut Random) -> u64 {
    match random.next(20) {
        0 => random.next(2 << 20),
        1..5 => random.next(100_000),
        _ => random.next(3000),
    }
}

/// Returns the frames of input of this length, in messages of all sizes.
fn input(offer: &str, total: u64, random: &mut Random) -> Vec<u8> {
    let mut frames = Vec::new();
    let mut at = 0;
    while at < total {
        let n = (1 + random.about()).min(total - at);
        let payload = bytes(at, n);
        frames.extend(match offer.contains("base64") {
            true => frame(true, TEXT, &base64(0, &payload)),
            false => frame(true, BINARY, &on(0, &payload)),
        });
        at += n;
    }
    frames
}

/// The frames that end the input.
fn end_of_input(offer: &str) -> Vec<u8> {
    match offer.starts_with("v5") {
        true => frame(true, BINARY, &[255, 0]),
        false => frame(true, crate::raw::CLOSE, &1000_u16.to_be_bytes()),
    }
}

/// Writes bytes in pieces of all sizes.
async fn write(
    io: &mut (impl AsyncWriteExt + Unpin),
    mut bytes: &[u8],
    random: &mut Random,
) -> io::Result<()> {
    let slow = random.next(20) == 0;
    while !bytes.is_empty() {
        let n = match random.next(4) {
            0 => 1 + random.next(100) as usize,
            _ => 1 + random.about() as usize,
        };
        let (now, rest) = bytes.split_at(n.min(bytes.len()));
        io.write_all(now).await?;
        bytes = rest;
        if slow {
            sleep(Duration::from_millis(random.next(5))).await;
        }
    }
    Ok(())
}

/// All input comes back, and the session ends with 1000.
async fn echo(address: &str, offer: &str, random: &mut Random) -> Result<String, String> {
    let raw = open(address, "/echo", offer, random).await?;
    let total = len(random);
    let mut frames = input(offer, total, random);
    frames.extend(end_of_input(offer));
    let (mut reader, mut writer) = raw.into_halves();
    let mut writes = random.split();
    let writes = async {
        write(&mut writer, &frames, &mut writes)
            .await
            .map_err(text)?;
        Ok::<_, String>(())
    };
    let (wrote, told) = tokio::join!(writes, reader.read_to_close());
    wrote?;
    if told.close != Some(Some(1000)) {
        return Err(format!(
            "an echo of {total} bytes ended with {:?}",
            told.close
        ));
    }
    if told.channel(1) != bytes(0, total) {
        return Err(format!("another echo than that of {total} bytes"));
    }
    if offer.starts_with("v5") {
        let close = frame(true, crate::raw::CLOSE, &1000_u16.to_be_bytes());
        writer.write_all(&close).await.map_err(text)?;
    }
    match reader.next().await {
        None => Ok("an echo".into()),
        Some(frame) => Err(format!("{frame:?} behind the Close")),
    }
}

/// All output comes in order, and the code says how the service ended. Or the client leaves early.
async fn say(address: &str, offer: &str, random: &mut Random) -> Result<String, String> {
    let total = len(random);
    let (end, code) = [("ok", 1000), ("fail", 1011), ("panic", 1011)][random.next(3) as usize];
    let path = format!("/say/{total}/{end}");
    let mut raw = match open(address, &path, offer, random).await {
        // A service that fails before it has written anything refuses.
        Err(answer) if total == 0 && code == 1011 && answer.contains(" 500 ") => {
            return Ok("refused".into());
        }
        raw => raw?,
    };
    if random.next(5) == 0 {
        let mut some = vec![0; 1 + random.about() as usize];
        let _ = raw.io.read(&mut some).await.map_err(text)?;
        leave(raw.io, random).await;
        return Ok("left an output".into());
    }
    if random.next(10) == 0 {
        // A reader that is slow for a while.
        for _ in 0..20 {
            sleep(Duration::from_millis(random.next(50))).await;
            let mut some = [0; 1000];
            let n = raw.io.read(&mut some).await.map_err(text)?;
            raw.buf.extend_from_slice(&some[..n]);
            if n == 0 {
                break;
            }
        }
    }
    let told = raw.read_to_end().await;
    if told.close != Some(Some(code)) {
        return Err(format!("{path} ended with {:?}", told.close));
    }
    if told.channel(1) != bytes(0, total) {
        return Err(format!("other output of {path}"));
    }
    Ok(format!("an output, {end}"))
}

/// The service sees all input, or an error if the connection breaks in between.
async fn count(
    address: &str,
    name: &str,
    offer: &str,
    random: &mut Random,
) -> Result<String, String> {
    let path = format!("/count/{name}");
    let mut raw = open(address, &path, offer, random).await?;
    let total = len(random);
    let frames = input(offer, total, random);
    let what = match random.next(4) {
        0 => {
            write(&mut raw.io, &frames, random).await.map_err(text)?;
            let end = end_of_input(offer);
            raw.bytes(&end).await.map_err(text)?;
            raw.read_to_close().await;
            "EOF"
        }
        1 => {
            write(&mut raw.io, &frames, random).await.map_err(text)?;
            // A frame with a reserved bit.
            raw.bytes(&[0xc2, 0x81, 0, 0, 0, 0, 0])
                .await
                .map_err(text)?;
            let told = raw.read_to_close().await;
            if told.close != Some(Some(1002)) {
                return Err(format!("a reserved bit, and {:?}", told.close));
            }
            "protocol_error"
        }
        _ => {
            let cut = random.next(frames.len() as u64 + 1) as usize;
            write(&mut raw.io, &frames[..cut], random)
                .await
                .map_err(text)?;
            leave(raw.io, random).await;
            "connection_lost"
        }
    };
    let seen = seen(address, name).await?;
    let mut parts = seen.split(' ');
    let n: u64 = parts
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or_default();
    let (right, end) = (parts.next(), parts.next());
    let whole = what == "connection_lost" || n == total;
    if right != Some("true") || end != Some(what) || n > total || !whole {
        return Err(format!("{what} of {total}, but it saw {seen:?}"));
    }
    Ok(format!("an input, {what}"))
}

/// Asks what the service of a visit has seen.
async fn seen(address: &str, name: &str) -> Result<String, String> {
    loop {
        let mut stream = TcpStream::connect(address).await.map_err(text)?;
        let request = format!("GET /seen/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.map_err(text)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(text)?;
        match answer.split_once("\r\n\r\n") {
            Some((_, seen)) if !seen.is_empty() => return Ok(seen.to_owned()),
            _ => sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Breaks a connection in one of the ways in which that happens.
async fn leave(mut io: TcpStream, random: &mut Random) {
    match random.next(3) {
        0 => {
            let _ = io.shutdown().await;
            let mut rest = Vec::new();
            let _ = io.read_to_end(&mut rest).await;
        }
        // A reset, which overtakes what was sent.
        1 => {
            let _ = io.set_zero_linger();
        }
        _ => {}
    }
}

/// Stays for some seconds, with a message now and then.
async fn stay(address: &str, offer: &str, random: &mut Random) -> Result<String, String> {
    let mut raw = open(address, "/echo", offer, random).await?;
    for _ in 0..1 + random.next(8) {
        sleep(Duration::from_millis(random.next(700))).await;
        raw.send(0, b"still here").await.map_err(text)?;
        let back = raw.next().await.ok_or("no echo")?;
        if back.payload.len() < 10 {
            return Err(format!("{back:?} is no echo"));
        }
    }
    leave(raw.io, random).await;
    Ok("a long one".into())
}
