//! The endpoint for the Autobahn suite: an ordinary session that echoes messages.
//! `tests/autobahn/run` starts it.
//!
//! The suite has no channels and expects each message back with its opcode, while a channel is a
//! stream of bytes without messages or opcodes. So the session uses a subprotocol without channel
//! bytes, and a proxy in front of it supplies the rest:
//!
//! ```text
//!              +-- kind and length of each message --+
//!              |                                     v
//!  suite --> Proxy --> decoder --> mux --> reader, echo service
//!  suite <-- Proxy <-- socket <-- queue <------- writer
//!              ^ makes the echo of a text message text
//! ```
//!
//! Nothing in the session is specific to the suite: the suite's bytes reach the decoder unchanged,
//! and only the opcode of an answer is changed.

use std::{
    collections::VecDeque,
    env,
    io::{self, Read as _, Write as _},
    sync::{Arc, Mutex},
};

use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
};
use tower::ServiceBuilder;

use crate::{
    BoxError, ChannelProtocolConfig, ChannelProtocols, ChannelSet, ChannelType, Encoding,
    WsStreamLayer,
    frame::{
        Control, Decoder, FrameError, Masked, MessageKind, OpCode, Role, Sink, read_frame_len,
    },
    policy::Limits,
};

/// The receive window, which holds the largest message of groups 1 to 7: the service begins to read
/// a message when all of it has passed the proxy.
const WINDOW: usize = 1024 * 1024;

/// The lengths of the messages that have passed the proxy. Only one service locks it.
type Lengths = Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<usize>>>;

async fn echo(mut channels: ChannelSet, lengths: Lengths) -> Result<(), BoxError> {
    let (Some(mut reader), Some(mut writer)) = (channels.take_reader(0), channels.take_writer(0))
    else {
        return Err("channel 0 is both".into());
    };
    let mut lengths = lengths.lock().await;
    let ended = channels.session().ended();
    tokio::pin!(ended);
    loop {
        let len = tokio::select! {
            biased;
            len = lengths.recv() => match len {
                Some(len) => len,
                None => return Ok(()),
            },
            _ = &mut ended => return Ok(()),
        };
        let mut message = vec![0; len];
        reader.read_exact(&mut message).await?;
        writer.send(message).await?;
    }
}

/// Serves a connection, which has one session.
async fn serve_connection(stream: TcpStream, lengths: Lengths) {
    let protocol = ChannelProtocolConfig::new(Encoding::Binary, [ChannelType::ReadWrite]);
    let table = ChannelProtocols::builder().protocol("", protocol.bare());
    let limits = Limits::default().receive_window(WINDOW);
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(table.build().expect("one channel")).limits(limits))
        .service_fn(move |channels| echo(channels, Arc::clone(&lengths)));
    let service = TowerToHyperService::new(service);
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // The result is ignored, because the suite observes its effects.
    drop(connection.await);
}

/// Skips the head of the handshake. Counts how many bytes of the end of the head have been seen.
#[derive(Default)]
struct Head(usize);

impl Head {
    /// Takes the next piece of a stream, and returns the part of it that comes after the head.
    fn skip<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        const END: &[u8] = b"\r\n\r\n";
        let mut rest = bytes;
        while self.0 < END.len()
            && let Some((first, behind)) = rest.split_first()
        {
            self.0 = match *first == END[self.0] {
                true => self.0 + 1,
                false => usize::from(*first == END[0]),
            };
            rest = behind;
        }
        rest
    }
}

/// The kinds of the messages that have not been echoed yet.
type Kinds = Arc<Mutex<VecDeque<MessageKind>>>;

/// A sink that announces each message that has passed.
struct Announce {
    lengths: mpsc::UnboundedSender<usize>,
    kinds: Kinds,
    message: (MessageKind, usize),
}

impl Sink for Announce {
    type Error = FrameError;

    fn begin(&mut self, kind: MessageKind) -> Result<(), FrameError> {
        self.message = (kind, 0);
        Ok(())
    }
    fn room(&mut self) -> usize {
        usize::MAX
    }
    fn payload(&mut self, piece: Masked<'_>) -> Result<(), FrameError> {
        self.message.1 += piece.len();
        Ok(())
    }
    fn end(&mut self) -> Result<(), FrameError> {
        let (kind, len) = self.message;
        self.kinds.lock().unwrap().push_back(kind);
        // The service may have returned.
        let _ = self.lengths.send(len);
        Ok(())
    }
    fn message(&mut self, _: MessageKind, _: Masked<'_>) -> Result<bool, FrameError> {
        Ok(false)
    }
    fn control(&mut self, _: Control<'_>) -> Result<(), FrameError> {
        Ok(())
    }
}

