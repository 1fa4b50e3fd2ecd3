//! The runs of port-forward over SPDY: `forward-dl:CHUNK:STREAMS`, `forward-ul:SIZE:STREAMS`,
//! `forward-rtt:SIZE`, `forward-hs:CONCURRENCY` and `forward-idle:SESSIONS:PAIRS`.
//!
//! The path of the request names the work of all connections of a session. Against a peer
//! without SPDY, each of them is a connection of its own: the floor.

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
    runs::{Clocks, Figures, GIB, MIB, WARM_UP, pattern},
    server::Server,
    spdy::{Event, Reader, Writer},
    transport::{Place, Spdy, Stream},
    wire::{ask, open},
};

const PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";

/// The bytes that one read takes.
const READ: usize = 256 * 1024;

/// The bytes of a write of an upload.
const BLOCK: usize = 256 * 1024;

fn ended() -> io::Error {
    io::Error::other("the server hung up")
}

/// A session, as kubectl has one.
struct Session {
    stream: Stream,
    writer: Writer,
    reader: Reader,
    /// Frames that were made and not sent.
    out: Vec<u8>,
    buf: Vec<u8>,
    /// The streams so far, by number: 1, 3, 5, and so on.
    streams: Vec<Role>,
    /// The connections so far.
    pairs: u32,
}

/// What a stream is, and of which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Error(u32),
    Data(u32),
}

impl Session {
    async fn open(place: Place, spdy: Spdy, target: &str) -> io::Result<Self> {
        let (stream, rest) = match spdy {
            Spdy::Tunnel => {
                let conn = open(place, target, PROTOCOL).await?;
                (conn.s, conn.rest)
            }
            Spdy::Post => {
                let mut stream = Stream::connect(place).await?;
                let request = format!(
                    "POST {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: Upgrade\r\nContent-Length: 0\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: portforward.k8s.io\r\n\r\n",
                    place.address.port()
                );
                let (_, rest) = ask(&mut stream, &request).await?;
                stream.set_nodelay()?;
                (stream, rest)
            }
        };
        let tunnel = spdy == Spdy::Tunnel;
        let mut session = Self {
            stream,
            writer: Writer::new(tunnel),
            reader: Reader::new(tunnel),
            out: vec![],
            buf: vec![0; READ],
            streams: vec![],
            pairs: 0,
        };
        session.reader.feed(&rest);
        Ok(session)
    }

    async fn send(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            self.stream.write_all(&self.out).await?;
            self.out.clear();
        }
        Ok(())
    }

    /// Reads once, and answers PINGs. Returns everything else that happened.
    async fn read(&mut self) -> io::Result<Vec<Event>> {
        let n = self.stream.read(&mut self.buf).await?;
        if n == 0 {
            return Err(ended());
        }
        self.reader.feed(&self.buf[..n]);
        if self.reader.bad > 0 {
            return Err(io::Error::other("bad frames"));
        }
        let mut events = std::mem::take(&mut self.reader.events);
        for event in &events {
            match event {
                Event::Ping(id) => self.writer.ping(&mut self.out, *id),
                Event::Reset(stream) => {
                    return Err(io::Error::other(format!("stream {stream} was reset")));
                }
                Event::Over => return Err(ended()),
                Event::Reply(_) | Event::Fin(_) => {}
            }
        }
        events.retain(|event| !matches!(event, Event::Ping(_)));
        Ok(events)
    }

    /// The next number of a stream. Numbers rise in the order in which streams are opened.
    fn number(&mut self, role: Role) -> u32 {
        self.streams.push(role);
        2 * self.streams.len() as u32 - 1
    }

    fn role(&self, stream: u32) -> Role {
        self.streams[stream as usize / 2]
    }

    /// The first frame of a connection: its error stream.
    fn begin(&mut self) {
        let stream = self.number(Role::Error(self.pairs));
        self.writer.open(&mut self.out, stream, "error", self.pairs);
        self.pairs += 1;
    }

    /// The frames after the reply to an error stream. Does nothing for that to a data stream.
    fn go_on(&mut self, stream: u32) {
        if let Role::Error(pair) = self.role(stream) {
            self.writer.fin(&mut self.out, stream);
            let stream = self.number(Role::Data(pair));
            self.writer.open(&mut self.out, stream, "data", pair);
        }
    }

    /// Makes a connection, up to the reply to its data stream. Returns the number of that.
    async fn connect(&mut self) -> io::Result<u32> {
        self.begin();
        loop {
            self.send().await?;
            for event in self.read().await? {
                if let Event::Reply(stream) = event {
                    if let Role::Data(_) = self.role(stream) {
                        return Ok(stream);
                    }
                    self.go_on(stream);
                }
            }
        }
    }
}

/// Tasks on this thread, and the last error of them.
struct Tasks {
    set: LocalSet,
    broken: Rc<RefCell<Option<io::Error>>>,
}

impl Tasks {
    fn new() -> Self {
        Self {
            set: LocalSet::new(),
            broken: Rc::default(),
        }
    }

