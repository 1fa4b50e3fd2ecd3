//! A client for the tests of a service.
//!
//! The whole stack runs as in production, including the HTTP server and the handshake, but over
//! an in-memory stream: a test needs no port, and paused time works. The client is built on
//! tungstenite, so that the same mistake cannot be made on both sides.
//!
//! Add this crate with the feature `testing` to the dev-dependencies and, for paused time, tokio
//! with `macros` and `test-util`. `examples/testing.rs` is a complete file of tests.
//!
//! | to test what the service does when ... | use |
//! |---|---|
//! | its input arrives, and ends | [`Client::send`], [`Client::close_channel`] (v5), [`Client::close`] |
//! | its client is lost, between two messages or in the middle of one | [`Client::lose`], [`Client::cut_off`] |
//! | its client reads late | [`Connect::buffer`], [`Client::stall`], then [`Client::read_to_end`] |
//! | nothing happens for hours | `#[tokio::test(start_paused = true)]` |
//! | its client uses HTTP/2 | `Connect::http2`, with the feature `http2` |
//! | its client breaks the rules | [`Client::send_frame`] |
//! | it never sends the data that the test waits for | [`Connect::call_timeout`]; by default the test fails after 24 h of tokio's time |
//!
//! # Output, and the exit status
//!
//! [`Client::read_to_end`] returns everything that the client received: the bytes of each
//! channel, the Status, and the close code.
//!
//! ```
//! use tokio::io::AsyncWriteExt;
//! use tower::ServiceBuilder;
//! use tower_wsstream::{
//!     BoxError, WsStreamLayer, subprotocols, remotecommand::*, testing::Connect,
//! };
//!
//! async fn run(mut command: RemoteCommand) -> Result<ExitStatus, BoxError> {
//!     let mut stdout = command.stdout.take().ok_or("no stdout")?;
//!     stdout.write_all(b"hello").await?;
//!     Ok(ExitStatus::from_code(3))
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let service = ServiceBuilder::new()
//!     .layer(WsStreamLayer::new(Protocols::default()))
//!     .layer(RemoteCommandLayer::new())
//!     .service_fn(run);
//!
//! let client = Connect::to("/exec?command=false&stdout=true")
//!     .offer(subprotocols::V5)
//!     .connect(service)
//!     .await?;
//! let transcript = client.read_to_end().await;
//! assert_eq!(transcript.channel(1), b"hello");
//! assert_eq!(transcript.exit_code(), Some(3));
//! // The outcome was reported in full.
//! assert_eq!(transcript.close_code, Some(1000));
//! # Ok(())
//! # }
//! ```
//!
//! # Input, and its end
//!
//! On `v5.channel.k8s.io`, one channel can end alone. On the other subprotocols, the client's Close
//! frame ends all input.
//!
//! ```
//! use tokio::io::AsyncReadExt;
//! use tower::ServiceBuilder;
//! use tower_wsstream::{
//!     BoxError, WsStreamLayer, subprotocols, remotecommand::*, testing::Connect,
//! };
//!
//! /// Exits with the number of bytes in its input.
//! async fn count(mut command: RemoteCommand) -> Result<ExitStatus, BoxError> {
//!     let mut all = Vec::new();
//!     let mut stdin = command.stdin.take().ok_or("no stdin")?;
//!     stdin.read_to_end(&mut all).await?;
//!     Ok(ExitStatus::from_code(all.len().try_into()?))
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let service = ServiceBuilder::new()
//!     .layer(WsStreamLayer::new(Protocols::default()))
//!     .layer(RemoteCommandLayer::new())
//!     .service_fn(count);
//!
//! for offer in [subprotocols::V5, subprotocols::V4] {
//!     let mut client = Connect::to("/exec?command=wc&stdin=true&stdout=true")
//!         .offer(offer)
//!         .connect(service.clone())
//!         .await?;
//!     client.send(0, b"four").await?;
//!     match client.subprotocol() {
//!         subprotocols::V5 => client.close_channel(0).await?,
//!         _ => client.close(Some(1000)).await?,
//!     }
//!     assert_eq!(client.read_to_end().await.exit_code(), Some(4));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # A connection that is lost
//!
//! When the client is lost, the service must learn that its input is incomplete: a read fails with
//! `ConnectionReset`, and never returns EOF. The service has the
//! [grace period](crate::SessionConfig::grace) to clean up, and is then dropped. The test observes
//! the effects of the service:
//!
//! ```
//! use std::io;
//!
//! use tokio::{io::AsyncReadExt, sync::mpsc};
//! use tower::ServiceBuilder;
//! use tower_wsstream::{
//!     BoxError, ChannelProtocols, ChannelSet, ChannelType, WsStreamLayer, testing::Connect,
//! };
//!
//! type Stored = mpsc::UnboundedSender<io::Result<Vec<u8>>>;
//!
//! /// Stores an upload, if it is complete.
//! async fn upload(mut channels: ChannelSet, store: Stored) -> Result<(), BoxError> {
//!     let mut input = channels.take_reader(0).ok_or("no channel 0")?;
//!     let mut file = Vec::new();
//!     let read = input.read_to_end(&mut file).await;
//!     store.send(read.map(|_| file))?;
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let (store, mut stored) = mpsc::unbounded_channel();
//! let protocols = ChannelProtocols::standard([ChannelType::Read])?;
//! let service = ServiceBuilder::new()
//!     .layer(WsStreamLayer::new(protocols))
//!     .service_fn(move |channels| upload(channels, store.clone()));
//!
//! let mut client = Connect::to("/upload").connect(service.clone()).await?;
//! client.send(0, b"the first message, ").await?;
//! client.cut_off(0, b"and half of the sec").await?;
//! let error = stored.recv().await.ok_or("no end")?.unwrap_err();
//! assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
//!
//! let mut client = Connect::to("/upload").connect(service).await?;
//! client.send(0, b"all of it").await?;
//! client.close(Some(1000)).await?;
//! assert_eq!(stored.recv().await.ok_or("no end")??, b"all of it");
//! # Ok(())
//! # }
//! ```
//!
//! # Paused time, and a client that stalls
//!
//! With paused time, a timeout of hours expires at once and exactly: tokio's clock advances when
//! nothing else can run. A client that does not read makes the service wait once the buffer is
//! full. When the client reads again, nothing is missing.
//!
//! Pings keep this clock moving, so a wait for something that never arrives would not end.
//! Therefore each call of the client has a [limit](Connect::call_timeout), by default 24 h of
//! tokio's time, after which [`receive`](Client::receive) panics. In real time, this takes a moment.
//!
//! ```
//! use std::time::Duration;
//!
//! use tokio::{io::AsyncWriteExt, time::Instant};
//! use tower::ServiceBuilder;
//! use tower_wsstream::{
//!     BoxError, ChannelProtocols, ChannelSet, ChannelType, WsStreamLayer,
//!     testing::{Connect, Received},
//! };
//!
//! const IDLE: Duration = Duration::from_secs(4 * 60 * 60);
//!
//! /// Sends a lot, and then waits for the end of the session.
//! async fn talk(mut channels: ChannelSet) -> Result<(), BoxError> {
//!     let mut out = channels.take_writer(0).ok_or("no channel 0")?;
//!     out.write_all(&[7; 1024 * 1024]).await?;
//!     channels.session().ended().await;
//!     Ok(())
//! }
//!
//! // A test uses `#[tokio::test(start_paused = true)]` instead.
//! #[tokio::main(flavor = "current_thread", start_paused = true)]
//! async fn main() -> Result<(), BoxError> {
//!     let protocols = ChannelProtocols::standard([ChannelType::Write])?;
//!     let service = ServiceBuilder::new()
//!         .layer(WsStreamLayer::new(protocols).idle_timeout(IDLE))
//!         .service_fn(talk);
//!
//!     let mut client = Connect::to("/").buffer(1024).connect(service).await?;
//!     client.stall(Duration::from_secs(60)).await;
//!     let mut told = 0;
//!     while told < 1024 * 1024 {
//!         let Received::Message(0, payload) = client.receive().await else {
//!             return Err("the end came too early".into());
//!         };
//!         told += payload.len();
//!     }
//!
//!     let start = Instant::now();
//!     assert_eq!(client.receive().await, Received::Closed { code: Some(1000), reason: "".into() });
//!     assert_eq!(start.elapsed().as_secs(), IDLE.as_secs());
//!     Ok(())
//! }
//! ```
//!
//! # A refusal
//!
//! If the upgrade is refused, [`Connect::connect`] fails with an error that contains the answer.
//!
//! ```
//! # use tower::ServiceBuilder;
//! # use tower_wsstream::{BoxError, WsStreamLayer, subprotocols, remotecommand::*};
//! use tower_wsstream::testing::{Connect, Refused};
//!
//! # async fn run(_: RemoteCommand) -> Result<ExitStatus, BoxError> {
//! #     Ok(ExitStatus::success())
//! # }
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! # let service = ServiceBuilder::new()
//! #     .layer(WsStreamLayer::new(Protocols::default()))
//! #     .layer(RemoteCommandLayer::new())
//! #     .service_fn(run);
//! // This command has no stream, neither input nor output.
//! let connect = Connect::to("/exec?command=false").offer(subprotocols::V5);
//! let error = connect.connect(service).await.unwrap_err();
//! let refused = error.downcast_ref::<Refused>().ok_or("no answer")?;
//! assert_eq!(refused.status(), 400);
//! assert_eq!(refused.refusal().ok_or("no Status")?.reason(), Some("BadRequest"));
//! # Ok(())
//! # }
//! ```
//!
//! # A whole application
//!
//! [`Connect::connect`] accepts any service for HTTP requests, for example an axum `Router` with
//! everything that surrounds the service, such as authentication.
//!
//! ```
//! use axum::{Router, http::{StatusCode, header}};
//! # use tower::ServiceBuilder;
//! # use tower_http::validate_request::ValidateRequestHeaderLayer;
//! # use tower_wsstream::{BoxError, WsStreamLayer, subprotocols, remotecommand::*};
//! use tower_wsstream::testing::{Connect, Refused};
//!
//! # async fn run(_: RemoteCommand) -> Result<ExitStatus, BoxError> {
//! #     Ok(ExitStatus::success())
//! # }
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! # let service = ServiceBuilder::new()
//! #     .layer(WsStreamLayer::new(Protocols::default()))
//! #     .layer(RemoteCommandLayer::new())
//! #     .service_fn(run);
//! let app: Router = Router::new()
//!     .route_service("/exec", service)
//!     .layer(ValidateRequestHeaderLayer::accept("application/x-exec"));
//!
//! let exec = Connect::to("/exec?command=true&stdout=true").offer(subprotocols::V5);
//! let client = exec
//!     .clone()
//!     .header(header::ACCEPT, "application/x-exec")
//!     .connect(app.clone())
//!     .await?;
//! assert_eq!(client.read_to_end().await.exit_code(), Some(0));
//!
//! let error = exec.header(header::ACCEPT, "text/html").connect(app).await.unwrap_err();
//! let refused = error.downcast_ref::<Refused>().ok_or("no answer")?;
//! assert_eq!(refused.status(), StatusCode::NOT_ACCEPTABLE);
//! # Ok(())
//! # }
//! ```
//!
//! # HTTP/2
//!
//! With the feature `http2`, the client can use an extended CONNECT (RFC 8441). The session is the
//! same, but the request is not: it is a `CONNECT`, which does not match a route for `GET`. A
//! request that is not an upgrade gets a 400 instead of a 426.
//!
//! ```
//! # #[cfg(feature = "http2")]
//! # mod over {
//! # use tower::ServiceBuilder;
//! # use tower_wsstream::{BoxError, WsStreamLayer, subprotocols, remotecommand::*};
//! # use tower_wsstream::testing::Connect;
//! # async fn run(_: RemoteCommand) -> Result<ExitStatus, BoxError> {
//! #     Ok(ExitStatus::success())
//! # }
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # pub async fn http2() -> Result<(), BoxError> {
//! # let service = ServiceBuilder::new()
//! #     .layer(WsStreamLayer::new(Protocols::default()))
//! #     .layer(RemoteCommandLayer::new())
//! #     .service_fn(run);
//! let exec = Connect::to("/exec?command=true&stdout=true").offer(subprotocols::V5);
//! for connect in [exec.clone(), exec.http2()] {
//!     let client = connect.connect(service.clone()).await?;
//!     assert_eq!(client.read_to_end().await.exit_code(), Some(0));
//! }
//! # Ok(())
//! # }
//! # }
//! # #[cfg(feature = "http2")]
//! # over::http2().unwrap();
//! ```
//!
//! Messages without a channel number, such as those of a
//! [`WsReaderLayer`](crate::reader::WsReaderLayer), belong to channel 0.
//!
//! # After the end
//!
//! A session ends a moment after its client has received everything or was dropped, so
//! [`on_end`](crate::SessionConfig::on_end) and taps report slightly later. With paused time, a
//! `sleep` waits for them, because the clock advances only when no other task can run. If the
//! service ignores the end, the sleep has to be longer than the
//! [grace period](crate::SessionConfig::grace).
//!
//! ```
//! # use tower_wsstream::{BoxError, ChannelProtocols, ChannelSet, ChannelType, WsStreamLayer};
//! # use tower_wsstream::testing::Connect;
//! use std::{sync::mpsc, time::Duration};
//! use tower_wsstream::{EndCause, SessionConfig};
//!
//! async fn ignores_its_end(channels: ChannelSet) -> Result<(), BoxError> {
//!     std::future::pending().await
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! # let protocols = ChannelProtocols::standard([ChannelType::Read])?;
//! let (ends, ended) = mpsc::channel();
//! let config = SessionConfig::default().on_end(move |end| drop(ends.send(end.cause.clone())));
//! let service = tower::ServiceBuilder::new()
//!     .layer(WsStreamLayer::new(protocols).config(config))
//!     .service_fn(ignores_its_end);
//!
//! drop(Connect::to("/").connect(service).await?);
//! tokio::time::sleep(Duration::from_secs(2)).await;
//! assert!(matches!(ended.try_recv()?, EndCause::ConnectionLost { .. }));
//! # Ok(())
//! # }
//! ```

mod client;
mod connect;
mod encoding;
mod frame;
#[cfg(feature = "http2")]
mod http2;
mod limit;
mod received;
mod refused;
mod server;
mod stream;
mod transcript;

pub use self::{
    client::Client, connect::Connect, frame::Frame, received::Received, refused::Refused,
    transcript::Transcript,
};
