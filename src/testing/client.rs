use std::{future::poll_fn, io, panic::Location, pin::Pin, task::ready, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use futures_core::Stream as _;
use futures_sink::Sink;
use http::header::{self, HeaderMap};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self,
        protocol::{
            CloseFrame,
            frame::{
                Frame,
                coding::{CloseCode, Data, OpCode},
            },
        },
    },
};

use super::{Message, Received, Transcript, limit::CallLimit, server::Server, stream::Stream};
use crate::{BoxError, protocol::Format, told::Told};

/// Of the one frame that tungstenite does not mask: any will do.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A handshake that was accepted.
pub(super) struct Opened {
    pub(super) socket: WebSocketStream<Stream>,
    /// The headers of the answer.
    pub(super) headers: HeaderMap,
    pub(super) server: Server,
}

/// The client end of a session. Dropping it [loses](Self::lose) the connection.
///
/// It speaks the subprotocol that was selected in its encoding, that of a
/// [table](crate::ChannelProtocols) of your own included. It answers Pings while it
/// [receives](Self::receive), and does nothing by itself: between two calls it is a client
/// that stalls.
///
/// No call takes longer than [`Connect::call_timeout`](super::Connect::call_timeout), by
/// default 24 h of tokio's time.
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<Stream>,
    subprotocol: String,
    format: Format,
    half_close: bool,
    limit: CallLimit,
    _server: Server,
}

impl Client {
    pub(super) fn new(opened: Opened, told: &Told, limit: CallLimit) -> Self {
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
        let (format, half_close) = told.of(&subprotocol);
        Self {
            socket,
            format,
            half_close,
            subprotocol,
            limit,
            _server: server.connected(),
        }
    }

    /// The subprotocol that the server selected; "" for none.
    pub fn subprotocol(&self) -> &str {
        &self.subprotocol
    }

    /// Sends one message on a channel.
    ///
    /// # Errors
    /// As those of [`send_message`](Self::send_message).
    pub async fn send(&mut self, channel: u8, payload: &[u8]) -> Result<(), BoxError> {
        let message = self.encode(channel, payload);
        self.send_message(message).await
    }

    fn encode(&self, channel: u8, payload: &[u8]) -> Message {
        match self.format {
            Format::Base64 => {
                let prefix = char::from(channel.wrapping_add(b'0'));
                Message::text(format!("{prefix}{}", STANDARD.encode(payload)))
            }
            Format::BareBase64 => Message::text(STANDARD.encode(payload)),
            Format::BareBinary => Message::binary(payload.to_vec()),
            _ => {
                let mut message = BytesMut::with_capacity(1 + payload.len());
                message.put_u8(channel);
                message.put_slice(payload);
                Message::binary(message.freeze())
            }
        }
    }

    /// Sends the CLOSE of a channel (`v5.channel.k8s.io`): its reader comes to EOF, and
    /// the session goes on.
    ///
    /// # Errors
    /// The subprotocol has no such signal: there [`close`](Self::close) ends all input. And those of
    /// [`send_message`](Self::send_message), which also sends the bytes of a CLOSE where
    /// it has no meaning.
    pub async fn close_channel(&mut self, channel: u8) -> Result<(), BoxError> {
        if !self.half_close {
            return Err(format!(
                "{:?} has no end of one channel: end all input with Client::close(Some(1000))",
                self.subprotocol
            )
            .into());
        }
        self.send_message(Message::binary(vec![255, channel])).await
    }

    /// Sends a Close frame, with a code or without, and goes on. Without half-close, 1000
    /// or no code is the end of all input.
    ///
    /// # Errors
    /// As those of [`send_message`](Self::send_message).
    pub async fn close(&mut self, code: Option<u16>) -> Result<(), BoxError> {
        let frame = code.map(|code| CloseFrame {
            code: CloseCode::from(code),
            reason: "".into(),
        });
        self.send_message(Message::Close(frame)).await
    }

