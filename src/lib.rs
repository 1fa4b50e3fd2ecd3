//! Tower middleware that turns a WebSocket upgrade into typed byte channels, and
//! hands them to an inner `tower::Service<`[`ChannelSet`]`>`.
//!
//! It speaks Kubernetes' `channel.k8s.io` family, v1 to v5 and base64, over HTTP/1.1 and HTTP/2:
//! the protocol of `kubectl exec` and `attach`, of kube-rs and of the Python and JavaScript
//! clients, which Go serves with its package `httpstream/wsstream`. With the feature `spdy`, the
//! same services also serve SPDY/3.1: the protocol of `kubectl port-forward`, of older versions of
//! kubectl, of `crictl`, and of API servers that stand in front of a kubelet.
//!
//! It is for kubelets, CRI streaming servers, API servers and web terminals. Auth, tracing, limits
//! and timeouts are ordinary tower layers around it. It needs tokio, and a server on hyper that
//! forwards upgrades: axum's `serve` and hyper-util do, tonic's own does not.
//!
//! # High-level features
//!
//! * **Services, not callbacks**: a session is a call of your `tower::Service`, and what surrounds it
//!   are layers. A layer outside sees a request, and one inside a session.
//! * **Typed channels**: [`ChannelReader`] is an `AsyncRead`, [`ChannelWriter`] an `AsyncWrite`, with
//!   backpressure for each.
//! * **An end that does not lie**: output arrives before the exit status, and EOF is never a guess.
//! * **Bounds**: memory, time and rates of a session are settings, whatever its peer does.
//! * **Refusals that say why**: before the upgrade, as an answer with a `metav1.Status`.
//! * **Every client**: WebSocket and SPDY, HTTP/1.1 and HTTP/2, each kubectl from 1.29 to 1.37,
//!   `crictl`, kube-rs, browsers.
//!
//! # Example server
//!
//! `kubectl exec` on axum. A kubectl also asks for the pod: `examples/exec.rs` answers that too, and
//! runs processes.
//!
//! <!-- no_run: it serves until it is stopped -->
//! ```no_run
//! use tokio::{io::AsyncWriteExt, net::TcpListener};
//! use tower::ServiceBuilder;
//! # #[cfg(feature = "remotecommand")]
//! use tower_wsstream::{BoxError, WsStreamLayer, remotecommand::*};
//!
//! # #[cfg(feature = "remotecommand")]
//! async fn run(command: RemoteCommand) -> Result<ExitStatus, BoxError> {
//!     let mut stdout = command.stdout.ok_or("no stdout")?;
//!     stdout.write_all(b"hello\n").await?;
//!     Ok(ExitStatus::from_code(3))
//! }
//!
//! # #[cfg(feature = "remotecommand")]
//! #[tokio::main]
//! async fn main() -> Result<(), BoxError> {
//!     let exec = ServiceBuilder::new()
//!         .layer(WsStreamLayer::new(Protocols::default()))
//!         .layer(RemoteCommandLayer::new())
//!         .load_shed()
//!         .concurrency_limit(64) // sessions, not requests
//!         .service_fn(run);
//!     let app = axum::Router::new().route_service("/exec", exec);
//!     axum::serve(TcpListener::bind("127.0.0.1:8080").await?, app).await?;
//!     Ok(())
//! }
//! # #[cfg(not(feature = "remotecommand"))]
//! # fn main() {}
//! ```
//!
//! # Channels of your own
//!
//! A service over the channels of any subprotocol:
//!
//! ```
//! use tokio::io::AsyncWriteExt;
//! use tower::ServiceBuilder;
//! use tower_wsstream::{BoxError, ChannelProtocols, ChannelSet, ChannelType, WsStreamLayer};
//!
//! async fn greet(mut channels: ChannelSet) -> Result<(), BoxError> {
//!     if let Some(mut out) = channels.take_writer(1) {
//!         out.write_all(b"hello").await?;
//!     }
//!     Ok(())
//! }
//!
//! # fn main() -> Result<(), tower_wsstream::ConfigError> {
//! let protocols = ChannelProtocols::standard([ChannelType::Read, ChannelType::Write])?;
//! let service = ServiceBuilder::new()
//!     .layer(WsStreamLayer::new(protocols))
//!     .load_shed()
//!     .concurrency_limit(64) // sessions, not requests
//!     .service_fn(greet);
//! # let _ = service;
//! # Ok(())
//! # }
//! ```
//!
//! # Required dependencies
//!
//! The crate is not published yet: the path is that of a clone beside your package.
//!
//! ```toml
//! [dependencies]
//! tower-wsstream = { path = "../tower-wsstream", features = ["auto-server"] } # the feature: for axum's `serve`
//! tower = { version = "0.5", features = ["limit", "load-shed", "util"] }
//! tokio = { version = "1", features = ["full"] }
//! axum = "0.8" # or another server that is built on hyper
//! ```
//!
//! # What there is
//!
//! | for | use |
//! |---|---|
//! | exec and attach | [`remotecommand`] |
//! | port-forward | [`portforward`] |
//! | logs, and anything else that only the server writes | [`reader`] |
//! | channels of your own | [`WsStreamLayer`] over a `Service<ChannelSet>` |
//! | clients of WebSocket and of SPDY on one route | `streaming`, with the feature `spdy` |
//! | an axum handler that accepts the upgrade itself | `axum08`, with the feature of that name |
//! | tokens from browsers, authorisation by intent, limits on sessions | [`access`] |
//! | origins, timeouts, rates and sizes | [`policy`], [`SessionConfig`] |
//! | audits and recordings of what a session carries | [`channel::tap`] |
//! | counting, listing and draining sessions | [`Sessions`] |
//! | the outcome of each session | [`SessionConfig::on_end`] |
//! | tests of your service | `testing`, with the feature of that name |
//! | exec, logs, port-forward, auth, shutdowns, tests, kubelets, container runtimes, Go: a page each | [`guide`] |
//! | the protocol, the place of each layer, errors, deadlines, servers, costs | [`guide`] |
//!
//! # Before production
//!
//! * Limits: [`policy::Limits`] bounds the memory of a session; the number of sessions is [yours to limit](guide::layers).
//! * Scaling out: replicas share nothing, and any balancer that forwards upgrades will do: [`guide::balancing`].
//! * Security: the crate does not authenticate. `SECURITY.md` has what a peer can cost, and a checklist.
//! * Rust 1.88 or later.
//!
//! # Features
//!
//! | feature | adds | pulls in |
//! |---|---|---|
//! | `remotecommand` (default) | exec and attach | nothing |
//! | `portforward` (default) | port-forward over channels | nothing |
//! | `http2` | sessions over HTTP/2 (extended CONNECT) | h2 |
//! | `auto-server` | the fast path under hyper-util's auto server and axum's `serve`; implies `http2` | h2 |
//! | `axum08` | an extractor for axum's handlers; implies `auto-server` | axum-core |
//! | `spdy` | sessions of [`remotecommand`] and [`portforward`] over SPDY/3.1, and the tunnel of `kubectl port-forward`: see `streaming` | nothing |
//! | `testing` | a client end in memory, for tests of a service; over HTTP/2 with `http2` | tokio-tungstenite, hyper's server, and the common part of its client |
//! | `simd` | base64 three to four times as fast | base64-simd |
//!
// Links to modules that are not built lead to the table above.
#![cfg_attr(not(feature = "portforward"), doc = "[`portforward`]: #features")]
#![cfg_attr(not(feature = "remotecommand"), doc = "[`remotecommand`]: #features")]
#![cfg_attr(
    all(
        feature = "spdy",
        not(all(feature = "portforward", feature = "remotecommand"))
    ),
    allow(dead_code, unused_imports, reason = "SPDY is for these two")
)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod access;
#[cfg(test)]
mod autobahn;
pub mod body;
pub mod channel;
mod close_reason;
mod connection;
mod error;
mod frame;
mod handshake;
mod mux;
mod opening;
pub mod policy;
pub mod protocol;
#[cfg(any(feature = "portforward", feature = "remotecommand"))]
mod query;
pub mod reader;
mod rejection;
pub mod session;
#[cfg(feature = "spdy")]
mod spdy;
#[cfg(feature = "spdy")]
mod streams;
mod unwind;
mod wire;
pub mod ws_stream;