/// Copies bytes from the suite to the session, and announces each message.
async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut announce: Announce,
) -> io::Result<()> {
    let (mut head, mut decoder) = (Head::default(), Decoder::new(Role::Server, u64::MAX, None));
    let mut buffer = vec![0; WINDOW];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return to.shutdown().await;
        }
        let frames = head.skip(&buffer[..n]);
        // A fault is ignored, because the session's own decoder finds it as well.
        let _ = decoder.decode(frames, &mut announce);
        to.write_all(&buffer[..n]).await?;
    }
}

/// Sets the opcodes of the session's messages.
struct Opcodes {
    kinds: Kinds,
    /// The part of the next frame's header that has arrived.
    head: Vec<u8>,
    /// The number of bytes left of the current frame's payload.
    left: usize,
}

impl Opcodes {
    fn set(&mut self, mut bytes: &mut [u8]) {
        while let Some(first) = bytes.first_mut() {
            if self.left > 0 {
                let n = self.left.min(bytes.len());
                self.left -= n;
                bytes = &mut bytes[n..];
                continue;
            }
            self.head.push(*first);
            if self.head.len() == 1 && *first & 0xf == OpCode::Binary as u8 {
                let kind = self.kinds.lock().unwrap().pop_front();
                if kind.expect("it is an echo") == MessageKind::Text {
                    *first ^= OpCode::Binary as u8 ^ OpCode::Text as u8;
                }
            }
            if self.head.len() >= 2 && self.head.len() == head_len(self.head[1]) {
                self.left = read_frame_len(&self.head).1 as usize;
                self.head.clear();
            }
            bytes = &mut bytes[1..];
        }
    }
}

/// Returns the length of a server's frame header, which its second byte tells.
fn head_len(second: u8) -> usize {
    match second {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}

/// Copies bytes from the session to the suite, and sets the opcode of each message.
async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut opcodes: Opcodes,
) -> io::Result<()> {
    let mut head = Head::default();
    let mut buffer = vec![0; WINDOW];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return to.shutdown().await;
        }
        let frames = head.skip(&buffer[..n]).len();
        opcodes.set(&mut buffer[n - frames..n]);
        to.write_all(&buffer[..n]).await?;
    }
}

/// Connects one connection of the suite to a new session.
async fn proxy(suite: TcpStream) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let near = TcpStream::connect(listener.local_addr()?).await?;
    let (far, _) = listener.accept().await?;
    suite.set_nodelay(true)?;
    near.set_nodelay(true)?;

    let (lengths, received) = mpsc::unbounded_channel();
    let received = Lengths::new(received.into());
    tokio::spawn(serve_connection(far, received));
    let kinds = Kinds::default();
    let announce = Announce {
        lengths,
        kinds: Arc::clone(&kinds),
        message: (MessageKind::Binary, 0),
    };
    let opcodes = Opcodes {
        kinds,
        head: Vec::new(),
        left: 0,
    };
    let (from_suite, to_suite) = suite.into_split();
    let (from_session, to_session) = near.into_split();
    tokio::spawn(requests(from_suite, to_session, announce));
    tokio::spawn(answers(from_session, to_suite, opcodes));
    Ok(())
}

#[tokio::test]
#[ignore = "needs the Autobahn suite: run tests/autobahn/run"]
async fn serve() -> Result<(), BoxError> {
    let address = env::var("WSSTREAM_AUTOBAHN_ADDR").unwrap_or_else(|_| "127.0.0.1:0".into());
    let listener = TcpListener::bind(address).await?;
    println!("autobahn endpoint on {}", listener.local_addr()?);
    io::stdout().flush()?;
    // Serves until its standard input ends.
    let (end, mut ended) = mpsc::unbounded_channel::<()>();
    std::thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        drop(end);
    });
    loop {
        tokio::select! {
            accepted = listener.accept() => proxy(accepted?.0).await?,
            _ = ended.recv() => return Ok(()),
        }
    }
}
