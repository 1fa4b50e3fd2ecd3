//! The streaming server: it exchanges a token for a command, and runs the command.

use std::{future::pending, io, process::Stdio};

use axum::{
    Router,
    extract::{Path, Request, State},
    http::{StatusCode, Uri, uri::PathAndQuery},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, copy_buf},
    process::{ChildStdin, Command},
};
use tower::ServiceBuilder;
use tower_wsstream::{
    BoxError, ChannelReader, Rejection, Sessions, WsStreamLayer,
    remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
};

use crate::tokens::Tokens;

/// The largest number of commands at once. Any further one is refused with 503, before
/// the upgrade.
const SESSIONS: usize = 64;

/// Returns the route of the URLs that `Exec` issues. It takes every method, because the
/// handshake is a CONNECT over HTTP/2.
pub(crate) fn routes(commands: Tokens<PathAndQuery>, live: &Sessions) -> Router {
    let sessions = ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()).sessions(live.clone()))
        .load_shed()
        .concurrency_limit(SESSIONS)
        .layer(RemoteCommandLayer::new())
        .service_fn(run);
    Router::new()
        .route_service("/exec/{token}", sessions)
        .route_layer(from_fn_with_state(commands, redeem))
}

/// Replaces the URI with that of the command for which the token was issued. The client
/// therefore cannot change the command, and no layer from here on sees the token.
async fn redeem(
    State(commands): State<Tokens<PathAndQuery>>,
    Path(token): Path<String>,
    mut request: Request,
    next: Next,
) -> Result<Response, Rejection> {
    let command = commands.redeem(&token).ok_or_else(|| {
        Rejection::new(
            StatusCode::NOT_FOUND,
            "no command waits here: its token was used, or is too old",
        )
    })?;
    let mut uri = request.uri().clone().into_parts();
    uri.path_and_query = Some(command);
    *request.uri_mut() = Uri::from_parts(uri)
        .map_err(|_| Rejection::new(StatusCode::BAD_REQUEST, "the request has no good URI"))?;
    Ok(next.run(request).await)
}

/// Runs a command. If this fails or is dropped, it kills the process, but not the
/// processes that the command has started. `pod-server` ends those too.
async fn run(command: RemoteCommand) -> Result<ExitStatus, BoxError> {
    let RemoteCommand {
        options,
        stdin,
        stdout,
        stderr,
        request,
        ..
    } = command;
    // The head would keep one of the server's read buffers alive for as long as the
    // command runs.
    drop(request);
    let (program, arguments) = options.command.split_first().ok_or("no command")?;
    // Declared before the child, and so dropped after it: a command that is killed must
    // not see an end of its input first.
    let mut input;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(pipe(options.stdin))
        .stdout(pipe(options.stdout))
        .stderr(pipe(options.stderr))
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{}: {error}", program.display()))?;

    input = child.stdin.take();
    let cut = feed(stdin, &mut input);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let exit = async { tokio::try_join!(child.wait(), pump(out, stdout), pump(err, stderr)) };
    tokio::select! {
        exit = exit => Ok(exit?.0.into()),
        error = cut => Err(error.into()),
    }
}

fn pipe(wanted: bool) -> Stdio {
    match wanted {
        true => Stdio::piped(),
        false => Stdio::null(),
    }
}

/// Passes the client's input on. Resolves only if the input was cut off, which the
/// command must not take for its end.
async fn feed(from: Option<ChannelReader>, to: &mut Option<ChildStdin>) -> io::Error {
    if let (Some(mut from), Some(input)) = (from, to.as_mut()) {
        match copy_buf(&mut from, input).await {
            // If the command closes its input, the rest is discarded.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return error,
            _ => {}
        }
    }
    *to = None;
    pending().await
}

async fn pump<R, W>(from: Option<R>, to: Option<W>) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    if let (Some(mut from), Some(mut to)) = (from, to) {
        copy(&mut from, &mut to).await?;
        to.shutdown().await?;
    }
    Ok(())
}
