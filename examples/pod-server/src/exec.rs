//! The service: one exec session, from its options to its exit status.

use std::future::{Future, pending};
use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncWrite};
use tower_wsstream::remotecommand::{ExitStatus, RemoteCommand, TerminalSizes};
use tower_wsstream::{BoxError, Status};

use crate::copy::{Fed, feed, pump};
use crate::end::End;
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
    let ended = async move { session.ended().await.into() };
    let status = drive(
        spec,
        Channels {
            stdin,
            stdout,
            stderr,
            resize,
        },
        ended,
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
/// ended, or until the session ends first, which `ended` tells. Where a Close may be
/// the end of the input, or a command has exited whose output is on its way, there is
/// a grace, at whose end this future is dropped.
///
/// Dropped or failed, it ends every process of the command's session.
pub(crate) async fn drive<R, W, T>(
    mut spec: Spec<'_>,
    channels: Channels<R, W, T>,
    ended: impl Future<Output = End>,
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

        let mut input_has_ended = feeding.is_none();
        let (mut is_told, mut has_exited, mut has_output) = (false, false, true);
        let mut over = None;
        while has_output || !has_exited {
            tokio::select! {
                // The end first: what cannot be told is not worth producing.
                biased;
                end = &mut ended, if !is_told => {
                    is_told = true;
                    match end {
                        End::Lost(error) => return Err(error),
                        // While the input is open, that may be its end, and says
                        // nothing about the output. (If it is not, the input fails.)
                        End::Closed(_) if !input_has_ended => {}
                        end => over = Some(end),
                    }
                    *manner = Manner::HangUp;
                }
                outcome = &mut output, if has_output => {
                    outcome?;
                    has_output = false;
                }
                exited = &mut exited, if !has_exited => {
                    exited?;
                    has_exited = true;
                    // Whatever else of it comes, nobody is there to read it.
                    feeding = None;
                }
                fed = async { feeding.as_mut().expect("guarded").await }, if feeding.is_some() => {
                    feeding = None;
                    match fed {
                        Ok(Fed::All) => input_has_ended = true,
                        Ok(Fed::Enough) => {}
                        Err(error) => {
                            // The client closed the session in the middle of its
                            // input. Any other kind means that it is not there.
                            if error.kind() == io::ErrorKind::ConnectionAborted {
                                *manner = Manner::HangUp;
                            }
                            return Err(error.into());
                        }
                    }
                }
                () = &mut resizing => {}
                // Last, behind the output that is there already. What a command has left
                // when it exited still goes to a client that is there to read it.
                Some(End::Closed(error) | End::Stopped(error)) = async { over.take() },
                    if !has_exited || matches!(over, Some(End::Closed(_))) => return Err(error),
            }
        }
    }
    Ok(process.finish().await?)
}

#[cfg(test)]
#[path = "exec_tests.rs"]
mod tests;
