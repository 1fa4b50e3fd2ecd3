//! Kubernetes `portforward`: TCP connections over the channels of a session, or through a tunnel.
//!
//! ```text
//!  WsStreamLayer::new(Protocols::default())   two channels for each port of the query, or a tunnel
//!    PortForwardLayer::new()                  first messages, errors, the end of the session
//!      your Service<ForwardedPort>            called once per port, or once per connection of a
//!                                             tunnel; all run concurrently
//! ```
//!
//! The channels are served by the public interface of the crate, except for helpers that parse a
//! query, find the cause of an error and word a refusal. A layer of your own can do the same.
//!
//! Port `i` of the query has channel `2i` for its data, and channel `2i + 1` for its errors. The
//! first message on each is the number of the port, as two bytes in little-endian order. kube-rs
//! and the clients for Python and JavaScript speak this protocol.
//!
//! `kubectl port-forward` speaks SPDY, from 1.31 on inside of a WebSocket. With the feature `spdy`, its
//! session is a [tunnel](#tunnels), in which it opens a pair of streams for each connection. Without
//! the feature, it is refused. For clients that speak SPDY without a WebSocket, write
//! `StreamingLayer` in place of `WsStreamLayer`: the rest is the same.
//!
//! | item | role |
//! |---|---|
//! | [`Protocols`] | the subprotocols, and the channels that a query asks for |
//! | [`PortForwardLayer`] | calls the service for each port, and reports its errors to the client |
//! | [`ForwardedPort`] | one port: its number, its stream, and the session it shares |
//! | [`ForwardedStream`], [`ForwardedWriter`] | the data of a port, like a socket |
//! | [`ForwardError`] | the error of one connection, or of the target of all |
//!
//! # The end of a port
//!
//! On channels:
//!
//! | the service of a port | channel `2i + 1` |
//! |---|---|
//! | returns `Ok` | nothing |
//! | fails | `error forwarding port 8080: {error}` |
//! | panics | `error forwarding port 8080: ` and a fixed text |
//! | fails because the client has closed the session | nothing |
//! | fails with a [`Rejection`](crate::Rejection) or tower's `Overloaded` before the upgrade is answered, as all others do | no upgrade: the answer is the refusal of the first port |
//!
//! The client is shown the `Display` of an error, in one message after the data of its port. That
//! port has then ended, and the others continue. When the last one has ended, the session ends with
//! close code 1000, because the end of each port was reported. No subprotocol of port-forward can
//! signal that one channel has ended. A client therefore learns of the end of a port without an
//! error only when all ports have ended.
//!
//! The client cannot end one port either: it closes the WebSocket when it is done with all of them.
//! Reads then return EOF, and output of the services is still sent for the
//! [longer grace](crate::SessionConfig::closed_grace).
//!
//! # Tunnels
//!
//! A *tunnel* is a session in which the client opens connections by SPDY: in the messages of a
//! WebSocket, or on a connection that a POST was upgraded to, as `crictl`, API servers and kubectl
//! before 1.31 do. The service is called for each connection, up to 127 at once.
//! All of them share the head of the one request, which names no ports. A tunnel without
//! connections holds no permit of a limit inside of [`PortForwardLayer`]. The layer itself accepts
//! the upgrade, also with [`AcceptMode::Explicit`](crate::AcceptMode): look the pod up in a layer
//! around it.
//!
//! Each direction of a connection has an end of its own
//! ([`ForwardedPort::has_half_close`]). The client is told that its connection is accepted once the
//! service first reads or writes it, or has dropped it; and after 19 seconds in any case, even if it
//! still waits for a permit. A service that fails before that, in a dial for example, refuses the
//! connection. If the layer itself was not polled by then, the connection is reset after 25 seconds.
//!
//! | the service of a connection | its two streams |
//! |---|---|
//! | returns `Ok` | both end |
//! | fails or panics before the connection is accepted | it is refused |
//! | fails or panics later | it is reset |
//! | fails with [`ForwardError::target`] | `error forwarding port 8080: {error}`, and it is reset |
//!
//! kubectl closes the local connection that was refused or reset, and serves the others. Once it is
//! shown a text, it ends all of them and exits. `PortForwardLayer::go_errors` sends a text for
//! every error.
//!
//! SPDY has no flow control. What a connection does not read is kept beyond its window, in the
//! [reserve](crate::policy::Limits::stall_reserve) of the session, while the other connections continue.
//! Once that is full, all of them stand still: [`Protocols::on_stall`](Protocols) can have the one
//! reset before.
//!
//! kubectl takes the end of a connection's output for that of the connection, and drops the rest of
//! its input. For this reason, that end is not sent before the input has been quiet for 50
//! milliseconds. A local client that aborts looks to this end like one that has ended its input in
//! order, because kubectl reports both in the same way.
//!
//! # Examples
//!
//! ```
//! use tokio::{io::copy_bidirectional, net::TcpStream};
//! use tower::ServiceBuilder;
//! use tower_wsstream::{
//!     BoxError, WsStreamLayer,
//!     portforward::{ForwardedPort, PortForwardLayer, Protocols},
//! };
//!
//! async fn forward(mut port: ForwardedPort) -> Result<(), BoxError> {
//!     let mut target = TcpStream::connect(("127.0.0.1", port.port)).await?;
//!     copy_bidirectional(&mut port.stream, &mut target).await?;
//!     Ok(())
//! }
//!
//! let service = ServiceBuilder::new()
//!     .layer(WsStreamLayer::new(Protocols::default()))
//!     .layer(PortForwardLayer::new())
//!     .load_shed() // a port beyond the limit ends with an error, and does not wait
//!     .concurrency_limit(512) // ports of all sessions together
//!     .service_fn(forward);
//! # let _ = service;
//! ```
//!
//! If `copy_bidirectional` fails, `target` is dropped, and a socket that is dropped sends a FIN. To the
//! pod, an upload that was cut off then looks complete. Where that matters, set `SO_LINGER` to 0 after
//! the connect, so that dropping the socket resets the connection, and clear it once the copy has
//! succeeded, as the repository's `examples/pod-server` does.
//!
//! [`Protocols::max_ports`] limits the ports of one session over channels. The guide has a
//! [stack](crate::guide::layers#port-forward) with limits on sessions as well.
//!
//! When the target ends its output, `copy_bidirectional` continues to wait for the client, which
//! does not learn of that end on channels. With [`ForwardedStream::into_split`] and a timeout of your own, a
//! port can end sooner.

mod call;
#[cfg(feature = "spdy")]
mod connection;
mod due;
mod error;
mod failure;
mod forwarding;
mod future;
#[cfg(feature = "spdy")]
mod head;
mod layer;
mod pair;
mod port;
mod ports;
mod protocols;
mod service;
#[cfg(feature = "spdy")]
mod stall;
mod stream;
#[cfg(feature = "spdy")]
mod tunnel;

#[cfg(feature = "__fuzz")]
pub(crate) use self::ports::ports;
#[cfg(feature = "spdy")]
pub use self::stall::Stall;
pub use self::{
    error::ForwardError,
    future::PortForwardFuture,
    layer::PortForwardLayer,
    port::ForwardedPort,
    protocols::Protocols,
    service::PortForward,
    stream::{ForwardedStream, ForwardedWriter},
};
