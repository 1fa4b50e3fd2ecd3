//! The layer that makes sessions of upgrades to WebSocket and to SPDY/3.1.
//!
//! Kubernetes' API servers speak SPDY to kubelets, unless the node declares that it takes WebSockets
//! as well, which is possible from 1.36 on. Kubelets speak it to container runtimes, and `crictl`
//! speaks it by default. A client sends a POST with `Upgrade: SPDY/3.1`, and then opens a stream for
//! each channel. A GET is accepted as well, and any other method is refused with 405.
//!
//! | kubectl | exec, attach and cp | port-forward |
//! |---|---|---|
//! | up to 1.29 | SPDY | SPDY |
//! | 1.30 | WebSocket | SPDY |
//! | from 1.31 on | WebSocket | SPDY inside of a WebSocket, which a `WsStreamLayer` serves as well |
//!
//! | type | role |
//! |---|---|
//! | [`StreamingLayer`] | WebSocket and SPDY from the same subprotocols, [configuration](crate::SessionConfig) and service |
//! | [`Streaming`], [`StreamingFuture`] | the service of a `StreamingLayer`, and the answer to a request |
//! | [`is_spdy_request`] | whether a request asks for SPDY |
//!
//! # What a client can ask for
//!
//! A client offers protocols in `X-Stream-Protocol-Version`, and the first one that is accepted is
//! selected. Over SPDY, a [`ChannelProtocols`](crate::ChannelProtocols) table of
//! `remotecommand::Protocols` accepts `v4.channel.k8s.io` to `v2.channel.k8s.io` and
//! `channel.k8s.io`, and one of `portforward::Protocols` accepts `portforward.k8s.io`. A table of
//! your own accepts none, because nothing says which stream would be which channel. Such a request
//! is refused with a 403.
//!
//! `v5.channel.k8s.io` is never accepted, because clients that offer it over SPDY do not mean its
//! half-close: streams have one of their own, in every version.
//!
//! # The start of a command
//!
//! The service is called before the 101, and polled once, or with
//! [`AcceptMode::Explicit`](crate::AcceptMode) until it has accepted, as over WebSocket, so that a failure can
//! still refuse the request. It is not polled again before the client has opened all streams, for
//! which it has 30 s. A service that starts its command in the first poll therefore starts it
//! before the client is ready: await `tokio::task::yield_now()` first.
//!
//! # Examples
//!
//! A kubelet or the streaming server of a container runtime, for clients of both transports:
//!
//! ```
//! use tower::ServiceBuilder;
//! use tower_wsstream::{
//!     BoxError, StreamingLayer,
//!     remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
//! };
//!
//! async fn run(command: RemoteCommand) -> Result<ExitStatus, BoxError> {
//!     Ok(ExitStatus::success())
//! }
//!
//! let exec = ServiceBuilder::new()
//!     .layer(StreamingLayer::new(Protocols::default()))
//!     .layer(RemoteCommandLayer::new())
//!     .service_fn(run);
//! # let _ = exec;
//! ```

mod future;
mod layer;
mod service;

pub use self::{future::StreamingFuture, layer::StreamingLayer, service::Streaming};
pub use crate::handshake::is_spdy_request;