    /// Sends any message, for what the subprotocols do not know.
    ///
    /// [`Message`] is tungstenite's, and moves with its version.
    ///
    /// # Errors
    /// The connection is lost or closed, or the service has not read for the time of the
    /// [call timeout](super::Connect::call_timeout).
    pub async fn send_message(&mut self, message: Message) -> Result<(), BoxError> {
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
        let sent: Result<(), tungstenite::Error> =
            self.limit.of(sending, "no room for a message came").await?;
        Ok(sent?)
    }

    /// Receives what comes next; answers Pings meanwhile.
    ///
    /// # Panics
    /// Nothing arrived within the [call timeout](super::Connect::call_timeout): the test
    /// waits for something that never comes. The text begins with "no message came within",
    /// and ends with the line of this call.
    ///
    /// # Cancel safety
    /// Cancel safe: what was not returned is returned by the next call.
    #[track_caller]
    pub fn receive(&mut self) -> impl Future<Output = Received> {
        let (limit, caller) = (self.limit, Location::caller());
        async move { in_time(limit.of(self.next(), "no message came").await, caller) }
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
            if let Some(message) = self.decode(payload) {
                return message;
            }
        }
    }

    fn decode(&self, mut payload: Bytes) -> Option<Received> {
        let bare = matches!(self.format, Format::BareBinary | Format::BareBase64);
        let first = match (bare, payload.is_empty()) {
            // The one channel is not named.
            (true, _) => 0,
            (false, true) => return None,
            (false, false) => payload.split_to(1)[0],
        };
        if !matches!(self.format, Format::Base64 | Format::BareBase64) {
            return Some(Received::Message(first, payload));
        }
        let channel = if bare {
            first
        } else {
            first.wrapping_sub(b'0')
        };
        Some(match STANDARD.decode(payload) {
            Ok(decoded) => Received::Message(channel, decoded.into()),
            Err(_) => Received::Invalid,
        })
    }

    /// Receives until the connection is over.
    ///
    /// Sends nothing: a service that waits for the end of its input needs a
    /// [`close_channel`](Self::close_channel) or [`close`](Self::close) first.
    ///
    /// # Panics
    /// The connection was not over within the [call
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
        let missing = "the end of the connection did not come";
        async move { in_time(limit.of(reading, missing).await, caller) }
    }

    /// Waits, with the connection left alone: neither read nor written. What is sent to
    /// it meanwhile fills the [buffer](super::Connect::buffer), then makes the service wait.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is lost.
    pub async fn stall(&mut self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Loses the connection: it ends without a Close frame, as that of a client that
    /// crashed. What was sent arrives first.
    ///
    /// The service has to see an error on what it reads, `ConnectionReset`, and no EOF.
    pub fn lose(self) {}

    /// Loses the connection in the middle of a message: the service gets the payload,
    /// whose message was to be longer, and then the error of a [lost](Self::lose)
    /// connection.
    ///
    /// # Errors
    /// The connection is lost or closed already, or the service has not read for the time
    /// of the [call timeout](super::Connect::call_timeout).
    pub async fn cut_off(mut self, channel: u8, payload: &[u8]) -> Result<(), BoxError> {
        let (data, mut message) = match self.encode(channel, payload) {
            Message::Text(text) => (Data::Text, Bytes::from(text).to_vec()),
            message => (Data::Binary, message.into_data().to_vec()),
        };
        // What was to come.
        message.push(b'A');
        let mut frame = Frame::message(message, OpCode::Data(data), true);
        frame.header_mut().mask = Some(MASK);
        let mut bytes = Vec::new();
        frame.format(&mut bytes)?;
        bytes.pop();
        let limit = self.limit;
        let sending = async {
            // Pongs that are still to go out end where a frame ends.
            poll_fn(|cx| Pin::new(&mut self.socket).poll_flush(cx)).await?;
            let stream = self.socket.get_mut();
            stream.write_all(&bytes).await?;
            stream.flush().await?;
            Ok::<(), BoxError>(())
        };
        limit.of(sending, "no room for a message came").await?
    }
}

/// Unwraps a call that was over in time. A test whose call was not has failed, there.
fn in_time<T>(called: io::Result<T>, caller: &Location<'_>) -> T {
    match called {
        Ok(came) => came,
        Err(over) => panic!("{over} ({caller})"),
    }
}
