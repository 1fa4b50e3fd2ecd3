//! The runs. Each is short and against one server. It returns named figures, the most
//! important one first.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::LocalSet,
};

use crate::{
    forward,
    server::{Server, machine_busy, own_cpu},
    transport::Transport,
    wire::{Conn, Skip, frame, open, shake_hands, ws_frame},
};

pub type Figures = Vec<(&'static str, f64)>;

pub const MIB: f64 = 1024.0 * 1024.0;
pub const GIB: f64 = 1024.0 * MIB;

/// The time before counting begins, in which connections warm up and windows open.
pub const WARM_UP: Duration = Duration::from_millis(150);

/// Makes one run: `dl:CHUNK[:TASKS]`, `dl64:CHUNK`, `ul:SIZE`, `ul64:SIZE`,
/// `echo:CONNECTIONS:WINDOW:SIZE`, `echo64:..`, `rtt:SIZE`, `hs:CONCURRENCY`,
/// `mixed:CONNECTIONS`, `idle:CONNECTIONS[:TOUCH]`, `stall:CHUNK[:CONNECTIONS]`,
/// `exec:TIMES`, and those of [`forward`].
pub fn run(server: &Server, name: &str, secs: f64) -> io::Result<Figures> {
    let mut words = name.split(':');
    let kind = words.next().unwrap_or_default();
    let numbers: Vec<usize> = words
        .map(|word| word.parse().map_err(io::Error::other))
        .collect::<io::Result<_>>()?;
    let work = async {
        match (kind, &numbers[..]) {
            ("dl", [chunk]) => download(server, *chunk, 1, false, secs).await,
            ("dl", [chunk, tasks]) => download(server, *chunk, *tasks, false, secs).await,
            ("dl64", [chunk]) => download(server, *chunk, 1, true, secs).await,
            ("ul", [size]) => upload(server, *size, false, secs).await,
            ("ul64", [size]) => upload(server, *size, true, secs).await,
            ("echo", [conns, window, size]) => {
                echo(server, *conns, *window, *size, false, secs).await
            }
            ("echo64", [conns, window, size]) => {
                echo(server, *conns, *window, *size, true, secs).await
            }
            ("rtt", [size]) => rtt(server, *size, secs).await,
            ("hs", [concurrency]) => handshakes(server, *concurrency, secs).await,
            ("mixed", [conns]) => mixed(server, *conns, secs).await,
            ("idle", [conns]) => idle_memory(server, *conns, 0).await,
            ("idle", [conns, touch]) => idle_memory(server, *conns, *touch).await,
            ("stall", [chunk]) => stalled_readers(server, *chunk, 1).await,
            ("stall", [chunk, conns]) => stalled_readers(server, *chunk, *conns).await,
            ("forward-dl", [chunk, streams]) => {
                forward::download(server, *chunk, *streams, secs).await
            }
            ("forward-ul", [size, streams]) => forward::upload(server, *size, *streams, secs).await,
            ("forward-rtt", [size]) => forward::round_trip(server, *size, secs).await,
            ("forward-hs", [concurrency]) => forward::connections(server, *concurrency, secs).await,
            ("forward-idle", [sessions, pairs]) => forward::idle(server, *sessions, *pairs).await,
            ("exec", [times]) if *times > 0 => execs(server, *times).await,
            _ => Err(io::Error::other(format!("no such run: {name}"))),
        }
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            tokio::time::timeout(Duration::from_secs_f64(secs + 30.0), work)
                .await
                .unwrap_or_else(|_| Err(io::Error::other("timed out")))
        })
}

/// Returns whether a run needs a server that has done nothing yet.
pub fn wants_fresh_server(name: &str) -> bool {
    ["idle", "stall", "forward-idle"]
        .iter()
        .any(|kind| name.starts_with(kind))
}

/// Returns whether client and server have to share a core. Across two cores, the wake-up
/// of the other one hides everything else.
pub fn wants_one_core(name: &str) -> bool {
    name.starts_with("rtt") || name.starts_with("forward-rtt")
}

