//! The server's end of a session. Its services hand their channels out to an observer, and end as
//! that tells them to.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::{
    io::AsyncWrite,
    runtime::Handle,
    sync::{mpsc, oneshot},
};
use tower::{Layer, Service, ServiceBuilder, service_fn};
use tower_wsstream::{
    BoxError, ChannelReader, ChannelSet, Session, SessionConfig, Status, StreamingLayer,
    portforward::{self, ForwardError, ForwardedPort, PortForwardLayer},
    reader::WsReaderLayer,
    remotecommand::{self, ExitStatus, RemoteCommand, RemoteCommandLayer},
};

use super::{
    carrier::{Carrier, Kind, Transport},
    end::{End, Own},
};
use crate::support::{http2, serve};

/// The end that an observer decides on.
#[derive(Debug)]
pub(super) enum Verdict {
    Own(Own),
    /// The service passes an error on that a read has returned.
    PassOn(io::Error),
}

/// The channels of a session, and the way to end its service. If that way is dropped, the service
/// never ends.
pub(super) struct Handles {
    pub(super) reader: ChannelReader,
    pub(super) writer: Box<dyn AsyncWrite + Send + Unpin>,
    pub(super) session: Session,
    pub(super) verdict: oneshot::Sender<Verdict>,
}

/// A piece of the body of a reader.
pub(super) enum Piece {
    Data(Bytes),
    Fails(BoxError),
    Panics,
}

/// A report of a service to its observer.
pub(super) enum Given {
    Channels(Handles),
    /// The body ends when this is dropped.
    Body(mpsc::UnboundedSender<Piece>),
}

pub(super) type Give = mpsc::UnboundedSender<Given>;

async fn end(verdict: oneshot::Receiver<Verdict>) -> Result<ExitStatus, BoxError> {
    let Ok(verdict) = verdict.await else {
        return std::future::pending().await;
    };
    match verdict {
        Verdict::PassOn(error) => Err(error.into()),
        Verdict::Own(Own::Ok | Own::Closes) => Ok(ExitStatus::success()),
        Verdict::Own(Own::Exit) => Ok(ExitStatus::from_code(3)),
        Verdict::Own(Own::Status) => Err(Status::failure("Forbidden", "not for you", 403).into()),
        Verdict::Own(Own::Target) => Err(ForwardError::target("the pod is gone").into()),
        Verdict::Own(Own::Error) => Err("failed on purpose".into()),
        Verdict::Own(Own::Panic) => panic!("panicked on purpose"),
    }
}

/// Serves a connection of a cell on a runtime.
pub(super) fn serve_on<T>(
    server: &Handle,
    io: T,
    carrier: Carrier,
    on: End,
    config: SessionConfig,
    give: Give,
) where
    T: tokio::io::AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let _inside = server.enter();
    match carrier.kind {
        Kind::Command => {
            let run = move |mut command: RemoteCommand| {
                let (verdict, told) = oneshot::channel();
                let _ = give.send(Given::Channels(Handles {
                    reader: command.stdin.take().expect("it was asked for"),
                    writer: Box::new(command.stdout.take().expect("it was asked for")),
                    session: command.session,
                    verdict,
                }));
                end(told)
            };
            let service = ServiceBuilder::new()
                .layer(StreamingLayer::new(remotecommand::Protocols::default()).config(config))
                .layer(RemoteCommandLayer::new())
                .service_fn(run);
            answer(io, carrier.transport, on, service);
        }
        Kind::Plain => {
            let run = move |mut set: ChannelSet| {
                let (verdict, told) = oneshot::channel();
                let _ = give.send(Given::Channels(Handles {
                    reader: set.take_reader(0).expect("it was asked for"),
                    writer: Box::new(set.take_writer(1).expect("it was asked for")),
                    session: set.session().clone(),
                    verdict,
                }));
                async move { end(told).await.map(drop) }
            };
            let layer = StreamingLayer::new(remotecommand::Protocols::default());
            let service = layer.config(config).layer(service_fn(run));
            answer(io, carrier.transport, on, service);
        }
        Kind::Port => {
            let run = move |port: ForwardedPort| {
                let (verdict, told) = oneshot::channel();
                let (reader, writer) = port.stream.into_split();
                let _ = give.send(Given::Channels(Handles {
                    reader,
                    writer: Box::new(writer),
                    session: port.session,
                    verdict,
                }));
                async move { end(told).await.map(drop) }
            };
            let service = ServiceBuilder::new()
                .layer(StreamingLayer::new(portforward::Protocols::default()).config(config))
                .layer(PortForwardLayer::new())
                .service_fn(run);
            answer(io, carrier.transport, on, service);
        }
        Kind::Reader => {
            let run = move |request: Request<Incoming>| {
                let (send, pieces) = mpsc::unbounded_channel();
                let mut response = Response::new(Pieces(pieces));
                match request.uri().path() {
                    // A client of HTTP/2 asks whether the server has begun.
                    "/" => *response.status_mut() = http::StatusCode::NOT_FOUND,
                    _ => _ = give.send(Given::Body(send)),
                }
                async { Ok::<_, Infallible>(response) }
            };
            let service = WsReaderLayer::new().config(config).layer(service_fn(run));
            answer(io, carrier.transport, on, service);
        }
    }
}

/// Serves a connection. Its answer is withheld if that is the end.
fn answer<T, S, B>(io: T, transport: Transport, on: End, service: S)
where
    T: tokio::io::AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let service = Arc::new(Mutex::new(service));
    let service = service_fn(move |request: Request<Incoming>| {
        let first = request.uri().path() == "/";
        let answer = service.lock().unwrap().call(request);
        async move {
            let answer = answer.await.expect("it cannot fail");
            match on {
                End::UpgradeFailed if !first => Err(BoxError::from("withheld")),
                _ => Ok(answer),
            }
        }
    });
    match transport {
        Transport::Http1 | Transport::Post => serve(io, service),
        Transport::Http2 => http2::serve(io, service),
    }
}

/// A body whose pieces the observer sends.
struct Pieces(mpsc::UnboundedReceiver<Piece>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx).map(|piece| match piece? {
            Piece::Data(bytes) => Some(Ok(Frame::data(bytes))),
            Piece::Fails(error) => Some(Err(error)),
            Piece::Panics => panic!("panicked on purpose"),
        })
    }
}
