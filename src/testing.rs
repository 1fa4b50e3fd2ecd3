//! A client end of the channels, for the tests of a service.
//!
//! The whole stack runs as in production, HTTP server and handshake included,
//! over an in-memory stream: so a test needs no port, and paused time works.
//! The client is built on tungstenite's, so that one mistake cannot hide on both
//! sides.
//!
//! ```
//! use tower::ServiceBuilder;
//! use tower_wsstream::{
//!     BoxError, WsStreamLayer, remotecommand::*, subprotocols,
//!     testing::Connect,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let service = ServiceBuilder::new()
//!     .layer(WsStreamLayer::new(Protocols::default()))
//!     .layer(RemoteCommandLayer::new())
//!     .service_fn(async |_: RemoteCommand| Ok::<_, BoxError>(ExitStatus::code(3)));
//!
//! let client = Connect::to("/exec?command=false&stdout=true")
//!     .offer(subprotocols::V5)
//!     .connect(service)
//!     .await?;
//! let transcript = client.read_to_end().await;
//! assert_eq!(transcript.exit_code(), Some(3));
//! assert_eq!(transcript.close_code, Some(1000));
//!
//! // A refusal is an error that holds the answer.
//! use tower_wsstream::testing::Refused;
//! let nothing = Connect::to("/exec?command=false").offer(subprotocols::V5);
//! # let service = ServiceBuilder::new()
//! #     .layer(WsStreamLayer::new(Protocols::default()))
//! #     .layer(RemoteCommandLayer::new())
//! #     .service_fn(async |_: RemoteCommand| Ok::<_, BoxError>(ExitStatus::code(3)));
//! let error = nothing.connect(service).await.unwrap_err();
//! assert_eq!(error.downcast_ref::<Refused>().unwrap().status(), 400);
//! # Ok(())
//! # }
//! ```
//!
//! An axum `Router` can be connected to as it is. In `Cargo.toml`: this crate with
//! the feature `testing` in the dev-dependencies, and for paused time tokio with
//! `macros` and `test-util`.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use futures_core::Stream;
use futures_sink::Sink;
use http::{Request, Response, StatusCode, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{rt::TokioIo, rt::TokioTimer, service::TowerToHyperService};
use tokio::{io::DuplexStream, task::JoinHandle};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};
use tower_service::Service;

use crate::{BoxError, Status, subprotocols};

/// What the in-memory stream holds in each direction, unless set: more than
/// any one message of a test, as a socket would.
const BUFFER: usize = 256 * 1024;

/// A handshake to be made.
#[derive(Clone, Debug)]
#[must_use = "a handshake does nothing until `connect`"]
pub struct Connect {
    uri: String,
    offered: Vec<String>,
    headers: Vec<(header::HeaderName, String)>,
    buffer: usize,
}

impl Connect {
    /// A handshake for this path and query.
    pub fn to(path: impl Into<String>) -> Self {
        Self {
            uri: path.into(),
            offered: Vec::new(),
            headers: Vec::new(),
            buffer: BUFFER,
        }
    }

    /// Offers a subprotocol, after those offered before.
    pub fn offer(mut self, subprotocol: impl Into<String>) -> Self {
        self.offered.push(subprotocol.into());
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: header::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sets how many bytes the stream holds in each direction; default 256 KiB.
    /// A small one makes both sides wait often.
    pub fn buffer(mut self, bytes: usize) -> Self {
        self.buffer = bytes;
        self
    }

    /// Makes the handshake with a service, served by hyper.
    ///
    /// # Errors
    /// [`Refused`] where the answer is not 101; else what went wrong.
    pub async fn connect<S, B>(self, service: S) -> Result<Client, BoxError>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let (near, far) = tokio::io::duplex(self.buffer);
        let server = tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(far), TowerToHyperService::new(service))
                .with_upgrades();
            // The client sees what matters of it.
            let _ = connection.await;
        });
        let server = AbortOnDrop(server);
        let request = self.request()?;
        match tokio_tungstenite::client_async(request, near).await {
            Ok((socket, response)) => Ok(Client::new(socket, &response, server)),
            Err(tungstenite::Error::Http(response)) => Err(Refused(*response).into()),
            Err(error) => Err(error.into()),
        }
    }

    fn request(self) -> Result<Request<()>, BoxError> {
        let mut request = format!("ws://localhost{}", self.uri).into_client_request()?;
        let headers = request.headers_mut();
        if !self.offered.is_empty() {
            let offered = self.offered.join(", ").parse()?;
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
        }
        for (name, value) in self.headers {
            headers.append(name, value.parse()?);
        }
        Ok(request)
    }
}

/// The handshake was refused.
#[derive(Debug)]
pub struct Refused(Response<Option<Vec<u8>>>);

impl Refused {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// The headers of the answer.
    pub fn headers(&self) -> &header::HeaderMap {
        self.0.headers()
    }

    /// The body of the answer, as far as it came with its head.
    pub fn body(&self) -> &[u8] {
        self.0.body().as_deref().unwrap_or_default()
    }

