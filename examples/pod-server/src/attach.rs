//! The service of attach: one session, and its place at the pod's process.
//!
//! The end of a session never ends the process. The pod has no terminal: a client that asks for
//! one gets none, as on a real node, where the container decides. (kubectl looks at the pod,
//! says so, and goes on without.)

use std::{future::Future, pin::pin};

use bytes::Bytes;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};
use tower_wsstream::{
    BoxError, Status,
    remotecommand::{ExitStatus, RemoteCommand},
};

use crate::{
    acknowledge::{self, Paced, Window},
    end::End,
    hub::{Attached, Next},
    pod::Pod,
    seat::{Lagged, Stream},
};

/// The most that is typed at once of a client's input. Lines stay whole up to this length, and
/// the other clients get their turn after it.
const LINES: usize = 8 * 1024;

/// Attaches a session to the pod's process until either ends.
pub(crate) async fn run(pod: Pod, command: RemoteCommand) -> Result<ExitStatus, BoxError> {
    let RemoteCommand {
        stdin,
        stdout,
        stderr,
        session,
        request,
        ..
    } = command;
    let window = request.as_deref().and_then(Window::of).cloned();
    // It would keep a read buffer of the server for as long as the session lasts.
    drop(request);
    tracing::info!("attach");
    let (attached, input) = pod.attach().map_err(|error| failure(&error))?;
    let streams = Streams {
        stdin,
        stdout: stdout.map(|to| Paced::new(to, window.clone())),
        stderr: stderr.map(|to| Paced::new(to, window.clone())),
    };
    let ended = acknowledge::ended(session, window);
    drive(attached, input, streams, ended)
        .await
        .map_err(|error| match error.downcast_ref::<Lagged>() {
            Some(lagged) => {
                tracing::info!(%lagged, "attach ended");
                failure(lagged).into()
            }
            None => error,
        })
}

fn failure(why: &dyn std::error::Error) -> Status {
    // The words before ours are Kubernetes' own.
    let message = format!("Internal error occurred: error attaching to container: {why}");
    Status::failure("InternalError", message, 500)
}

/// The streams that connect a client. Generic, so that tests need no connection.
pub(crate) struct Streams<R, W> {
    pub(crate) stdin: Option<R>,
    pub(crate) stdout: Option<W>,
    pub(crate) stderr: Option<W>,
}

/// Attaches the streams of a client to a process, as [`join`] does, and types its input as whole
/// lines.
pub(crate) async fn drive<R, W>(
    attached: Attached,
    input: mpsc::Sender<Bytes>,
    streams: Streams<R, W>,
    ended: impl Future<Output = End>,
) -> Result<ExitStatus, BoxError>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let Streams {
        stdin,
        stdout,
        stderr,
    } = streams;
    let typing = stdin.map(|stdin| type_lines(stdin, input));
    join(attached, typing, stdout, stderr, ended).await
}

/// Moves bytes until the process has ended, the client has left, the client is too far behind,
/// or the session was stopped. `typing` moves the input, and is ready when there is no more.
///
/// Returns the exit status of the process, or success for a client that has left, because
/// leaving is no failure. A client that is too far behind is a [`Lagged`] error. A session that
/// was stopped is an error too: a client that was told of a success would take it for the end of
/// the process.
pub async fn join<W>(
    attached: Attached,
    typing: Option<impl Future<Output = ()>>,
    stdout: Option<W>,
    stderr: Option<W>,
    ended: impl Future<Output = End>,
) -> Result<ExitStatus, BoxError>
where
    W: AsyncWrite + Unpin,
{
    let mut showing = pin!(show(&attached, stdout, stderr));
    let mut ended = pin!(ended);
    // Boxed so that it can be dropped: the full window of a reader that is not read any more
    // would hold up the rest of the session.
    let mut typing = typing.map(Box::pin);
    let mut is_told = false;
    loop {
        tokio::select! {
            biased;
            end = &mut ended, if !is_told => match end {
                // On subprotocols without half-close this is how clients end their input. What
                // has arrived of it is still typed.
                End::Closed(_) if typing.is_some() => is_told = true,
                End::Closed(_) => return Ok(ExitStatus::success()),
                End::Lost(error) | End::Stopped(error) => return Err(error),
            },
            shown = &mut showing => return Ok(shown?),
            () = async { typing.as_mut().expect("guarded").await }, if typing.is_some() => {
                // The input of the process stays open for clients that come later.
                typing = None;
                if is_told {
                    return Ok(ExitStatus::success());
                }
            }
        }
    }
}

/// Writes the output of the process to the client, until the process has ended.
async fn show<W: AsyncWrite + Unpin>(
    attached: &Attached,
    mut stdout: Option<W>,
    mut stderr: Option<W>,
) -> Result<ExitStatus, Lagged> {
    loop {
        let (to, bytes) = match attached.next().await? {
            Next::Output(Stream::Stdout, bytes) => (&mut stdout, bytes),
            Next::Output(Stream::Stderr, bytes) => (&mut stderr, bytes),
            Next::Ended(status) => return Ok(status.into()),
        };
        let mut written = 0;
        while written < bytes.len() {
            let rest = &bytes[written..];
            let length = match to {
                Some(writer) => tokio::select! {
                    biased;
                    // A client that does not read may hold up a write forever.
                    lagged = attached.lagged() => return Err(lagged),
                    length = writer.write(rest) => length,
                },
                // The client has not asked for it.
                None => Ok(rest.len()),
            };
            match length {
                Ok(length) => {
                    attached.written(length);
                    written += length;
                }
                // The session has ended, as `drive` is told too, or is about to end.
                Err(error) => {
                    tracing::debug!(%error, "the client takes no more output");
                    *to = None;
                }
            }
        }
    }
}

/// Types a client's input into the process, whole lines at a time, until there is no more or the
/// process takes none.
///
/// A last line without an end is given one, or it would become the beginning of another client's
/// line. A line that was cut off by an error is not typed, because it must not look complete.
async fn type_lines(mut from: impl AsyncBufRead + Unpin, to: mpsc::Sender<Bytes>) {
    let mut begun = Vec::new();
    loop {
        let bytes = match from.fill_buf().await {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::debug!(%error, unfinished = begun.len(), "the input broke off");
                return;
            }
        };
        if bytes.is_empty() {
            if !begun.is_empty() {
                begun.push(b'\n');
                let _ = to.send(begun.into()).await;
            }
            return;
        }
        let room = bytes.len().min(LINES - begun.len());
        let bytes = &bytes[..room];
        begun.extend_from_slice(bytes);
        // All whole lines; or a piece of a line that is too long.
        let whole = match begun.iter().rposition(|&byte| byte == b'\n') {
            Some(last) => last + 1,
            None if begun.len() == LINES => LINES,
            None => 0,
        };
        from.consume(room);
        if whole > 0 {
            let rest = begun.split_off(whole);
            let lines = std::mem::replace(&mut begun, rest);
            // Waits for a place: other clients are typing too.
            if to.send(lines.into()).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
#[path = "attach_tests.rs"]
mod tests;
