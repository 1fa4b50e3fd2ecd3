//! The service: one exec session, from its options to its exit status.

use std::future::{Future, pending};
use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncWrite};
use tower_wsstream::remotecommand::{ExitStatus, RemoteCommand, TerminalSizes};
use tower_wsstream::{BoxError, Status};

use crate::copy::{feed, pump};
use crate::ending::Manner;
use crate::process::{Process, Spec};

/// kubectl sends the size of its terminal at once, and programs draw in the size
/// that they find; clients that never send one wait this long for their prompt.
const WAIT_FOR_SIZE: Duration = Duration::from_millis(100);

/// Runs the command of a session and tells how it ended.
pub(crate) async fn run(command: RemoteCommand) -> Result<ExitStatus, BoxError> {
    let RemoteCommand {
        options,
        stdin,
        stdout,
        stderr,
        resize,
        session,
        request,
        ..
    } = command;
    // It would keep a read buffer of the server for as long as the command runs.
    drop(request);
    let spec = Spec {
        argv: &options.command,
        tty: options.tty,
        stdin: options.stdin,
        stdout: options.stdout,
        stderr: options.stderr,
        size: None,
    };
    let lost = async move { session.ended().await.is_lost() };
    let status = drive(
        spec,
        Channels {
            stdin,
            stdout,
            stderr,
            resize,
        },
        lost,
    )
    .await?;
    Ok(status.into())
}

/// What a client is connected by. Generic so that tests need no connection.
pub(crate) struct Channels<R, W, T> {
    pub(crate) stdin: Option<R>,
    pub(crate) stdout: Option<W>,
    pub(crate) stderr: Option<W>,
    pub(crate) resize: Option<T>,
}

/// The sizes that a client's terminal takes on.
pub(crate) trait Sizes {
    /// The latest size not yet seen, as columns and rows; `None` when there will
    /// be no more. Cancel safe.
    fn next(&mut self) -> impl Future<Output = Option<(u16, u16)>> + Send;
}

impl Sizes for TerminalSizes {
    async fn next(&mut self) -> Option<(u16, u16)> {
        let size = TerminalSizes::next(self).await?;
        Some((size.width, size.height))
    }
}

/// Starts the command and moves bytes until it has exited and its output has
/// ended. `ended` resolves when the session ends first, to whether the
/// connection is lost; an ending that is none leaves the command a grace, at whose
/// end this future is dropped.
///
/// Dropped or failed, it ends every process of the command's session.
pub(crate) async fn drive<R, W, T>(
    mut spec: Spec<'_>,
    channels: Channels<R, W, T>,
    ended: impl Future<Output = bool>,
) -> Result<std::process::ExitStatus, BoxError>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin,
    T: Sizes,
{
    let Channels {
        stdin,
        stdout,
        stderr,
        mut resize,
    } = channels;
    if let Some(sizes) = resize.as_mut().filter(|_| spec.tty) {
        spec.size = tokio::time::timeout(WAIT_FOR_SIZE, sizes.next())
            .await
            .unwrap_or_default();
    }
    let mut process = Process::start(spec).await.map_err(|error| {
        // The words before the program's are Kubernetes' own.
        let message =
            format!("Internal error occurred: error executing command in container: {error}");
        Status::failure("InternalError", message, 500)
    })?;

    {
        let Process {
            exit,
            manner,
            input,
            stdout: out,
            stderr: err,
            terminal,
            ..
        } = &mut process;
        let mut output = pin!(async { tokio::try_join!(pump(out, stdout), pump(err, stderr)) });
        let mut exited = pin!(exit.wait());
        let mut ended = pin!(ended);
        // Boxed so that they can be dropped: a reader that nobody reads any more
        // must go, or its full window would hold up the rest of the session.
        let mut feeding = stdin.map(|stdin| Box::pin(feed(stdin, input)));
        let mut resizing = Box::pin(async {
            while let (Some(sizes), Some(terminal)) = (&mut resize, &*terminal) {
                let Some((columns, rows)) = sizes.next().await else {
                    break;
                };
                if let Err(error) = terminal.resize(columns, rows) {
                    tracing::debug!(%error, "the terminal was not resized");
                }
            }
            pending::<()>().await
        });

        let (mut is_told, mut has_exited, mut has_output) = (false, false, true);
        while has_output || !has_exited {
            tokio::select! {
                // The end first: what cannot be told is not worth producing.
                biased;
                lost = &mut ended, if !is_told => {
                    if lost {
                        return Err("the connection is lost".into());
                    }
                    // Not the end of the command yet: on subprotocols without
                    // half-close this is how clients end their input.
                    is_told = true;
                    *manner = Manner::HangUp;
                }
                fed = async { feeding.as_mut().expect("guarded").await }, if feeding.is_some() => {
                    feeding = None;
                    if let Err(error) = fed {
                        // The client closed the session in the middle of its
                        // input. Any other kind means that it is not there.
                        if error.kind() == io::ErrorKind::ConnectionAborted {
                            *manner = Manner::HangUp;
                        }
                        return Err(error.into());
                    }
                }
                exited = &mut exited, if !has_exited => {
                    exited?;
                    has_exited = true;
                    // Whatever else of it comes, nobody is there to read it.
                    feeding = None;
                }
                outcome = &mut output, if has_output => {
                    outcome?;
                    has_output = false;
                }
                () = &mut resizing => {}
            }
        }
    }
    Ok(process.finish().await?)
}

#[cfg(test)]
#[path = "exec_tests.rs"]
mod tests;
