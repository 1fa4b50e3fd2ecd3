use std::{future::poll_fn, io, panic::Location, pin::Pin, task::ready, time::Duration};

use bytes::Bytes;
use futures_core::Stream as _;
use futures_sink::Sink;
use http::header::{self, HeaderMap};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::{
    Frame, Received, Transcript, encoding::MessageEncoding, limit::CallLimit, server::Server,
    stream::Stream,
};
use crate::{BoxError, protocol::ChannelProtocolConfig};

/// An accepted handshake.
pub(super) struct Opened {
    pub(super) socket: WebSocketStream<Stream>,
    /// The headers of the server's answer.
    pub(super) headers: HeaderMap,
    pub(super) server: Server,
}

/// The client end of a session. Dropping it [loses](Self::lose) the connection.
///
/// It uses the encoding of the selected subprotocol, even if that comes from a
/// [table](crate::ChannelProtocols) of your own. It does nothing by itself: it answers Pings only
/// while it [receives](Self::receive), and stalls between two calls.
///
/// No call takes longer than [`Connect::call_timeout`](super::Connect::call_timeout), by default
/// 24 h of tokio's time.
///
/// # Examples
///
/// A client that breaks the rules, and one that goes away:
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_wsstream::{
///     BoxError, ChannelProtocols, ChannelSet, ChannelType, WsStreamLayer,
///     testing::{Client, Connect, Frame, Received},
/// };
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), BoxError> {
/// let protocols = ChannelProtocols::standard([ChannelType::Read])?;
/// let service = ServiceBuilder::new()
///     .layer(WsStreamLayer::new(protocols))
///     .service_fn(async |channels: ChannelSet| {
///         channels.session().ended().await;
///         Ok::<_, BoxError>(())
///     });
///
/// let mut client: Client = Connect::to("/").connect(service.clone()).await?;
/// // A reserved opcode.
/// client.send_frame(Frame::new(3, "")).await?;
/// let Received::Closed { code, .. } = client.receive().await else {
///     return Err("the session goes on".into());
/// };
/// assert_eq!(code, Some(1002));
///
/// let client = Connect::to("/").connect(service).await?;
/// client.lose();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<Stream>,
    subprotocol: String,
    encoding: MessageEncoding,
    limit: CallLimit,
    _server: Server,
}