    fn add(&self, work: impl Future<Output = io::Result<()>> + 'static) {
        let broken = Rc::clone(&self.broken);
        self.set.spawn_local(async move {
            if let Err(error) = work.await {
                *broken.borrow_mut() = Some(error);
            }
        });
    }

    /// Lets them run, and returns how much `total` grew between the two ends of the time.
    async fn run(&self, s: &Server, total: &Cell<u64>, secs: f64) -> io::Result<(f64, Clocks)> {
        self.set
            .run_until(async {
                tokio::time::sleep(WARM_UP).await;
                let before = total.get();
                let clocks = Clocks::new(s);
                tokio::time::sleep(Duration::from_secs_f64(secs)).await;
                match self.broken.take() {
                    Some(error) => Err(error),
                    None => Ok(((total.get() - before) as f64, clocks)),
                }
            })
            .await
    }
}

fn moved(s: &Server, bytes: f64, clocks: &Clocks) -> Figures {
    let (w, sc, cc, o) = clocks.read(s);
    vec![
        ("MiB/s", bytes / MIB / w),
        ("cpu_s/GiB", sc / (bytes / GIB)),
        ("server_cpu", sc / w),
        ("client_cpu", cc / w),
        ("others", o / w),
    ]
}

/// The server writes as fast as it can on every connection, `chunk` bytes at a time.
pub async fn download(s: &Server, chunk: usize, streams: usize, secs: f64) -> io::Result<Figures> {
    let target = format!("/source?bytes={}&chunk={chunk}", 1u64 << 42);
    let place = s.place();
    let total = Rc::new(Cell::new(0));
    let tasks = Tasks::new();
    if let Some(spdy) = place.transport.spdy {
        let mut session = Session::open(place, spdy, &target).await?;
        for _ in 0..streams {
            session.connect().await?;
        }
        let total = Rc::clone(&total);
        tasks.add(async move {
            loop {
                session.send().await?;
                if !session.read().await?.is_empty() {
                    return Err(io::Error::other("a source ended"));
                }
                total.set(session.reader.bytes);
            }
        });
    } else {
        for _ in 0..streams {
            let mut conn = open(place, &target, "channel.k8s.io").await?;
            let total = Rc::clone(&total);
            tasks.add(async move {
                let mut buf = vec![0; READ];
                loop {
                    match conn.s.read(&mut buf).await? {
                        0 => return Err(ended()),
                        n => total.set(total.get() + n as u64),
                    }
                }
            });
        }
    }
    let (bytes, clocks) = tasks.run(s, &total, secs).await?;
    Ok(moved(s, bytes, &clocks))
}

/// The client writes as fast as it can on every connection, in frames of `size` bytes. The
/// sinks say how much arrived.
pub async fn upload(s: &Server, size: usize, streams: usize, secs: f64) -> io::Result<Figures> {
    let place = s.place();
    let payload = pattern(size);
    let times = (BLOCK / size).max(1);
    let (sent, clocks) = if let Some(spdy) = place.transport.spdy {
        let mut session = Session::open(place, spdy, "/sink").await?;
        let mut blocks = vec![];
        for _ in 0..streams {
            let stream = session.connect().await?;
            let mut block = vec![];
            for _ in 0..times {
                session.writer.data(&mut block, stream, &payload);
            }
            blocks.push((stream, block));
        }
        let clocks = Clocks::new(s);
        let mut sent = 0;
        while clocks.0.elapsed().as_secs_f64() < secs {
            for (_, block) in &blocks {
                session.stream.write_all(block).await?;
                sent += (times * size) as u64;
            }
        }
        for (stream, _) in blocks {
            session.writer.fin(&mut session.out, stream);
        }
        session.reader.keep_last = true;
        while session.reader.last.len() < 8 * streams {
            session.send().await?;
            session.read().await?;
        }
        check(sent, &session.reader.last)?;
        (sent, clocks)
    } else {
        let mut conns = vec![];
        for _ in 0..streams {
            conns.push(open(place, "/sink", "channel.k8s.io").await?);
        }
        let block = payload.repeat(times);
        let clocks = Clocks::new(s);
        let mut sent = 0;
        while clocks.0.elapsed().as_secs_f64() < secs {
            for conn in &mut conns {
                conn.s.write_all(&block).await?;
                sent += block.len() as u64;
            }
        }
        let mut counts = vec![];
        for mut conn in conns {
            conn.s.shutdown().await?;
            conn.s.read_to_end(&mut counts).await?;
        }
        check(sent, &counts)?;
        (sent, clocks)
    };
    Ok(moved(s, sent as f64, &clocks))
}

fn check(sent: u64, counts: &[u8]) -> io::Result<()> {
    let counts = counts.chunks_exact(8);
    let got: u64 = counts
        .map(|count| u64::from_le_bytes(count.try_into().unwrap()))
        .sum();
    match got == sent {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "sinks counted {got}, sent {sent}"
        ))),
    }
}

