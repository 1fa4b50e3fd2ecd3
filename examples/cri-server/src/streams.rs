//! The streaming server: it exchanges a token for a command, a container or a sandbox, and
//! connects the client to it.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Request, State},
    http::{StatusCode, Uri, uri::PathAndQuery},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use bytes::Bytes;
use pod_server::{attach, exec, forward, permit};
use tokio::{io::AsyncBufReadExt, sync::mpsc};
use tower::ServiceBuilder;
use tower_wsstream::{
    BoxError, ChannelReader, ChannelSet, Rejection, SessionConfig, Sessions, StreamingLayer,
    access::SessionPermits,
    portforward::{ForwardedPort, PortForwardLayer},
    remotecommand::{self, ExitStatus, RemoteCommand, RemoteCommandLayer},
};

use crate::{container::Container, node::Sandbox, tokens::Tokens};

/// The largest number of sessions at once. Any further one is refused with 429, before the
/// upgrade. All clients share it: the server does not tell them apart.
const SESSIONS: usize = 256;

/// A stream that waits for a client with a token.
#[derive(Clone, Debug)]
pub(crate) enum Stream {
    Exec {
        container: Arc<Container>,
        /// The command and its streams, as the query that the layers read.
        query: PathAndQuery,
    },
    Attach {
        container: Arc<Container>,
        query: PathAndQuery,
    },
    PortForward {
        sandbox: Arc<Sandbox>,
        query: PathAndQuery,
    },
}

impl Stream {
    /// Returns the first segment of the path at which this is served.
    pub(crate) fn path(&self) -> &'static str {
        match self {
            Self::Exec { .. } => "exec",
            Self::Attach { .. } => "attach",
            Self::PortForward { .. } => "portforward",
        }
    }
}

/// Returns the routes of the URLs that the runtime issues, over WebSocket and over SPDY. They take
/// every method: SPDY begins with a POST, a WebSocket with a GET, or over HTTP/2 with a CONNECT.
pub(crate) fn routes(streams: Tokens<Stream>, live: &Sessions) -> Router {
    let config = SessionConfig::default().sessions(live.clone());
    let permits = SessionPermits::new(SESSIONS);
    let commands = ServiceBuilder::new()
        .layer(StreamingLayer::new(remotecommand::Protocols::default()).config(config.clone()))
        .layer(RemoteCommandLayer::new())
        .filter(permit::until_closed(&permits, |it: &RemoteCommand| {
            &it.session
        }));
    let ports = ServiceBuilder::new()
        .layer(StreamingLayer::new(forward::protocols()).config(config))
        .filter(permit::until_closed(&permits, ChannelSet::session))
        .layer(PortForwardLayer::new());
    Router::new()
        .route_service("/exec/{token}", commands.clone().service_fn(run))
        .route_service("/attach/{token}", commands.service_fn(join))
        .route_service("/portforward/{token}", ports.service_fn(forward_port))
        .route_layer(from_fn_with_state(streams, redeem))
}

/// Replaces the query with that of the call for which the token was issued, and adds what the
/// call was for. The client therefore cannot change either, and no layer from here on sees the
/// token.
async fn redeem(
    State(streams): State<Tokens<Stream>>,
    Path(token): Path<String>,
    mut request: Request,
    next: Next,
) -> Result<Response, Rejection> {
    let stream = streams.redeem(&token);
    let path = request.uri().path().trim_start_matches('/');
    // A token of one kind is no good for another.
    let stream = stream.filter(|stream| path.split('/').next() == Some(stream.path()));
    let stream = stream.ok_or_else(|| {
        Rejection::new(
            StatusCode::NOT_FOUND,
            "nothing waits here: the token is unknown, expired or already used",
        )
    })?;
    let query = match stream {
        Stream::Exec { container, query } | Stream::Attach { container, query } => {
            request.extensions_mut().insert(container);
            query
        }
        Stream::PortForward { sandbox, query } => {
            request.extensions_mut().insert(sandbox);
            query
        }
    };
    let mut uri = request.uri().clone().into_parts();
    uri.path_and_query = Some(query);
    *request.uri_mut() = Uri::from_parts(uri)
        .map_err(|_| Rejection::new(StatusCode::BAD_REQUEST, "the request has no good URI"))?;
    Ok(next.run(request).await)
}

/// Takes what [`redeem`] has added.
fn take<T: Clone + Send + Sync + 'static>(
    head: Option<&http::request::Parts>,
) -> Result<T, BoxError> {
    let found = head.and_then(|head| head.extensions.get::<T>());
    found.cloned().ok_or_else(|| "no token was redeemed".into())
}

/// Runs a command in a container. The command ends with the container.
async fn run(mut command: RemoteCommand) -> Result<ExitStatus, BoxError> {
    let container: Arc<Container> = take(command.request.as_deref())?;
    let words = std::mem::take(&mut command.options.command);
    command.options.command = match words.is_empty() {
        true => words,
        false => container.argv(words),
    };
    tokio::select! {
        status = exec::run(command) => status,
        () = container.ended() => Err("the container has ended".into()),
    }
}

/// Attaches a client to the process of a container.
async fn join(command: RemoteCommand) -> Result<ExitStatus, BoxError> {
    let RemoteCommand {
        stdin,
        stdout,
        stderr,
        session,
        request,
        ..
    } = command;
    let container: Arc<Container> = take(request.as_deref())?;
    // The head would keep one of the server's read buffers alive for as long as the session lasts.
    drop(request);
    let run = container.running()?;
    let input = stdin
        .is_some()
        .then(|| run.input(container.config.stdin_once));
    let typing = stdin
        .zip(input.flatten())
        .map(|(from, to)| type_in(from, to));
    let attached = run.hub.attach();
    let ended = async move { session.ended().await.into() };
    // How the process ended is the business of a status call: this session went well.
    attach::join(attached, typing, stdout, stderr, ended).await?;
    Ok(ExitStatus::success())
}

/// Types a client's input into the process until there is no more, or until the process takes
/// none.
async fn type_in(mut from: ChannelReader, to: mpsc::Sender<Bytes>) {
    // An error is the end of the session, which `attach::join` is told of too.
    while let Ok(bytes @ [_, ..]) = from.fill_buf().await {
        let piece = Bytes::copy_from_slice(bytes);
        from.consume(piece.len());
        if to.send(piece).await.is_err() {
            return;
        }
    }
}

/// Connects a client to a port of a sandbox.
async fn forward_port(port: ForwardedPort) -> Result<(), BoxError> {
    let sandbox: Arc<Sandbox> = take(port.request.as_deref())?;
    forward::to(sandbox.address, port).await
}
