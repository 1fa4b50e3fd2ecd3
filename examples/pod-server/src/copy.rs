//! The two copy loops between channels and a process.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};

use crate::stdio::{Input, Output};

/// The size of one copy: a message of kubectl, and half of a pipe's capacity, so that a command can
/// write while a piece is in transit.
const PIECE: usize = 32 * 1024;

/// The reason why there is no more input to copy.
pub(crate) enum Fed {
    /// The client has ended its input.
    All,
    /// The command accepts no more input. How much it reads is up to the command.
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
                    // Fails if the terminal is gone, together with its command.
                    let _ = to.end().await;
                }
                return Ok(Fed::All);
            }
        }
    }
    Ok(Fed::Enough)
}

/// Copies a command's output to a client, and ends the channel when the output ends. Without a
/// channel, the output is read and discarded, so that the command can continue.
///
/// The loop does not flush: data that a writer has accepted leaves at the end of the session task's
/// turn, however little it is.
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