#[cfg(feature = "axum08")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum08")))]
pub mod axum08;
#[cfg(feature = "__bench")]
#[doc(hidden)]
pub mod bench;
#[cfg(feature = "__fuzz")]
#[doc(hidden)]
pub mod fuzz;
#[cfg(any(doc, doctest))]
pub mod guide;
#[cfg(feature = "portforward")]
#[cfg_attr(docsrs, doc(cfg(feature = "portforward")))]
pub mod portforward;
#[cfg(feature = "remotecommand")]
#[cfg_attr(docsrs, doc(cfg(feature = "remotecommand")))]
pub mod remotecommand;
#[cfg(feature = "spdy")]
#[cfg_attr(docsrs, doc(cfg(feature = "spdy")))]
pub mod streaming;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;

#[cfg(feature = "spdy")]
#[cfg_attr(docsrs, doc(cfg(feature = "spdy")))]
#[doc(inline)]
pub use self::streaming::StreamingLayer;
#[doc(inline)]
pub use self::{
    channel::{Channel, ChannelReader, ChannelSet, ChannelWriter},
    error::{BoxError, EndCause},
    handshake::{IsWebSocketRequest, ProtocolSource, is_websocket_request},
    protocol::{
        ChannelProtocolConfig, ChannelProtocols, ChannelType, ConfigError, Encoding, Status,
        subprotocols,
    },
    rejection::{Rejection, RejectionKind},
    session::{AcceptMode, Session, SessionConfig, Sessions},
    ws_stream::{WsStream, WsStreamLayer},
};