/// Returns whether a peer serves a run. Port-forward over SPDY has peers of its own, and a
/// floor.
pub fn is_served_by(name: &str, peer: &str) -> bool {
    let speaks_spdy = Transport::of(peer).is_ok_and(|transport| transport.spdy.is_some());
    match name.starts_with("forward") {
        true if name.starts_with("forward-idle") => speaks_spdy,
        true => speaks_spdy || peer.starts_with("rawtcp"),
        false => !speaks_spdy,
    }
}

/// Returns whether every peer serves a run. Only two of them start processes.
pub fn is_served_by_all(name: &str) -> bool {
    !name.starts_with("exec")
}

pub fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i as u8).wrapping_mul(31)).collect()
}

pub struct Clocks(pub Instant, f64, f64, f64);

impl Clocks {
    pub fn new(s: &Server) -> Self {
        Clocks(Instant::now(), s.cpu(), own_cpu(), machine_busy())
    }
    /// Returns the wall time, and the CPU time of the server, the client and everything
    /// else.
    pub fn read(&self, s: &Server) -> (f64, f64, f64, f64) {
        let (w, sc, cc, b) = (
            self.0.elapsed().as_secs_f64(),
            s.cpu() - self.1,
            own_cpu() - self.2,
            machine_busy() - self.3,
        );
        (w, sc, cc, (b - sc - cc).max(0.0))
    }
}

fn b64_scale(b64: bool, chunk: usize, msgs: u64, bytes: u64) -> f64 {
    // Exact if the server kept the chunks of the source.
    if b64 && bytes == msgs * (chunk.div_ceil(3) * 3) as u64 {
        (msgs * chunk as u64) as f64
    } else {
        bytes as f64
    }
}

async fn download(
    s: &Server,
    chunk: usize,
    tasks: usize,
    b64: bool,
    secs: f64,
) -> io::Result<Figures> {
    let proto = if b64 {
        "base64.channel.k8s.io"
    } else {
        "channel.k8s.io"
    };
    let mut c = open(
        s.place(),
        &format!("/source?bytes={}&chunk={chunk}&tasks={tasks}", 1u64 << 42),
        proto,
    )
    .await?;
    let mut k = Skip::new(c.raw, chunk, b64);
    k.feed(&c.rest);
    let mut buf = vec![0u8; 256 * 1024];
    let warm = Instant::now();
    while warm.elapsed() < WARM_UP {
        let n = c.s.read(&mut buf).await?;
        if n == 0 {
            return Err(io::Error::other("source ended"));
        }
        k.feed(&buf[..n]);
    }
    let (b0, m0, f0) = (k.bytes, k.msgs, k.frames);
    let (mut reads, mut wire) = (0u64, 0u64);
    let t = Clocks::new(s);
    loop {
        let n = c.s.read(&mut buf).await?;
        if n == 0 {
            return Err(io::Error::other("source ended"));
        }
        k.feed(&buf[..n]);
        reads += 1;
        wire += n as u64;
        if reads & 15 == 0 && t.0.elapsed().as_secs_f64() >= secs {
            break;
        }
    }
    let (w, sc, cc, o) = t.read(s);
    if k.bad > 0 {
        return Err(io::Error::other(format!("{} bad frames", k.bad)));
    }
    let bytes = b64_scale(b64, chunk, k.msgs - m0, k.bytes - b0);
    Ok(vec![
        ("MiB/s", bytes / MIB / w),
        ("cpu_s/GiB", sc / (bytes / GIB)),
        ("msgs/s", (k.msgs - m0) as f64 / w),
        ("frames/s", (k.frames - f0) as f64 / w),
        ("server_cpu", sc / w),
        ("client_cpu", cc / w),
        ("bytes/read", wire as f64 / reads as f64),
        ("others", o / w),
    ])
}

