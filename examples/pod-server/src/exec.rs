//! The service of exec: one session, from its options to its exit status.

use std::{
    future::{Future, pending},
    io,
    pin::pin,
    time::Duration,
};

use tokio::{
    io::{AsyncBufRead, AsyncWrite},
    time::timeout,
};
use tower_wsstream::{
    BoxError, Status,
    remotecommand::{ExitStatus, RemoteCommand, TerminalSizes},
};

use crate::{
    acknowledge::{self, Paced, Window},
    copy::{Fed, feed, pump},
    end::End,
    ending::Manner,
    process::{Process, Spec},
    refusal::bad_request,
};

/// kubectl sends the size of its terminal at once, and programs draw in the size that they find.
/// A client that never sends one waits this long for its prompt.
const WAIT_FOR_SIZE: Duration = Duration::from_millis(100);

/// Runs the command of a session and returns how it ended.
pub async fn run(command: RemoteCommand) -> Result<ExitStatus, BoxError> {
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
    let window = request.as_deref().and_then(Window::of).cloned();
    // It would keep a read buffer of the server for as long as the command runs.
    drop(request);
    if options.command.is_empty() {
        // Before the upgrade, so that this is an HTTP answer.
        return Err(bad_request("you must specify at least one command for the container").into());
    }
    let spec = Spec {
        argv: &options.command,
        tty: options.tty,
        stdin: options.stdin,
        stdout: options.stdout,
        stderr: options.stderr,
        size: None,
    };
    let channels = Channels {
        stdin,
        stdout: stdout.map(|to| Paced::new(to, window.clone())),
        stderr: stderr.map(|to| Paced::new(to, window.clone())),
        resize,
    };
    let ended = acknowledge::ended(session, window);
    Ok(drive(spec, channels, ended).await?.into())
}

/// The streams that connect a client. Generic, so that tests need no connection.
pub struct Channels<R, W, T> {
    pub stdin: Option<R>,
    pub stdout: Option<W>,
    pub stderr: Option<W>,
    pub resize: Option<T>,
}

/// The sizes that a client's terminal takes on.
pub trait Sizes {
    /// Returns the latest size not yet seen, as columns and rows; `None` when there will be no
    /// more. Cancel safe.
    fn next(&mut self) -> impl Future<Output = Option<(u16, u16)>> + Send;
}

impl Sizes for TerminalSizes {
    async fn next(&mut self) -> Option<(u16, u16)> {
        let size = TerminalSizes::next(self).await?;
        Some((size.width, size.height))
    }
}

/// Starts the command, and moves bytes until it has exited and its output has ended, or until
/// the session ends first, as `ended` tells. There is a grace where a Close may be the end of
/// the input, and where the output of a command that has exited is on its way; this future is
/// dropped at its end.
///
/// If it is dropped or fails, it ends every process of the command's session.
pub async fn drive<R, W, T>(
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
    // The first poll of a service comes before the 101, and before its session is registered: a
    // drain may still refuse the request. Its command must not have started then.
    tokio::task::yield_now().await;
    // The name alone: the arguments may hold credentials. The subprotocol is in the span.
    let program = spec.argv.first().map(|name| name.to_string_lossy());
    tracing::info!(program = program.as_deref(), tty = spec.tty, "exec");
    if let Some(sizes) = resize.as_mut().filter(|_| spec.tty) {
        spec.size = timeout(WAIT_FOR_SIZE, sizes.next())
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
        // Boxed so that it can be dropped: the full window of a reader that is not read any
        // more would hold up the rest of the session.
        let mut feeding = stdin.map(|stdin| Box::pin(feed(stdin, input)));
        let mut resizing = pin!(async {
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
                // The end first: output that cannot be sent is not worth reading.
                biased;
                end = &mut ended, if !is_told => {
                    is_told = true;
                    match end {
                        End::Lost(error) => return Err(error),
                        // While the input is open, this may be its end, and says nothing about
                        // the output. If it is not its end, the input fails.
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
                    // More input would have no reader.
                    feeding = None;
                }
                fed = async { feeding.as_mut().expect("guarded").await }, if feeding.is_some() => {
                    feeding = None;
                    match fed {
                        Ok(Fed::All) => input_has_ended = true,
                        Ok(Fed::Enough) => {}
                        Err(error) => {
                            // The client closed the session in the middle of its input. Any
                            // other kind means that the client is gone.
                            if error.kind() == io::ErrorKind::ConnectionAborted {
                                *manner = Manner::HangUp;
                            }
                            return Err(error.into());
                        }
                    }
                }
                () = &mut resizing => {}
                // Last, behind the output that is there already. Output that a command has left
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
