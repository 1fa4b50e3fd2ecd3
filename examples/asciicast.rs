//! Records terminal sessions as asciicast v2, which asciinema plays.
//!
//!     cargo run --example asciicast -- [--stdin] [DIRECTORY]
//!
//! Then, in another terminal:
//!
//!     npx wscat -s v4.base64.channel.k8s.io \
//!         -c 'ws://127.0.0.1:8008/exec?command=shout&stdin=1&stdout=1&tty=1'
//!
//! Type `0aGVsbG8K` ("hello" and a newline on channel 0): it comes back in capitals.
//! Type `0BA==` (Ctrl-D): the session ends with exit code 0. Its recording lies in the
//! directory, `.` by default, as `session-TIME-NUMBER.cast`. This plays the newest one:
//!
//!     asciinema play "$(ls -t session-*.cast | head -n 1)"
//!
//! Each event is a line of its own and written at once, so a recording that was cut
//! off can be played up to that point. Input is recorded with `--stdin` only, because
//! passwords are typed but not shown.

#[path = "support/serve.rs"]
mod serve;

use std::{
    io,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tokio::{
    fs::File,
    io::{AsyncBufReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    signal::ctrl_c,
    time::Instant,
};
use tower::ServiceBuilder;
use tower_wsstream::{
    BoxError, ChannelSet, Sessions, WsStreamLayer,
    channel::tap::{Direction, Overflow, Payload, Record, Tap, TapLayer, TapReader},
    remotecommand::{
        ExitStatus, Options, Protocols, RemoteCommand, RemoteCommandLayer,
        channel::{ERROR, RESIZE, STDIN},
    },
};

/// The channel on which `v3.channel.k8s.io` may carry sizes too. Nothing else arrives on it.
const RESIZE_V3: u8 = ERROR;

const CTRL_D: u8 = 4;

/// The size of a terminal that has sent none before its first output.
const SIZE: (u64, u64) = (80, 24);

/// The largest incomplete size that is kept, in bytes. A size takes 30.
const MAX_SIZE: usize = 4096;

/// A command that answers in capitals, until it gets a Ctrl-D.
async fn shout(mut command: RemoteCommand) -> Result<ExitStatus, BoxError> {
    let mut stdin = command.stdin.take().ok_or("no stdin")?;
    let mut stdout = command.stdout.take().ok_or("no stdout")?;
    stdout.write_all(b"Say something.\r\n").await?;
    loop {
        let bytes = stdin.fill_buf().await?;
        let ends = bytes.is_empty() || bytes.contains(&CTRL_D);
        let answer = String::from_utf8_lossy(bytes).to_uppercase();
        let n = bytes.len();
        stdin.consume(n);
        if ends {
            return Ok(ExitStatus::success());
        }
        stdout
            .write_all(answer.replace('\n', "\r\n").as_bytes())
            .await?;
    }
}

/// A decoder of text that arrives in pieces, cut anywhere.
#[derive(Default)]
struct Text {
    /// The beginning of an incomplete character: three bytes at most.
    rest: Vec<u8>,
}

impl Text {
    /// Adds bytes, and returns the characters that are now complete. Invalid UTF-8
    /// becomes U+FFFD.
    fn push(&mut self, bytes: &[u8]) -> String {
        let mut bytes = [&self.rest, bytes].concat();
        let mut text = String::new();
        while let Err(error) = str::from_utf8(&bytes) {
            let good = error.valid_up_to();
            let Some(bad) = error.error_len() else {
                self.rest = bytes.split_off(good);
                text.push_str(&String::from_utf8_lossy(&bytes));
                return text;
            };
            text.push_str(&String::from_utf8_lossy(&bytes[..good]));
            text.push(char::REPLACEMENT_CHARACTER);
            bytes.drain(..good + bad);
        }
        self.rest.clear();
        text.push_str(&String::from_utf8_lossy(&bytes));
        text
    }

    /// Returns the rest, which can no longer be completed.
    fn finish(&mut self) -> String {
        let rest = std::mem::take(&mut self.rest);
        String::from_utf8_lossy(&rest).into_owned()
    }
}

/// A decoder of the terminal sizes on the resize channel: JSON objects, cut anywhere.
#[derive(Default)]
struct Sizes {
    rest: Vec<u8>,
}

impl Sizes {
    fn push(&mut self, bytes: &[u8]) -> Vec<(u64, u64)> {
        self.rest.extend_from_slice(bytes);
        let mut values = serde_json::Deserializer::from_slice(&self.rest).into_iter::<Value>();
        let mut sizes = Vec::new();
        while let Some(Ok(value)) = values.next() {
            let side = |name: &str| value[name].as_u64().filter(|side| *side > 0);
            sizes.extend(side("Width").zip(side("Height")));
        }
        let read = values.byte_offset();
        self.rest.drain(..read);
        if self.rest.len() > MAX_SIZE {
            self.rest.clear();
        }
        sizes
    }
}

/// A recording: lines of JSON, one for the header and then one for each event.
struct Cast {
    start: Instant,
    /// Seconds since 1970, for the header.
    timestamp: u64,
    with_input: bool,
    begun: bool,
    /// The time of the last event, in seconds.
    time: f64,
    sizes: Sizes,
    input: Text,
    /// The text of stdout and of stderr, which the terminal mixes.
    output: [Text; 2],
}

impl Cast {
    fn new(with_input: bool) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            start: Instant::now(),
            timestamp: now.map_or(0, |since| since.as_secs()),
            with_input,
            begun: false,
            time: 0.0,
            sizes: Sizes::default(),
            input: Text::default(),
            output: Default::default(),
        }
    }

    /// Returns the lines for a record.
    fn lines(&mut self, record: &Record) -> String {
        let mut lines = String::new();
        match record {
            Record::Payload(payload) => self.payload(payload, &mut lines),
            Record::End(_) => {
                let [stdout, stderr] = &mut self.output;
                let rest = [stdout.finish(), stderr.finish()].concat();
                self.event("o", &rest, &mut lines);
                let rest = self.input.finish();
                self.event("i", &rest, &mut lines);
                // A session without any output is a recording too.
                self.begin(SIZE, &mut lines);
            }
            _ => {}
        }
        lines
    }

    fn payload(&mut self, payload: &Payload, lines: &mut String) {
        let time = payload.time.saturating_duration_since(self.start);
        // asciinema writes microseconds too.
        self.time = time.as_micros() as f64 / 1e6;
        let bytes = &payload.bytes;
        match (payload.direction, payload.channel) {
            (Direction::Inbound, STDIN) if self.with_input => {
                let text = self.input.push(bytes);
                self.event("i", &text, lines);
            }
            (Direction::Inbound, RESIZE | RESIZE_V3) => {
                for (width, height) in self.sizes.push(bytes) {
                    if self.begun {
                        self.event("r", &format!("{width}x{height}"), lines);
                    }
                    self.begin((width, height), lines);
                }
            }
            (Direction::Outbound, channel @ (1 | 2)) => {
                let text = self.output[usize::from(channel) - 1].push(bytes);
                self.event("o", &text, lines);
            }
            _ => {}
        }
    }

    fn event(&mut self, code: &str, data: &str, lines: &mut String) {
        if data.is_empty() {
            return;
        }
        self.begin(SIZE, lines);
        let event = json!([self.time, code, data]);
        lines.push_str(&format!("{event}\n"));
    }

    /// Writes the header, unless it has been written. Its size is the first one that the
    /// client sent, or [`SIZE`] if there was output before that.
    fn begin(&mut self, (width, height): (u64, u64), lines: &mut String) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let timestamp = self.timestamp;
        let header =
            json!({"version": 2, "width": width, "height": height, "timestamp": timestamp});
        lines.push_str(&format!("{header}\n"));
    }
}