async fn upload(s: &Server, chunk: usize, b64: bool, secs: f64) -> io::Result<Figures> {
    // base64 has no CLOSE signal to tell the sink when to count, so only binary runs
    // use v5.
    let proto = if b64 {
        "base64.channel.k8s.io"
    } else {
        "v5.channel.k8s.io"
    };
    let mut c = open(s.place(), "/sink", proto).await?;
    let p = pattern(chunk);
    let mut one = Vec::new();
    frame(&mut one, 0, &p, b64, c.raw);
    let reps = (256 * 1024usize).div_ceil(one.len());
    let blk = one.repeat(reps);
    let mut sent = 0u64;
    let t = Clocks::new(s);
    while t.0.elapsed().as_secs_f64() < secs {
        c.s.write_all(&blk).await?;
        sent += (reps * chunk) as u64;
    }
    if b64 {
        // The socket buffers bound the bytes in flight. This reports the accepted bytes.
        let (w, sc, cc, o) = t.read(s);
        return Ok(vec![
            ("MiB/s", sent as f64 / MIB / w),
            ("cpu_s/GiB", sc / (sent as f64 / GIB)),
            ("client_cpu", cc / w),
            ("others", o / w),
        ]);
    }
    let got = finish_sink(&mut c).await?;
    let (w, sc, cc, o) = t.read(s);
    if got != sent {
        return Err(io::Error::other(format!("sink counted {got}, sent {sent}")));
    }
    Ok(vec![
        ("MiB/s", sent as f64 / MIB / w),
        ("cpu_s/GiB", sc / (sent as f64 / GIB)),
        ("msgs/s", sent as f64 / chunk as f64 / w),
        ("server_cpu", sc / w),
        ("client_cpu", cc / w),
        ("others", o / w),
    ])
}

async fn finish_sink(c: &mut Conn) -> io::Result<u64> {
    if c.raw {
        c.s.shutdown().await?;
    } else {
        let mut f = Vec::new();
        ws_frame(&mut f, 2, &[255, 0]);
        c.s.write_all(&f).await?;
    }
    let mut k = Skip::new(c.raw, 8, false);
    k.keep_last = true;
    k.feed(&c.rest);
    let mut buf = [0u8; 1024];
    while k.last.len() < 8 {
        let n = c.s.read(&mut buf).await?;
        if n == 0 {
            return Err(io::Error::other("no count from the sink"));
        }
        k.feed(&buf[..n]);
    }
    Ok(u64::from_le_bytes(k.last[..8].try_into().unwrap()))
}

