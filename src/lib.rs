//! Tower middleware that turns a WebSocket upgrade into typed byte channels, and
//! hands them to an inner `tower::Service<`[`ChannelSet`]`>`.
//!
//! It speaks Kubernetes' `channel.k8s.io` family, from v1 to v5 with base64:
//! what `kubectl exec` and `attach`, kube-rs and the Python and JavaScript
//! clients speak, and what Go's package `httpstream/wsstream` serves. Kubelets,
//! CRI streaming servers, API servers and web terminals are built on it; auth,
//! tracing, limits and timeouts are ordinary tower layers around it.
//!
//! ```text
//! HTTP request
//!   -> outer layers: BearerSubprotocolLayer, trace, auth, UpgradeIntentLayer, PolicyLayer
//!        see the request's head; done at the 101 (over HTTP/2: the 200)
//!   -> WsStreamLayer: detect -> negotiate -> inner ready? -> first poll, or its accept -> 101 -> session
//!        not an upgrade -> fallback service (default: 426)
//!   -> inner layers over ChannelSet: limits, TapLayer, ...   live as long as the session
//!   -> your service
//! ```
//!
//! # Examples
//!
//! A service over the channels of the subprotocol; for commands, see
//! [`remotecommand`].
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
//! # What there is
//!
//! | for | take |
//! |---|---|
//! | exec and attach | [`remotecommand`] |
//! | port-forward | [`portforward`] |
//! | logs, and whatever else only the server writes | [`reader`] |
//! | channels of your own | [`WsStreamLayer`] over a `Service<ChannelSet>` |
//! | an axum handler that accepts the upgrade itself | `axum08`, with the feature of that name |
//! | a browser's token, authorisation by intent, origins | [`BearerSubprotocolLayer`](access::BearerSubprotocolLayer), [`UpgradeIntentLayer`](access::UpgradeIntentLayer), [`OriginPolicy`](policy::OriginPolicy) |
//! | limits on how many sessions begin, or are open for each user | [`SessionRateLimitLayer`](access::SessionRateLimitLayer), [`SessionLimitLayer`](access::SessionLimitLayer); [`SessionPermits`](access::SessionPermits) over sessions of different kinds |
//! | what a session carries, for audits and recordings | [`tap`] |
//! | counting, listing and draining sessions | [`Sessions`] |
//! | what became of each | [`SessionConfig::on_end`] |
//! | every setting of a layer's sessions, and its default | [`SessionConfig`] |
//! | tests | `testing` |
//!
//! # Which side of the layer
//!
//! | a layer ... | outside of [`WsStreamLayer`] | inside |
//! |---|---|---|
//! | `concurrency_limit` | counts handshakes: its permit is back at the 101 | counts sessions, until their service is done; one that waits is answered 504 after the accept timeout. Inside of `PortForwardLayer` it counts ports |
//! | `load_shed` | never sheds: readiness is the fallback's alone | 503 before the upgrade, for what the layers inside of it have no permit for |
//! | [`SessionRateLimitLayer`](access::SessionRateLimitLayer) | its refusal is an error there and not a response, so `route_service` does not accept the stack | 429 with `Retry-After` before the upgrade |
//! | [`SessionLimitLayer`](access::SessionLimitLayer) | does not fit: it counts sessions | 429 before the upgrade for one session more than its key may have; the permit is released when the service is done. Its readiness is that of the inner service, because the key is not known before the call |
//! | tower's `rate_limit` | counts requests | does not implement `Clone`: put a `buffer` in front of it |
//! | `buffer` | queues requests | accepts, and makes the session wait in its queue; a full one is 504, or 503 behind `load_shed`. What sits behind it cannot refuse, except with [`AcceptMode::Explicit`] |
//! | [`BearerSubprotocolLayer`](access::BearerSubprotocolLayer) | outermost, before trace and auth: what is further out sees the token | there is no HTTP any more |
//! | [`UpgradeIntentLayer`](access::UpgradeIntentLayer) | before authorisation | there is no HTTP any more |
//! | [`PolicyLayer`](policy::PolicyLayer), [`IdleTimeoutLayer`](policy::IdleTimeoutLayer) | override the layer's [`SessionConfig`]; the innermost counts | there is no HTTP any more |
//! | [`TapLayer`](tap::TapLayer) | there are no channels yet | records the session; outside of `RemoteCommandLayer` |
//! | `timeout` | bounds the handshake; tower-http's `TimeoutLayer` answers, while tower's own fails, which `route_service` does not take | ends the session: with a Status under `RemoteCommandLayer`, else with close code 1011 |
//! | trace, auth, headers, compression, body limits | where they belong: done at the 101, which passes them unchanged | there is no HTTP any more |
//! | body wrappers: `ResponseBodyTimeoutLayer`, middleware of your own | outside of a compression layer, unless they pass the size hint on; otherwise the empty body of the 101 looks like a stream, and compression adds `content-encoding` to the 101 | there is no HTTP any more |
//!
//! [`WsStream`]'s `poll_ready` shows the readiness of the fallback and of nothing
//! else, so that a request that is no upgrade never holds a session's permit.
//!
//! The order inside: `load_shed` first, then [`SessionLimitLayer`](access::SessionLimitLayer), so that what either
//! refuses counts for no rate, then rates, then `concurrency_limit`. A stack of both sides on axum, whose
//! `route_service` wants `Sync`: where the stack or the inner service is boxed, the
//! box has to be tower's `BoxCloneSyncService`.
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//!
//! use axum::{Router, body::Body, extract::Request, http::StatusCode, response::Response};
//! use tower::{ServiceBuilder, util::BoxCloneSyncService};
//! use tower_http::timeout::TimeoutLayer;
//! use tower_wsstream::{
//!     BoxError, WsStreamLayer,
//!     access::SessionRateLimitLayer,
//!     remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
//! };
//!
//! async fn run(command: RemoteCommand) -> Result<ExitStatus, BoxError> {
//!     Ok(ExitStatus::success())
//! }
//!
//! let exec: BoxCloneSyncService<Request, Response, Infallible> = ServiceBuilder::new()
//!     .boxed_clone_sync()
//!     .map_response(|answer: Response<_>| answer.map(Body::new))
//!     // Requests: until the 101.
//!     .layer(TimeoutLayer::with_status_code(
//!         StatusCode::REQUEST_TIMEOUT,
//!         Duration::from_secs(30),
//!     ))
//!     .layer(WsStreamLayer::new(Protocols::default()))
//!     // Sessions: until their service is done.
//!     .load_shed()
//!     .layer(SessionRateLimitLayer::new(20, Duration::from_secs(1)))
//!     .concurrency_limit(64)
//!     .timeout(Duration::from_secs(4 * 60 * 60))
//!     .layer(RemoteCommandLayer::new())
//!     .service_fn(run);
//! let app: Router = Router::new().route_service("/exec", exec);
//! # let _ = app;
//! ```
//!
//! With tower's own `rate_limit` sessions are accepted at once and begin at its
//! pace, up to 16 of them in the queue; `buffer` spawns a task, and so wants a runtime:
//!
//! ```
//! # use std::time::Duration;
//! # use tower::ServiceBuilder;
//! # use tower_wsstream::{BoxError, ChannelProtocols, ChannelSet, ChannelType, WsStreamLayer};
//! # async fn greet(channels: ChannelSet) -> Result<(), BoxError> { Ok(()) }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower_wsstream::ConfigError> {
//! # let protocols = ChannelProtocols::standard([ChannelType::Read, ChannelType::Write])?;
//! let service = ServiceBuilder::new()
//!     .layer(WsStreamLayer::new(protocols))
//!     .load_shed()
//!     .buffer(16)
//!     .rate_limit(20, Duration::from_secs(1))
//!     .service_fn(greet);
//! # let _ = service;
//! # Ok(())
//! # }
//! ```
//!
//! # Errors of the service
//!
//! | when | a plain `Service<ChannelSet>` | under `RemoteCommandLayer` |
//! |---|---|---|
//! | before the upgrade is accepted, nothing written and no [close](Session::close) asked for | the answer, as [`SessionConfig::map_rejection`] says; by default a [`Rejection`] or [`Status`] in the error with its own code, tower's `Overloaded` 503 and `Elapsed` 504, anything else 500 with a fixed text | a [`Rejection`] is the answer; anything else is a 101 and a Status, because kubectl prints only that |
//! | later | close code 1011, or what [`Session::say_last`] says | a Status, and 1000 |
//!
//! Under `PortForwardLayer` a [`Rejection`] or `Overloaded` of *every* port before the
//! acceptance is the answer; anything else, at any time, is a text on that port's error
//! channel, and 1000.
//!
//! The upgrade is accepted after the first poll of the service's future; with
//! [`AcceptMode::Explicit`] when the service calls [`Session::accept`], so that an
//! asynchronous look-up can still be a 404.
//!
//! **kubectl shows no refused upgrade**: it tries SPDY next, and prints what the
//! fallback answers to that. What its user has to read must be a [`Status`]. So for
//! kubectl limits belong inside of `RemoteCommandLayer`, and what they refuse is
//! told as a Status:
//!
//! ```
//! # use std::time::Duration;
//! # use tower::ServiceBuilder;
//! use tower_wsstream::{
//!     BoxError, Rejection, RejectionKind, WsStreamLayer,
//!     access::SessionRateLimitLayer,
//!     remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
//! };
//! # async fn run(command: RemoteCommand) -> Result<ExitStatus, BoxError> {
//! #     Ok(ExitStatus::success())
//! # }
//!
//! fn told(error: BoxError) -> BoxError {
//!     let rejection = Rejection::from_error(&*error);
//!     match rejection.kind() {
//!         RejectionKind::Internal => error,
//!         _ => rejection.to_status().into(),
//!     }
//! }
//!
//! let service = ServiceBuilder::new()
//!     .layer(WsStreamLayer::new(Protocols::default()))
//!     .layer(RemoteCommandLayer::new())
//!     .map_err(told)
//!     .load_shed()
//!     .layer(SessionRateLimitLayer::new(20, Duration::from_secs(1)))
//!     .concurrency_limit(64)
//!     .service_fn(run);
//! # let _ = service;
//! ```
//!
//! A browser shows its page no refusal either, only close code 1006: what a page
//! has to know, tell after the upgrade, with [`Session::close`] and a code of your
//! own. It sends cookies but no headers of its own:
//! its token comes as a subprotocol, see [`BearerSubprotocolLayer`](access::BearerSubprotocolLayer).
//!
//! # Time
//!
//! | what | default | when it is over |
//! |---|---|---|
//! | [a look-up of the table](WsStreamLayer::from_async_fn), readiness and an explicit accept [together](SessionConfig::accept_timeout) | 10 s | 504 |
//! | [the connection is handed over](SessionConfig::upgrade_timeout) | 10 s | the session is lost |
//! | [no data either way](SessionConfig::idle_timeout), for a route: [`IdleTimeoutLayer`](policy::IdleTimeoutLayer) | none | [`EndCause::IdleTimeout`] |
//! | [the session as a whole](SessionConfig::time_limit), or [what let it in](policy::ValidUntil) | none | [`EndCause::TimeLimit`] |
//! | [a drain](Sessions::drain) | | [`EndCause::Drained`]; what is not gone at its deadline is aborted |
//! | [a Ping](SessionConfig::keep_alive) | every 30 s | with a [timeout](policy::KeepAlive::timeout), longer by what lies in front of the Ping: [`EndCause::PeerUnresponsive`] |
//! | [the service after the end](SessionConfig::grace) | 1 s; [30 s](SessionConfig::closed_grace) where a Close means the end of input | its future is dropped |
//! | nothing leaves while closing | 90 s | [`EndCause::Stalled`] |
//! | [closing as a whole](SessionConfig::close_limit) | 5 min, plus the time that the queue takes at [2 KiB/s](policy::Limits::min_read_rate) | [`EndCause::Stalled`] |
//! | [the peer is silent after our Close](SessionConfig::close_timeout) | 30 s | our side is shut down |
//! | [it is silent after that too](SessionConfig::close_timeout) | 30 s; from our Close on [5 min in all](SessionConfig::close_limit) | the socket is let go |
//!
//! # Policies for a route, and for a request
//!
//! | policy | of the layer's [`SessionConfig`] | of a request, as an extension |
//! |---|---|---|
//! | idle timeout | [`SessionConfig::idle_timeout`] | [`IdleTimeout`](policy::IdleTimeout) |
//! | Pings | [`SessionConfig::keep_alive`] | [`KeepAlive`](policy::KeepAlive) |
//! | windows, budgets, sizes | [`SessionConfig::limits`] | [`Limits`](policy::Limits) |
//! | how long a session lasts | [`SessionConfig::time_limit`] | [`TimeLimit`](policy::TimeLimit), and beside it [`ValidUntil`](policy::ValidUntil) |
//! | bytes a second | [`SessionConfig::byte_rate`] | [`ByteRate`](policy::ByteRate) |
//! | pages that may connect | [`SessionConfig::origin`] | [`OriginPolicy`](policy::OriginPolicy) |
//! | who is there, for lists and logs | | [`Peer`](session::Peer) |
//!
//! Any layer, handler or auth outside of `WsStreamLayer` may insert an extension;
//! [`PolicyLayer`](policy::PolicyLayer) does only that. The innermost one counts. A
//! [`reader`] takes the same `SessionConfig` and the same extensions.
//!
//! # The parameters of a path
//!
//! A service is not an axum handler and takes no extractors, but it has the head of its
//! request. An axum router puts the parameters of the path into the head's extensions, so
//! `Path`, `RawPathParams` or an extractor of your own can read them from
//! [`ChannelSet::take_request`], or from the field `request` of a command:
//!
//! ```
//! use axum::{Router, extract::{FromRequestParts, Path}};
//! use tokio::io::AsyncWriteExt;
//! # use tower::ServiceBuilder;
//! use tower_wsstream::{
//!     BoxError, WsStreamLayer,
//!     remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
//! };
//!
//! async fn run(mut command: RemoteCommand) -> Result<ExitStatus, BoxError> {
//!     let mut head = command.request.take().ok_or("the head was taken")?;
//!     let Path((namespace, pod)) =
//!         Path::<(String, String)>::from_request_parts(&mut head, &()).await?;
//!     // It keeps a read buffer of the server alive.
//!     drop(head);
//!     let mut stdout = command.stdout.take().ok_or("no stdout")?;
//!     stdout.write_all(format!("{pod} of {namespace}\n").as_bytes()).await?;
//!     Ok(ExitStatus::success())
//! }
//!
//! let exec = ServiceBuilder::new()
//!     .layer(WsStreamLayer::new(Protocols::default()))
//!     .layer(RemoteCommandLayer::new())
//!     .service_fn(run);
//! let app: Router = Router::new()
//!     .route_service("/api/v1/namespaces/{namespace}/pods/{pod}/exec", exec);
//! # #[cfg(feature = "testing")]
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn play(app: Router) {
//! #     let path = "/api/v1/namespaces/default/pods/my%20pod/exec?command=x&stdout=1";
//! #     let connect = tower_wsstream::testing::Connect::to(path);
//! #     let client = connect.offer("v5.channel.k8s.io").connect(app).await.unwrap();
//! #     let told = client.read_to_end().await;
//! #     assert_eq!(told.channel(1), b"my pod of default\n");
//! # }
//! # #[cfg(feature = "testing")]
//! # play(app);
//! # #[cfg(not(feature = "testing"))]
//! # let _ = app;
//! ```
//!
//! An error of the extractor is an error of the service. Return a [`Rejection`] to choose what
//! the client is told.
//!
//! # What it promises
//!
//! * **The end never lies.** What a writer accepted goes out in order, before
//!   the last words and the Close frame. Close code 1000 means that the outcome
//!   was told in full. The connection's own end waits for the peer's Close, so that no
//!   proxy in between cuts off what the peer has not read yet.
//! * **EOF is never a guess.** A read is at its end only when the peer ended the
//!   channel; a connection that was lost is an error.
//! * **Memory is bounded by configuration**, never by the peer, for any size of
//!   message, any number of fragments, any reader that stalls.
//! * **A stalled channel stalls only itself**: behind a full window other channels
//!   go on, Pongs go out, and 32 KiB a second are taken into a bounded
//!   [reserve](policy::Limits::stall_reserve), which keeps a kubectl alive for eight minutes.
//! * **One task a session** drives it and its service. Nothing is spawned before
//!   the answer is decided, and a service that ignores the end of its session is
//!   dropped after a grace.
//! * **A refusal is an HTTP answer**, with a [`Status`] that says what to do.
//! * **A panic in your code ends its own session alone**, and its client is told: a panic in a
//!   service or its future, in a closure given to the layer, in the `Display` of an error, or in
//!   the drop of any of them. This needs `panic = "unwind"`, which is the default.
//!
//! # How a byte travels
//!
//! | stage | module | rule |
//! |---|---|---|
//! | is it an upgrade? a valid one? which subprotocol? | `handshake`, `opening` | RFC 6455, 4.2; RFC 8441 |
//! | inner service ready, polled until it is decided, answer | `ws_stream`, `opening` | |
//! | the connection is handed over and taken apart | `connection::upgrade` | |
//! | frames: bytes in, pieces of messages out | `frame` | RFC 6455, 5 and 8.1 |
//! | pieces to channels; which byte has room | `mux`, `protocol` | `channel.k8s.io` |
//! | a window of chunks for each channel, and what a stalled one may take beyond | `wire::inbound` | |
//! | [`ChannelReader`], [`ChannelWriter`] | `channel` | |
//! | encoded into one buffer; the task that fills it writes it | `wire::outbound` | RFC 6455, 5.2 |
//! | what the service had and said, for a tap | [`tap`] | |
//! | timeouts, Pings, rates, the clock of a pause | `policy` | |
//! | the sessions that live, and what became of them | `session::{registry, summary}` | |
//! | causes, grace, last words, Close, lingering | `connection::{consequences, closing, driver}` | RFC 6455, 7 |
//!
//! # What a message costs
//!
//! | | copies, inbound | copies, outbound | allocations | system calls, wake-ups |
//! |---|---|---|---|---|
//! | 64 B, a stream of them | 1, unmasked on the way | 1, into the out buffer | 0 | 0.0014 to write, 0.0012 to read |
//! | 1 KiB, likewise | 1 | 1 | 0 | 0.021 to write, 0.017 to read |
//! | 32 KiB, likewise | 1 | 0 where the socket takes it, else 1 | 0 | 0.99 to write, 0.6 to read |
//! | 64 B, one at a time | 1 | 1 | 0 | 2 and one wake-up |
//! | base64 | 3: text is unmasked, checked, and decoded from the stack | 1, encoded on the way | 0 | the same |
//!
//! On TCP. Allocations: `tests/allocations.rs`; system calls: `benches/side_by_side/counts`;
//! instructions: `benches/instructions/run`. Readers that use `fill_buf` or
//! [`into_stream`](ChannelReader::into_stream) copy nothing more.
//!
//! Beside what else one could take, in one run of `benches/side_by_side/run`; medians:
//!
#![doc = include_str!("../benches/plot.svg")]
//!
//! # Serving
//!
//! The server must allow upgrades (hyper: `with_upgrades`; axum's `serve` does). It should
//! set a header read timeout (hyper's `header_read_timeout`; under hyper-util's auto server it
//! starts with the first bytes, so a client that sends none needs a timeout of its own), keep
//! accepting after an accept fails for lack of descriptors, and set `TCP_NODELAY`, without
//! which everything above 64 bytes is slow.
//! This crate sets `TCP_NODELAY` itself only where it finds the TCP stream in what the
//! server hands over: under hyper's own HTTP/1 server over `TokioIo<TcpStream>`, and with
//! the feature `auto-server` under hyper-util's auto server and axum's `serve`. Elsewhere,
//! under axum: `axum::serve(listener.tap_io(|tcp| { let _ = tcp.set_nodelay(true); }), app)`.
//!
//! axum's `serve` has no knobs for timeouts and for HTTP/2: use it on a laptop, or behind a
//! proxy that has them. A server for the open internet that does everything above is
//! `examples/support/serve.rs`, shown here: copy and change it. TLS goes between `accept` and
//! `serve_connection_with_upgrades`, as in `examples/pod-server`. The feature `auto-server`
//! gives it the fast path. `sessions` is the [`Sessions`] that every layer of the service was
//! given ([`SessionConfig::sessions`], and that of `WsReaderLayer`): the sessions of a layer
//! without it are cut off without a word when the server stops. Beside tokio and tower, it
//! needs:
//!
//! ```toml
//! http = "1"
//! http-body = "1"
//! hyper = "1"
//! hyper-util = { version = "0.1", features = ["server-auto", "service", "tokio"] }
//! ```
//!
//! ```
#![doc = include_str!("../examples/support/serve.rs")]
//! # use tower::ServiceBuilder;
//! # use tower_wsstream::{ChannelProtocols, ChannelSet, ChannelType, WsStreamLayer};
//! # async fn greet(channels: ChannelSet) -> Result<(), BoxError> { Ok(()) }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), BoxError> {
//!     let sessions = Sessions::default();
//!     let protocols = ChannelProtocols::standard([ChannelType::Read, ChannelType::Write])?;
//!     let app = ServiceBuilder::new()
//!         .layer(WsStreamLayer::new(protocols).sessions(sessions.clone()))
//!         .service_fn(greet);
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     // A server of yours: tokio::signal::ctrl_c().
//!     let stop = sleep(Duration::from_millis(1));
//!     serve(listener, app, sessions, stop).await;
//!     Ok(())
//! }
//! ```
//!
//! A session is a task of tokio's, which no server's graceful shutdown waits for;
//! when the runtime goes, it is aborted. To end sessions with words, [drain](Sessions)
//! them: beside the server's shutdown, and not behind it.
//!
//! Over HTTP/1.1 hyper adds `close` to the `Connection` header of each answer on a connection
//! that it is going to close, the 101 included. Clients that compare the whole value, kube-rs
//! and tungstenite among them, refuse such a 101, when the session has already begun. So leave
//! hyper's `keep_alive` on for routes with sessions, and [close](Sessions::close) or
//! [drain](Sessions::drain) the sessions *before* a graceful shutdown: what still waits for
//! an [explicit acceptance](AcceptMode::Explicit) is then answered with 503. A handshake that asks
//! for `close` itself is refused with 400.
//!
//! Over HTTP/2 the server must allow extended CONNECT (hyper:
//! `http2().enable_connect_protocol()`; axum's `serve` has no knob for it), and routes must
//! accept the method: axum's `any`, not `get`. tonic's own server serves no upgrades: serve
//! its routes as an axum router by hyper-util's auto server, as `examples/tonic` does. One
//! session that nobody reads leaves those beside it alone only where the connection's window
//! holds what all its streams may send: set hyper's `initial_connection_window_size` to at
//! least the stream window times the streams allowed. hyper shows a stream that was cancelled
//! as one that ended; here both are a lost connection.
//!
//! A session's events are in the span `session`, inside the request's span. The
//! default span of tower-http's `TraceLayer` shows the query, and so the command
//! of an exec: give it a `make_span_with` that shows the path alone.
//!
//! # Features
//!
//! | feature | what | pulls in |
//! |---|---|---|
//! | `remotecommand` (default) | exec and attach | nothing |
//! | `portforward` (default) | port-forward over channels | nothing |
//! | `http2` | sessions over HTTP/2 | h2 |
//! | `axum08` | an extractor for axum's handlers | axum-core, and `auto-server` |
//! | `simd` | base64 three to four times as fast | base64-simd |
//! | `testing` | a client end in memory, for tests of a service; over HTTP/2 with `http2` | hyper's server, and the common part of its client |
//! | `auto-server` | the fast path under hyper-util's auto server and axum's `serve`; implies `http2` | h2 |
//!
// Links to modules that are not built lead to the table above.
#![cfg_attr(not(feature = "portforward"), doc = "[`portforward`]: #features")]
#![cfg_attr(not(feature = "remotecommand"), doc = "[`remotecommand`]: #features")]
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
mod unwind;
mod wire;
pub mod ws_stream;

#[cfg(feature = "axum08")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum08")))]
pub mod axum08;
#[cfg(feature = "__bench")]
#[doc(hidden)]
pub mod bench;
#[cfg(feature = "portforward")]
#[cfg_attr(docsrs, doc(cfg(feature = "portforward")))]
pub mod portforward;
#[cfg(feature = "remotecommand")]
#[cfg_attr(docsrs, doc(cfg(feature = "remotecommand")))]
pub mod remotecommand;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;

#[doc(inline)]
pub use self::{
    channel::{Channel, ChannelReader, ChannelSet, ChannelWriter, tap},
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