/// Writes the records of a tap. The recording ends with the session.
async fn record<W>(mut cast: Cast, mut records: TapReader, out: &mut W) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    while let Some(record) = records.next().await {
        out.write_all(cast.lines(&record).as_bytes()).await?;
        out.flush().await?;
    }
    Ok(())
}

/// Returns whether the session has a terminal. Only such sessions are recorded.
fn is_terminal(channels: &ChannelSet) -> bool {
    let query = channels.request().and_then(|head| head.uri.query());
    let options = query.and_then(|query| Options::from_query(query).ok());
    options.is_some_and(|options| options.tty)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (mut with_input, mut directory) = (false, PathBuf::from("."));
    for argument in std::env::args_os().skip(1) {
        match argument.to_str() {
            Some("--stdin") => with_input = true,
            _ => directory = argument.into(),
        }
    }
    // With backpressure a slow disk slows sessions down, and no recording has a gap. A
    // recording that fails is abandoned, and its session continues.
    let tap = TapLayer::new(move |channels: &ChannelSet| {
        if !is_terminal(channels) {
            return None;
        }
        let (tap, records) = Tap::new(Overflow::Backpressure);
        let cast = Cast::new(with_input);
        let name = format!(
            "session-{}-{}.cast",
            cast.timestamp,
            channels.session().id()
        );
        let path = directory.join(name);
        tokio::spawn(async move {
            let recorded =
                async { record(cast, records, &mut File::create_new(&path).await?).await };
            match recorded.await {
                Ok(()) => println!("recorded {}", path.display()),
                Err(error) => eprintln!("{}: {error}", path.display()),
            }
        });
        Some(tap)
    });
    let sessions = Sessions::default();
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()).sessions(sessions.clone()))
        .layer(tap)
        .layer(RemoteCommandLayer::new())
        .service_fn(shout);
    let listener = TcpListener::bind("127.0.0.1:8008").await?;
    println!("listening on ws://{}", listener.local_addr()?);
    serve::serve(listener, service, sessions, ctrl_c()).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_were_cut_are_joined() {
        let said = "a\u{e9}\u{20ac}\u{1f600}z";
        for cut in 0..=said.len() {
            for second in cut..=said.len() {
                let mut text = Text::default();
                let mut came = text.push(&said.as_bytes()[..cut]);
                came += &text.push(&said.as_bytes()[cut..second]);
                came += &text.push(&said.as_bytes()[second..]);
                assert_eq!(came + &text.finish(), said);
            }
        }
    }

    #[test]
    fn invalid_bytes_are_replaced_and_nothing_after_them() {
        let mut text = Text::default();
        assert_eq!(text.push(b"a\xffb\xe2\x82"), "a\u{fffd}b");
        assert_eq!(text.push(b"c\xe2"), "\u{fffd}c");
        assert_eq!(text.finish(), "\u{fffd}");
        assert_eq!(text.finish(), "");
    }

    #[test]
    fn sizes_come_in_pieces_and_together() {
        let mut sizes = Sizes::default();
        let both = br#"{"Width":80,"Height":24}{"Width":100,"Height":50}"#;
        let mut came = Vec::new();
        for piece in both.chunks(7) {
            came.extend(sizes.push(piece));
        }
        assert_eq!(came, [(80, 24), (100, 50)]);
        assert!(sizes.push(&[b'{'; 2 * MAX_SIZE]).is_empty());
        assert!(sizes.rest.is_empty());
    }

    #[cfg(feature = "testing")]
    mod sessions {
        use std::time::Duration;

        use tokio::{sync::mpsc, time::sleep};
        use tower_wsstream::{
            subprotocols,
            testing::{Client, Connect},
        };

        use super::*;

        /// Starts a session of a command, and returns the client and the recording.
        async fn session<F, Fut>(with_input: bool, command: F) -> (Client, Recording)
        where
            F: FnMut(RemoteCommand) -> Fut + Clone + Send + 'static,
            Fut: Future<Output = Result<ExitStatus, BoxError>> + Send + 'static,
        {
            let (sender, mut taps) = mpsc::unbounded_channel();
            let tap = TapLayer::new(move |channels: &ChannelSet| {
                assert!(is_terminal(channels));
                let (tap, records) = Tap::new(Overflow::Backpressure);
                sender.send((Cast::new(with_input), records)).ok()?;
                Some(tap)
            });
            let service = ServiceBuilder::new()
                .layer(WsStreamLayer::new(Protocols::default()))
                .layer(tap)
                .layer(RemoteCommandLayer::new())
                .service_fn(command);
            let client = Connect::to("/exec?command=x&stdin=1&stdout=1&tty=1")
                .offer(subprotocols::V5)
                .connect(service);
            let client = client.await.unwrap();
            let (cast, records) = taps.recv().await.unwrap();
            let recording = tokio::spawn(async move {
                let mut out = Vec::new();
                record(cast, records, &mut out).await.unwrap();
                lines(&out)
            });
            (client, recording)
        }

        type Recording = tokio::task::JoinHandle<(Value, Vec<(f64, String, String)>)>;

        /// Returns the header and the events of a file, which has to be asciicast v2.
        fn lines(file: &[u8]) -> (Value, Vec<(f64, String, String)>) {
            let text = std::str::from_utf8(file).unwrap();
            assert!(text.ends_with('\n'));
            let mut lines = text.lines();
            let header: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
            assert_eq!(header["version"], 2);
            assert!(header["width"].as_u64() > Some(0) && header["height"].as_u64() > Some(0));
            assert!(header["timestamp"].as_u64() > Some(1_700_000_000));
            let events: Vec<(f64, String, String)> = lines
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            assert!(events.is_sorted_by(|a, b| a.0 <= b.0));
            for (_, code, data) in &events {
                assert!(["o", "i", "r"].contains(&code.as_str()) && !data.is_empty());
            }
            (header, events)
        }

        fn event(time: f64, code: &str, data: &str) -> (f64, String, String) {
            (time, code.to_owned(), data.to_owned())
        }

        #[tokio::test(start_paused = true)]
        async fn a_session_is_recorded_with_its_times_and_sizes() {
            let (mut client, recording) = session(true, async |mut command: RemoteCommand| {
                let mut stdin = command.stdin.take().unwrap();
                let mut stdout = command.stdout.take().unwrap();
                let mut sizes = command.resize.take().unwrap();
                let _ = sizes.next().await;
                stdout.write_all(b"price: \xe2\x82").await?;
                sleep(Duration::from_millis(1500)).await;
                stdout.write_all(b"\xac 5\r\n").await?;
                let n = stdin.fill_buf().await?.len();
                stdin.consume(n);
                sleep(Duration::from_secs(2)).await;
                let _ = sizes.next().await;
                stdout.write_all(b"\"bye\" \x1b[0m\xe2").await?;
                Ok(ExitStatus::success())
            })
            .await;
            let size = br#"{"Width":100,"Height":30}"#;
            client.send(RESIZE, size).await.unwrap();
            sleep(Duration::from_secs(10)).await;
            client.send(STDIN, "\u{e9}\n".as_bytes()).await.unwrap();
            let size = br#"{"Width":120,"Height":40}"#;
            client.send(RESIZE, size).await.unwrap();
            assert_eq!(client.read_to_end().await.exit_code(), Some(0));
            let (header, events) = recording.await.unwrap();
            assert_eq!(
                (&header["width"], &header["height"]),
                (&100.into(), &30.into())
            );
            let expected = [
                event(0.0, "o", "price: "),
                event(1.5, "o", "\u{20ac} 5\r\n"),
                event(10.0, "r", "120x40"),
                event(10.0, "i", "\u{e9}\n"),
                event(12.0, "o", "\"bye\" \u{1b}[0m"),
                event(12.0, "o", "\u{fffd}"),
            ];
            let rounded = |(time, code, data): &(f64, String, String)| {
                ((time * 10.0).round() / 10.0, code.clone(), data.clone())
            };
            let mut events: Vec<_> = events.iter().map(rounded).collect();
            // Two channels had data at the same moment.
            events[2..4].sort_by(|a, b| b.1.cmp(&a.1));
            assert_eq!(events, expected);
        }

        #[tokio::test(start_paused = true)]
        async fn input_is_recorded_only_if_asked_for() {
            for with_input in [false, true] {
                let (mut client, recording) = session(with_input, shout).await;
                client.send(STDIN, b"hello\n").await.unwrap();
                client.send(STDIN, b"\x04").await.unwrap();
                assert_eq!(client.read_to_end().await.exit_code(), Some(0));
                let (header, events) = recording.await.unwrap();
                assert_eq!(header["width"], 80);
                let typed = events.iter().filter(|(_, code, _)| code == "i");
                assert_eq!(typed.count() > 0, with_input);
                let shown = events.iter().filter(|(_, code, _)| code == "o");
                let shown: String = shown.map(|(.., data)| data.as_str()).collect();
                assert!(shown.starts_with("Say something.\r\n"));
            }
        }
    }
}
