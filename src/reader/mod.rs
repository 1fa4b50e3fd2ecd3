//! HTTP response bodies as WebSocket messages, like Go's `wsstream.Reader`.
//!
//! Logs and other streams that only the server writes do not need channels. For an upgrade,
//! [`WsReaderLayer`] calls its inner HTTP service and sends the body of the response as messages.
//! The inner service still serves plain requests.
//!
//! | subprotocol | message |
//! |---|---|
//! | none offered, `binary.k8s.io` | binary: a piece of the body |
//! | `base64.binary.k8s.io` | text: a piece of the body in base64 |
//!
//! | type | role |
//! |---|---|
//! | [`WsReaderLayer`] | the layer, which takes a [`SessionConfig`](crate::SessionConfig) as for channels |
//! | [`ReaderProtocols`] | the subprotocols and their encodings |
//! | [`WsReader`] | an `AsyncRead` as a response body |
//!
//! # Examples
//!
//! ```
//! use std::convert::Infallible;
//!
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::ServiceBuilder;
//! use tower_wsstream::reader::WsReaderLayer;
//!
//! async fn log<B>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
//!     Ok(Response::new(Full::from("the log of the pod")))
//! }
//!
//! let service = ServiceBuilder::new()
//!     .layer(WsReaderLayer::new())
//!     .service_fn(log::<http_body_util::Empty<Bytes>>);
//! # let _ = service;
//! ```
//!
//! [`WsReader`] turns a file, or any other `AsyncRead`, into a body. With axum, the layer can wrap
//! the handler of one route. Use `any`, not `get`: over HTTP/2 the handshake is a CONNECT, which the
//! handler receives as a GET.
//!
//! ```
//! use std::io::Cursor;
//!
//! use axum::{Router, body::Body, extract::Path, response::Response, routing::any};
//! use tower_wsstream::reader::{WsReader, WsReaderLayer};
//!
//! async fn log(Path(pod): Path<String>) -> Response {
//!     let log = Cursor::new(format!("the log of {pod}\n"));
//!     Response::new(Body::new(WsReader::new(log)))
//! }
//!
//! let app: Router = Router::new().route("/logs/{pod}", any(log).layer(WsReaderLayer::new()));
//! # let _ = app;
//! ```

mod future;
mod layer;
mod messages;
mod protocols;
mod service;
mod source;

pub use self::{
    future::WsReaderFuture, layer::WsReaderLayer, protocols::ReaderProtocols,
    service::WsReaderService, source::WsReader,
};