/// `concurrency` clients make connections of a session, each one after the other. Each gets
/// a byte and the end, and ends its own direction.
pub async fn connections(s: &Server, concurrency: usize, secs: f64) -> io::Result<Figures> {
    const TARGET: &str = "/source?bytes=1&chunk=1";
    let place = s.place();
    let done = Rc::new(Cell::new(0));
    let tasks = Tasks::new();
    if let Some(spdy) = place.transport.spdy {
        let mut session = Session::open(place, spdy, TARGET).await?;
        let done = Rc::clone(&done);
        tasks.add(async move {
            for _ in 0..concurrency {
                session.begin();
            }
            // The streams of each connection that the server has ended.
            let mut fins: Vec<u8> = vec![];
            loop {
                session.send().await?;
                for event in session.read().await? {
                    match event {
                        Event::Reply(stream) => session.go_on(stream),
                        Event::Fin(stream) => {
                            let pair = match session.role(stream) {
                                Role::Error(pair) => pair,
                                Role::Data(pair) => {
                                    session.writer.fin(&mut session.out, stream);
                                    pair
                                }
                            };
                            fins.resize(session.pairs as usize, 0);
                            fins[pair as usize] += 1;
                            if fins[pair as usize] == 2 {
                                done.set(done.get() + 1);
                                session.begin();
                            }
                        }
                        _ => {}
                    }
                }
                // Each ended one had its byte, and so may have those that have not ended.
                let (bytes, least) = (session.reader.bytes, done.get());
                if !(least..=least + concurrency as u64).contains(&bytes) {
                    return Err(io::Error::other(format!("{bytes} bytes for {least}")));
                }
            }
        });
    } else {
        for _ in 0..concurrency {
            let done = Rc::clone(&done);
            tasks.add(async move {
                loop {
                    let mut conn = open(place, TARGET, "channel.k8s.io").await?;
                    conn.s.read_to_end(&mut conn.rest).await?;
                    if conn.rest.len() != 1 {
                        return Err(io::Error::other("not one byte"));
                    }
                    done.set(done.get() + 1);
                }
            });
        }
    }
    let (count, clocks) = tasks.run(s, &done, secs).await?;
    let (w, sc, cc, o) = clocks.read(s);
    Ok(vec![
        ("per_s", count / w),
        ("cpu_us", sc * 1e6 / count),
        ("client_cpu", cc / w),
        ("others", o / w),
    ])
}

/// One message is in flight, on one connection.
pub async fn round_trip(s: &Server, size: usize, secs: f64) -> io::Result<Figures> {
    let place = s.place();
    let mut one = vec![];
    let mut session = match place.transport.spdy {
        Some(spdy) => {
            let mut session = Session::open(place, spdy, "/echo").await?;
            let stream = session.connect().await?;
            session.writer.data(&mut one, stream, &pattern(size));
            Ok(session)
        }
        None => {
            one = pattern(size);
            Err(open(place, "/echo", "channel.k8s.io").await?.s)
        }
    };
    let mut buf = vec![0; size];
    let mut ns: Vec<u32> = Vec::with_capacity(200_000);
    let (start, mut clocks) = (Instant::now(), None);
    loop {
        let sent = Instant::now();
        match &mut session {
            Ok(session) => {
                let want = session.reader.bytes + size as u64;
                session.stream.write_all(&one).await?;
                while session.reader.bytes < want {
                    session.read().await?;
                    session.send().await?;
                }
            }
            Err(stream) => {
                stream.write_all(&one).await?;
                stream.read_exact(&mut buf).await?;
            }
        }
        ns.push(sent.elapsed().as_nanos() as u32);
        match &clocks {
            None if start.elapsed() > WARM_UP => {
                ns.clear();
                clocks = Some(Clocks::new(s));
            }
            Some(clocks) if clocks.0.elapsed().as_secs_f64() > secs && !ns.is_empty() => {
                let (w, sc, cc, o) = clocks.read(s);
                let n = ns.len();
                ns.sort_unstable();
                return Ok(vec![
                    ("p50_us", f64::from(ns[n / 2]) / 1e3),
                    ("p99_us", f64::from(ns[n * 99 / 100]) / 1e3),
                    ("cpu_us/msg", sc * 1e6 / n as f64),
                    ("client_cpu", cc / w),
                    ("others", o / w),
                ]);
            }
            _ => {}
        }
    }
}

/// Measures the resident memory of sessions that do nothing, with some connections each.
pub async fn idle(s: &Server, sessions: usize, pairs: usize) -> io::Result<Figures> {
    let place = s.place();
    let Some(spdy) = place.transport.spdy else {
        return Err(io::Error::other("this peer has no SPDY"));
    };
    let make = async || {
        let mut session = Session::open(place, spdy, "/idle").await?;
        for _ in 0..pairs {
            session.connect().await?;
        }
        io::Result::Ok(session.stream)
    };
    for _ in 0..32 {
        make().await?;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = s.resident();
    let mut kept = Vec::with_capacity(sessions);
    for _ in 0..sessions {
        kept.push(make().await?);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let after = s.resident();
    drop(kept);
    Ok(vec![
        ("KiB/session", (after - before) / sessions as f64),
        ("base_MiB", before / 1024.0),
    ])
}