    /// The Status in that body, which every refusal of this crate has.
    pub fn refusal(&self) -> Option<Status> {
        Status::from_json(self.body()).ok()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the handshake was refused with {}", self.0.status())?;
        match self.refusal().as_ref().and_then(Status::message) {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refused {}

#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the client received.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// A message of a channel, decoded.
    Message(u8, Bytes),
    /// A message of a base64 subprotocol that is not base64.
    Invalid,
    /// A Close frame, with its code if it had one.
    Closed(Option<u16>),
    /// The connection ended without a Close frame, or after it.
    Lost,
}

/// The client end of a session. Dropping it loses the connection.
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<DuplexStream>,
    subprotocol: String,
    _server: AbortOnDrop,
}

impl Client {
    fn new(
        socket: WebSocketStream<DuplexStream>,
        response: &Response<Option<Vec<u8>>>,
        server: AbortOnDrop,
    ) -> Self {
        let subprotocol = response
            .headers()
            .get(header::SEC_WEBSOCKET_PROTOCOL)
            .and_then(|name| name.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        Self {
            socket,
            subprotocol,
            _server: server,
        }
    }

    /// The subprotocol that the server selected; "" for none.
    pub fn subprotocol(&self) -> &str {
        &self.subprotocol
    }

    fn is_base64(&self) -> bool {
        matches!(
            self.subprotocol.as_str(),
            subprotocols::BASE64_CHANNEL | subprotocols::V4_BASE64
        )
    }

    /// Sends one message on a channel.
    ///
    /// # Errors
    /// The connection is lost or closed.
    pub async fn send(&mut self, channel: u8, payload: &[u8]) -> Result<(), BoxError> {
        let message = if self.is_base64() {
            let prefix = char::from(channel.wrapping_add(b'0'));
            Message::text(format!("{prefix}{}", STANDARD.encode(payload)))
        } else {
            let mut message = BytesMut::with_capacity(1 + payload.len());
            message.put_u8(channel);
            message.put_slice(payload);
            Message::binary(message.freeze())
        };
        self.send_message(message).await
    }

    /// Sends the CLOSE of a channel (`v5.channel.k8s.io`).
    ///
    /// # Errors
    /// The connection is lost or closed.
    pub async fn close_channel(&mut self, channel: u8) -> Result<(), BoxError> {
        self.send_message(Message::binary(vec![255, channel])).await
    }

    /// Sends a Close frame, with a code or without, and goes on.
    ///
    /// # Errors
    /// The connection is lost or closed.
    pub async fn close(&mut self, code: Option<u16>) -> Result<(), BoxError> {
        let frame = code.map(|code| CloseFrame {
            code: CloseCode::from(code),
            reason: "".into(),
        });
        self.send_message(Message::Close(frame)).await
    }

    /// Sends any message, for what the subprotocols do not know.
    ///
    /// # Errors
    /// The connection is lost or closed.
    pub async fn send_message(&mut self, message: Message) -> Result<(), BoxError> {
        let mut message = Some(message);
        std::future::poll_fn(|cx| {
            let mut socket = std::pin::Pin::new(&mut self.socket);
            if message.is_some() {
                std::task::ready!(socket.as_mut().poll_ready(cx))?;
            }
            if let Some(message) = message.take() {
                socket.as_mut().start_send(message)?;
            }
            socket.as_mut().poll_flush(cx)
        })
        .await
        .map_err(Into::into)
    }

    /// Receives what comes next; answers Pings meanwhile.
    ///
    /// # Cancel safety
    /// Cancel safe: what was not returned is returned by the next call.
    pub async fn receive(&mut self) -> Received {
        loop {
            let next =
                std::future::poll_fn(|cx| std::pin::Pin::new(&mut self.socket).poll_next(cx));
            let message = match next.await {
                Some(Ok(message)) => message,
                Some(Err(_)) | None => return Received::Lost,
            };
            let payload = match message {
                Message::Binary(payload) => payload,
                Message::Text(text) => Bytes::from(text),
                Message::Close(frame) => {
                    return Received::Closed(frame.map(|frame| frame.code.into()));
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            if let Some(message) = self.decode(payload) {
                return message;
            }
        }
    }

    fn decode(&self, mut payload: Bytes) -> Option<Received> {
        if payload.is_empty() {
            return None;
        }
        let first = payload.split_to(1)[0];
        if !self.is_base64() {
            return Some(Received::Message(first, payload));
        }
        Some(match STANDARD.decode(payload) {
            Ok(decoded) => Received::Message(first.wrapping_sub(b'0'), decoded.into()),
            Err(_) => Received::Invalid,
        })
    }

    /// Receives until the connection is over.
    ///
    /// Sends nothing: a service that waits for the end of its input needs a
    /// [`close_channel`](Self::close_channel) or [`close`](Self::close) first.
    pub async fn read_to_end(mut self) -> Transcript {
        let mut transcript = Transcript::default();
        loop {
            match self.receive().await {
                Received::Message(channel, payload) => {
                    transcript.messages.push((channel, payload));
                }
                Received::Closed(code) => {
                    transcript.closed = true;
                    transcript.close_code = code;
                }
                Received::Invalid => transcript.invalid += 1,
                Received::Lost => return transcript,
            }
        }
    }

    /// Waits, with the connection left alone: neither read nor written.
    pub async fn stall(&mut self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// All that a client received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transcript {
    /// Messages in order, decoded; empty ones too, such as the ready message of
    /// exec and attach.
    pub messages: Vec<(u8, Bytes)>,
    /// How many messages could not be decoded.
    pub invalid: usize,
    /// Whether a Close frame came.
    pub closed: bool,
    /// Its code, if it had one.
    pub close_code: Option<u16>,
}

impl Transcript {
    /// All bytes of one channel.
    pub fn channel(&self, channel: u8) -> Vec<u8> {
        let messages = self.messages.iter().filter(|(id, _)| *id == channel);
        messages.flat_map(|(_, payload)| payload).copied().collect()
    }

    /// The Status on the error channel of v4 and v5.
    pub fn status(&self) -> Option<Status> {
        Status::from_json(&self.channel(3)).ok()
    }

    /// The exit code that the Status tells.
    pub fn exit_code(&self) -> Option<u8> {
        self.status()?.exit_code_value()
    }
}
