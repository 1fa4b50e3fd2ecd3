//! The two copy loops between channels and a process.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};

use crate::process::{Input, Output};

/// One message of kubectl, and half of a pipe's capacity: a command goes on writing while a
/// piece is on its way.
const PIECE: usize = 32 * 1024;

/// Why there is no more input to copy.
pub(crate) enum Fed {
    /// The client has ended it.
    All,
    /// The command takes no more of it. How much it reads is its own affair.
    Enough,
}

/// Copies a client's input to a command until the client ends it, which ends the command's input
/// too, or until the command takes no more of it.
///
/// An error means that the rest of the input is lost. `input` then stays open, because a cut
/// upload must not look complete to the command.
pub(crate) async fn feed(
    mut from: impl AsyncBufRead + Unpin,
    input: &mut Option<Input>,
) -> io::Result<Fed> {
    while let Some(to) = input {
        let bytes = from.fill_buf().await?;
        let outcome = match bytes {
            [] => None,
            bytes => Some(to.write(bytes).await),
        };
        match outcome {
            Some(Ok(written)) => from.consume(written),
            // The command has closed its stdin, or exited.
            Some(Err(error)) => {
                tracing::debug!(%error, "the command takes no more input");
                *input = None;
            }
            None => {
                if let Some(to) = input.take() {
                    // Fails if the terminal is gone, and its command with it.
                    let _ = to.end().await;
                }
                return Ok(Fed::All);
            }
        }
    }
    Ok(Fed::Enough)
}

/// Copies a command's output to a client until it ends, and then ends the channel. Without a
/// channel it reads the output all the same, so that the command can go on.
///
/// There is no flush in the loop: what a writer has accepted leaves at the end of the session
/// task's turn, however little it is.
pub(crate) async fn pump(
    from: &mut Option<Output>,
    mut to: Option<impl AsyncWrite + Unpin>,
) -> io::Result<()> {
    if let Some(from) = from {
        let mut piece = vec![0; PIECE];
        loop {
            let length = from.read(&mut piece).await?;
            if length == 0 {
                break;
            }
            if let Some(to) = &mut to {
                to.write_all(&piece[..length]).await?;
            }
        }
    }
    match to {
        Some(mut to) => to.shutdown().await,
        None => Ok(()),
    }
}