async fn echo(
    s: &Server,
    conns: usize,
    window: usize,
    size: usize,
    b64: bool,
    secs: f64,
) -> io::Result<Figures> {
    let proto = if b64 {
        "base64.channel.k8s.io"
    } else {
        "channel.k8s.io"
    };
    let total = Rc::new(Cell::new(0u64));
    let stop = Rc::new(Cell::new(false));
    let err: Rc<RefCell<Option<io::Error>>> = Rc::default();
    let local = LocalSet::new();
    local
        .run_until(async {
            let mut hs = Vec::new();
            for _ in 0..conns {
                let mut c = open(s.place(), "/echo", proto).await?;
                let (total, stop, err) = (total.clone(), stop.clone(), err.clone());
                hs.push(tokio::task::spawn_local(async move {
                    let r: io::Result<()> = async {
                        let p = pattern(size);
                        let mut one = Vec::new();
                        frame(&mut one, 0, &p, b64, c.raw);
                        let blk = one.repeat(window);
                        let mut k = Skip::new(c.raw, size, b64);
                        let mut buf = vec![0u8; 128 * 1024];
                        c.s.write_all(&blk).await?;
                        let mut seen = 0;
                        while !stop.get() {
                            let n = c.s.read(&mut buf).await?;
                            if n == 0 {
                                return Err(io::Error::other("echo ended"));
                            }
                            k.feed(&buf[..n]);
                            // Counted in bytes, because a server with byte channels may
                            // merge messages.
                            let now = if b64 { k.msgs } else { k.bytes / size as u64 };
                            let d = (now - seen) as usize;
                            if d > 0 {
                                seen = now;
                                total.set(total.get() + d as u64);
                                c.s.write_all(&blk[..d * one.len()]).await?;
                            }
                        }
                        if k.bad > 0 {
                            return Err(io::Error::other("bad frames"));
                        }
                        Ok(())
                    }
                    .await;
                    if let Err(e) = r {
                        *err.borrow_mut() = Some(e);
                    }
                }));
            }
            tokio::time::sleep(WARM_UP).await;
            let n0 = total.get();
            let t = Clocks::new(s);
            tokio::time::sleep(Duration::from_secs_f64(secs)).await;
            let n = (total.get() - n0) as f64;
            let (w, sc, cc, o) = t.read(s);
            stop.set(true);
            for h in hs {
                h.abort();
            }
            if let Some(e) = err.borrow_mut().take() {
                return Err(e);
            }
            if n == 0.0 {
                return Err(io::Error::other("no echo"));
            }
            Ok(vec![
                ("msgs/s", n / w),
                ("cpu_us/msg", sc * 1e6 / n),
                ("MiB/s", n * size as f64 / MIB / w),
                ("server_cpu", sc / w),
                ("client_cpu", cc / w),
                ("others", o / w),
            ])
        })
        .await
}

async fn rtt(s: &Server, size: usize, secs: f64) -> io::Result<Figures> {
    let mut c = open(s.place(), "/echo", "channel.k8s.io").await?;
    let mut one = Vec::new();
    frame(&mut one, 0, &pattern(size), false, c.raw);
    let mut k = Skip::new(c.raw, size, false);
    let mut buf = vec![0u8; 64 * 1024];
    let mut ns: Vec<u32> = Vec::with_capacity(200_000);
    let mut t = Clocks::new(s);
    let mut warm = true;
    loop {
        let t0 = Instant::now();
        c.s.write_all(&one).await?;
        let want = k.bytes + size as u64;
        while k.bytes < want {
            let n = c.s.read(&mut buf).await?;
            if n == 0 {
                return Err(io::Error::other("echo ended"));
            }
            k.feed(&buf[..n]);
        }
        ns.push(t0.elapsed().as_nanos() as u32);
        let e = t.0.elapsed().as_secs_f64();
        if warm && e > WARM_UP.as_secs_f64() {
            warm = false;
            ns.clear();
            t = Clocks::new(s);
        } else if !warm && e > secs {
            break;
        }
    }
    let (w, sc, cc, o) = t.read(s);
    let n = ns.len();
    ns.sort_unstable();
    Ok(vec![
        ("p50_us", ns[n / 2] as f64 / 1e3),
        ("p99_us", ns[n * 99 / 100] as f64 / 1e3),
        ("msgs/s", n as f64 / w),
        ("cpu_us/msg", sc * 1e6 / n as f64),
        ("client_cpu", cc / w),
        ("others", o / w),
    ])
}

/// Runs a command that does nothing, from the connection to the Close, in one session
/// after another.
///
/// There is no figure for the CPU of other processes, because the commands are other
/// processes.
async fn execs(s: &Server, times: usize) -> io::Result<Figures> {
    for _ in 0..times.min(10) {
        exec_once(s).await?;
    }
    let mut us = Vec::with_capacity(times);
    let t = Clocks::new(s);
    for _ in 0..times {
        let start = Instant::now();
        exec_once(s).await?;
        us.push(start.elapsed().as_secs_f64() * 1e6);
    }
    let (_, sc, _, _) = t.read(s);
    us.sort_by(f64::total_cmp);
    Ok(vec![
        ("p50_us", us[times / 2]),
        ("p90_us", us[times * 9 / 10]),
        ("most_us", us[times - 1]),
        ("cpu_us", sc * 1e6 / times as f64),
    ])
}

