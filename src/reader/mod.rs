//! An HTTP response body as WebSocket messages: what Go's `wsstream.Reader` does.
//!
//! Logs and other streams that only the server writes need no channels: on an upgrade
//! [`WsReaderLayer`] calls the HTTP service that it is around, and sends the body of its
//! answer, message by message. The same service serves plain requests as it did before.
//!
//! | subprotocol | a message is |
//! |---|---|
//! | none offered, `binary.k8s.io` | binary: a piece of the body |
//! | `base64.binary.k8s.io` | text: the same in base64 |
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
//!     Ok(Response::new(Full::from("what the pod has said")))
//! }
//!
//! let service = ServiceBuilder::new()
//!     .layer(WsReaderLayer::new())
//!     .service_fn(log::<http_body_util::Empty<Bytes>>);
//! # let _ = service;
//! ```
//!
//! A file, or anything else that is an `AsyncRead`, becomes a body by [`WsReader`]. Around
//! a handler of axum, for one route; `any`, not `get`, because over HTTP/2 the handshake is a
//! CONNECT, which the handler gets as a GET:
//!
//! ```
//! use std::io::Cursor;
//!
//! use axum::{Router, body::Body, extract::Path, response::Response, routing::any};
//! use tower_wsstream::reader::{WsReader, WsReaderLayer};
//!
//! async fn log(Path(pod): Path<String>) -> Response {
//!     let log = Cursor::new(format!("what {pod} has said\n"));
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