impl Client {
    /// Creates a client. `config` is the server's configuration of the subprotocol.
    pub(super) fn new(
        opened: Opened,
        config: Option<&ChannelProtocolConfig>,
        limit: CallLimit,
    ) -> Self {
        let Opened {
            socket,
            headers,
            server,
        } = opened;
        let subprotocol = headers
            .get(header::SEC_WEBSOCKET_PROTOCOL)
            .and_then(|name| name.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        Self {
            socket,
            encoding: MessageEncoding::of(&subprotocol, config),
            subprotocol,
            limit,
            _server: server.connected(),
        }
    }

    /// Returns the subprotocol that the server selected, or `""` for none.
    pub fn subprotocol(&self) -> &str {
        &self.subprotocol
    }

    /// Sends one message on a channel.
    ///
    /// # Errors
    /// Fails in the same cases as [`send_frame`](Self::send_frame).
    ///
    /// # Cancel safety
    /// Not cancel safe: if the future is dropped, the message may or may not be sent.
    pub async fn send(&mut self, channel: u8, payload: &[u8]) -> Result<(), BoxError> {
        self.send_frame(self.encoding.encode(channel, payload))
            .await
    }

    /// Sends the CLOSE of a channel, as `v5.channel.k8s.io` defines it: the channel's reader gets EOF,
    /// and the session continues.
    ///
    /// # Errors
    /// Fails if the subprotocol has no half-close, and in the same cases as
    /// [`send_frame`](Self::send_frame). Without half-close, [`close`](Self::close) ends all input.
    /// To send the bytes of a CLOSE regardless, use [`send_frame`](Self::send_frame).
    ///
    /// # Cancel safety
    /// Not cancel safe: if the future is dropped, the message may or may not be sent.
    pub async fn close_channel(&mut self, channel: u8) -> Result<(), BoxError> {
        if !self.encoding.half_close {
            return Err(format!(
                "{:?} has no half-close: end all input with Client::close(Some(1000))",
                self.subprotocol
            )
            .into());
        }
        self.send_frame(Frame::binary(vec![255, channel])).await
    }

    /// Sends a Close frame, with or without a code, and leaves the connection open.
    ///
    /// On a subprotocol without half-close, a Close with 1000 or without a code ends all input.
    ///
    /// # Errors
    /// Fails in the same cases as [`send_frame`](Self::send_frame).
    ///
    /// # Cancel safety
    /// Not cancel safe: if the future is dropped, the message may or may not be sent.
    pub async fn close(&mut self, code: Option<u16>) -> Result<(), BoxError> {
        let frame = code.map(|code| CloseFrame {
            code: CloseCode::from(code),
            reason: "".into(),
        });
        self.send_message(Message::Close(frame)).await
    }

    /// Sends any frame, for tests of a client that breaks the rules.
    ///
    /// To send a Close frame, use [`close`](Self::close) instead: nothing more is sent after it.
    ///
    /// # Errors
    /// Fails if the connection is lost or closed, or if the service does not read for the duration
    /// of the [call timeout](super::Connect::call_timeout).
    ///
    /// # Cancel safety
    /// Not cancel safe: if the future is dropped, the message may or may not be sent.
    pub async fn send_frame(&mut self, frame: Frame) -> Result<(), BoxError> {
        let frame = frame.into_tungstenite();
        self.send_message(Message::Frame(frame)).await
    }

    async fn send_message(&mut self, message: Message) -> Result<(), BoxError> {
        let mut message = Some(message);
        let sending = poll_fn(|cx| {
            let mut socket = Pin::new(&mut self.socket);
            if message.is_some() {
                ready!(socket.as_mut().poll_ready(cx))?;
            }
            if let Some(message) = message.take() {
                socket.as_mut().start_send(message)?;
            }
            socket.as_mut().poll_flush(cx)
        });
        let sent: Result<(), tungstenite::Error> = self
            .limit
            .of(sending, "there was no room for a message")
            .await?;
        Ok(sent?)
    }

    /// Receives the next message or the end, and answers Pings in the meantime.
    ///
    /// # Panics
    /// Panics if nothing arrives within the [call timeout](super::Connect::call_timeout), because the
    /// test then waits for something that never arrives. The text begins with "no message arrived
    /// within", and ends with the line of this call.
    ///
    /// # Cancel safety
    /// Cancel safe: if the future is dropped, the next call returns the message.
    #[track_caller]
    pub fn receive(&mut self) -> impl Future<Output = Received> {
        let (limit, caller) = (self.limit, Location::caller());
        async move { in_time(limit.of(self.next(), "no message arrived").await, caller) }
    }

    async fn next(&mut self) -> Received {
        loop {
            let next = poll_fn(|cx| Pin::new(&mut self.socket).poll_next(cx));
            let message = match next.await {
                Some(Ok(message)) => message,
                Some(Err(_)) | None => return Received::Lost,
            };
            let payload = match message {
                Message::Binary(payload) => payload,
                Message::Text(text) => Bytes::from(text),
                Message::Close(frame) => {
                    let (code, reason) =
                        frame.map(|frame| (frame.code.into(), frame.reason)).unzip();
                    return Received::Closed {
                        code,
                        reason: reason.as_deref().unwrap_or_default().into(),
                    };
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            if let Some(received) = self.encoding.decode(payload) {
                return received;
            }
        }
    }

    /// Receives until the connection ends.
    ///
    /// This does not end the input of the service: if the service waits for that, call
    /// [`close_channel`](Self::close_channel) or [`close`](Self::close) first.
    ///
    /// # Panics
    /// Panics if the connection does not end within the [call
    /// timeout](super::Connect::call_timeout). The text ends with the line of this call.
    #[track_caller]
    pub fn read_to_end(mut self) -> impl Future<Output = Transcript> {
        let (limit, caller) = (self.limit, Location::caller());
        let reading = async move {
            let mut transcript = Transcript::default();
            loop {
                match self.next().await {
                    Received::Message(channel, payload) => {
                        transcript.messages.push((channel, payload));
                    }
                    Received::Closed { code, reason } => {
                        transcript.closed = true;
                        transcript.close_code = code;
                        transcript.close_reason = reason;
                    }
                    Received::Invalid => transcript.invalid += 1,
                    Received::Lost => return transcript,
                }
            }
        };
        let missing = "the connection did not end";
        async move { in_time(limit.of(reading, missing).await, caller) }
    }

    /// Waits without reading or writing.
    ///
    /// Data that the service sends in the meantime fills the [buffer](super::Connect::buffer), and
    /// then makes the service wait.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is lost.
    pub async fn stall(&mut self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Ends the connection without a Close frame, like a client that has crashed. Messages that were
    /// sent before still arrive.
    ///
    /// The reads of the service must fail with `ConnectionReset`, and not return EOF.
    pub fn lose(self) {}

    /// Ends the connection in the middle of a message: the service gets the payload as the beginning
    /// of a longer message, and then the error of a [lost](Self::lose) connection.
    ///
    /// # Errors
    /// Fails if the connection is already lost or closed, or if the service does not read for the
    /// duration of the [call timeout](super::Connect::call_timeout).
    ///
    /// # Cancel safety
    /// Not cancel safe: if the future is dropped, the message may or may not be sent.
    pub async fn cut_off(mut self, channel: u8, payload: &[u8]) -> Result<(), BoxError> {
        let bytes = self.encoding.encode(channel, payload).cut_off(1)?;
        let limit = self.limit;
        let sending = async {
            // Sends pending Pongs first, so that the message begins where a frame ends.
            poll_fn(|cx| Pin::new(&mut self.socket).poll_flush(cx)).await?;
            let stream = self.socket.get_mut();
            stream.write_all(&bytes).await?;
            stream.flush().await?;
            Ok::<(), BoxError>(())
        };
        limit.of(sending, "there was no room for a message").await?
    }
}

/// Unwraps the result of a call with a timeout. After the timeout, the test fails with the line of
/// the call.
fn in_time<T>(called: io::Result<T>, caller: &Location<'_>) -> T {
    match called {
        Ok(output) => output,
        Err(timeout) => panic!("{timeout} ({caller})"),
    }
}