/// Runs one command: a Status that reports success has to arrive, then a Close with
/// 1000.
async fn exec_once(s: &Server) -> io::Result<()> {
    const TARGET: &str = "/exec?command=true&stdout=true&stderr=true";
    let mut c = open(s.place(), TARGET, "v5.channel.k8s.io").await?;
    let (mut came, mut succeeded) = (std::mem::take(&mut c.rest), false);
    let mut buf = [0u8; 1024];
    loop {
        // Every frame of such a session is short: two bytes, followed by its payload.
        while let [op, len @ 0..=125, rest @ ..] = &came[..]
            && let Some(payload) = rest.get(..usize::from(*len))
        {
            match (op & 15, payload) {
                (2, [3, status @ ..]) => {
                    succeeded = status.windows(9).any(|word| word == b"\"Success\"");
                }
                (8, [3, 232, ..]) if succeeded => {
                    let mut close = Vec::new();
                    ws_frame(&mut close, 8, &[3, 232]);
                    return c.s.write_all(&close).await;
                }
                (8, _) => return Err(io::Error::other("the command has not succeeded")),
                _ => {}
            }
            came.drain(..2 + usize::from(*len));
        }
        let n = c.s.read(&mut buf).await?;
        if n == 0 {
            return Err(io::Error::other("no Close from the server"));
        }
        came.extend_from_slice(&buf[..n]);
    }
}

async fn handshakes(s: &Server, conc: usize, secs: f64) -> io::Result<Figures> {
    let done = Rc::new(Cell::new(0u64));
    let bad = Rc::new(Cell::new(0u64));
    let local = LocalSet::new();
    local
        .run_until(async {
            let mut hs = vec![];
            for _ in 0..conc {
                let (done, bad, a) = (done.clone(), bad.clone(), s.place());
                hs.push(tokio::task::spawn_local(async move {
                    loop {
                        match shake_hands(a, "/idle", "channel.k8s.io").await {
                            Ok(_) => done.set(done.get() + 1),
                            Err(_) => bad.set(bad.get() + 1),
                        }
                    }
                }));
            }
            tokio::time::sleep(WARM_UP).await;
            let n0 = done.get();
            let t = Clocks::new(s);
            tokio::time::sleep(Duration::from_secs_f64(secs)).await;
            let n = (done.get() - n0) as f64;
            let (w, sc, cc, o) = t.read(s);
            for h in hs {
                h.abort();
            }
            if bad.get() > 0 {
                return Err(io::Error::other(format!("{} failed handshakes", bad.get())));
            }
            Ok(vec![
                ("per_s", n / w),
                ("cpu_us", sc * 1e6 / n),
                ("client_cpu", cc / w),
                ("others", o / w),
            ])
        })
        .await
}

/// Runs a third each of echoes, downloads and uploads at once, and counts the bytes of
/// payload in both directions.
async fn mixed(s: &Server, conns: usize, secs: f64) -> io::Result<Figures> {
    const SIZE: usize = 1024;
    const WINDOW: usize = 16;
    let total = Rc::new(Cell::new(0u64));
    let broken: Rc<RefCell<Option<io::Error>>> = Rc::default();
    LocalSet::new()
        .run_until(async {
            // All connections are opened before any of them runs, because running ones
            // leave no time to connect.
            let mut opened = vec![];
            for n in 0..conns {
                let target = match n % 3 {
                    0 => "/echo".to_owned(),
                    1 => format!("/source?bytes={}&chunk={SIZE}", 1u64 << 42),
                    _ => "/sink".to_owned(),
                };
                opened.push(open(s.place(), &target, "v5.channel.k8s.io").await?);
            }
            let mut tasks = vec![];
            for (n, mut c) in opened.into_iter().enumerate() {
                let (total, broken) = (total.clone(), broken.clone());
                tasks.push(tokio::task::spawn_local(async move {
                    let mut one = Vec::new();
                    frame(&mut one, 0, &pattern(SIZE), false, c.raw);
                    let block = one.repeat(WINDOW);
                    let mut skip = Skip::new(c.raw, SIZE, false);
                    let mut buf = vec![0u8; 16 * 1024];
                    let work: io::Result<()> = async {
                        loop {
                            if n % 3 != 1 {
                                c.s.write_all(&block).await?;
                            }
                            if n % 3 == 2 {
                                total.set(total.get() + (WINDOW * SIZE) as u64);
                                continue;
                            }
                            let want = skip.bytes + (WINDOW * SIZE) as u64;
                            while skip.bytes < want {
                                let (n, before) = (c.s.read(&mut buf).await?, skip.bytes);
                                if n == 0 {
                                    return Err(io::Error::other("the server hung up"));
                                }
                                skip.feed(&buf[..n]);
                                total.set(total.get() + skip.bytes - before);
                            }
                        }
                    }
                    .await;
                    *broken.borrow_mut() = work.err();
                }));
            }
            tokio::time::sleep(WARM_UP).await;
            let before = total.get();
            let t = Clocks::new(s);
            tokio::time::sleep(Duration::from_secs_f64(secs)).await;
            let bytes = (total.get() - before) as f64;
            let (w, sc, cc, o) = t.read(s);
            for task in tasks {
                task.abort();
            }
            if let Some(error) = broken.take() {
                return Err(error);
            }
            Ok(vec![
                ("MiB/s", bytes / MIB / w),
                ("cpu_s/GiB", sc / (bytes / GIB)),
                ("client_cpu", cc / w),
                ("others", o / w),
            ])
        })
        .await
}

/// Measures the resident memory of connections that do nothing. `touch` is the size of a
/// message that each has echoed before.
async fn idle_memory(s: &Server, conns: usize, touch: usize) -> io::Result<Figures> {
    let target = if touch > 0 { "/echo" } else { "/idle" };
    for _ in 0..32 {
        open(s.place(), target, "channel.k8s.io").await?;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = s.resident();
    let mut kept = Vec::with_capacity(conns);
    let mut buf = vec![0u8; 64 * 1024];
    for _ in 0..conns {
        let mut c = open(s.place(), target, "channel.k8s.io").await?;
        if touch > 0 {
            let mut one = Vec::new();
            frame(&mut one, 0, &pattern(touch), false, c.raw);
            c.s.write_all(&one).await?;
            let mut k = Skip::new(c.raw, touch, false);
            while k.bytes < touch as u64 {
                let n = c.s.read(&mut buf).await?;
                if n == 0 {
                    return Err(io::Error::other("echo ended"));
                }
                k.feed(&buf[..n]);
            }
        }
        kept.push(c);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let after = s.resident();
    drop(kept);
    Ok(vec![
        ("KiB/conn", (after - before) / conns as f64),
        ("base_MiB", before / 1024.0),
    ])
}

/// Measures the growth of resident memory for each connection behind a source of 1 GiB
/// that is not read.
async fn stalled_readers(s: &Server, chunk: usize, conns: usize) -> io::Result<Figures> {
    for _ in 0..4 {
        open(s.place(), "/idle", "channel.k8s.io").await?;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let before = s.resident();
    let target = format!("/source?bytes={}&chunk={chunk}", 1u64 << 30);
    let mut kept = Vec::with_capacity(conns);
    for _ in 0..conns {
        kept.push(open(s.place(), &target, "channel.k8s.io").await?);
    }
    let mut top = 0.0_f64;
    for _ in 0..15 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        top = top.max(s.resident());
    }
    let t = Clocks::new(s);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (w, sc, _, _) = t.read(s);
    drop(kept);
    Ok(vec![
        ("growth_KiB", (top - before) / conns as f64),
        ("most_KiB", (s.most_resident() - before) / conns as f64),
        ("cpu_while_stalled", sc / w),
    ])
}
