//! One run of a process whose output goes to any number of clients, and whose input comes from them.

use std::{io, os::unix::process::ExitStatusExt, pin::pin, process::ExitStatus, sync::Arc};

use bytes::{Buf, Bytes};
use rustix::process::Signal;
use tokio::sync::mpsc;

use crate::{
    ending::Manner,
    hub::Hub,
    process::{CannotStart, Process, Spec},
    seat::Stream,
    stdio::{Input, Output},
};

/// The pieces of input that wait for the process, from all attached clients together. A client
/// with more waits for a place, first come first served.
const WAITING_INPUT: usize = 4;

/// One read of the output, and half of a pipe's capacity.
const PIECE: usize = 32 * 1024;

/// A process that has been started. Dropping it ends the process.
#[derive(Debug)]
pub struct Running {
    process: Process,
    hub: Arc<Hub>,
    pieces: mpsc::Receiver<Bytes>,
}

impl Running {
    /// Starts the process. The input of the process ends when the sender and all its clones are
    /// dropped.
    pub async fn start(spec: Spec<'_>) -> Result<(Self, mpsc::Sender<Bytes>), CannotStart> {
        let process = Process::start(spec).await?;
        let (input, pieces) = mpsc::channel(WAITING_INPUT);
        let running = Self {
            process,
            hub: Arc::default(),
            pieces,
        };
        Ok((running, input))
    }

    /// Returns the place to which the output goes.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Lets the process handle SIGHUP before it is killed, if it has to be ended.
    #[must_use]
    pub fn ended_by_hanging_up(mut self) -> Self {
        self.process.manner = Manner::HangUp;
        self
    }

    /// Moves bytes until the process has exited and its output has ended. The attached clients are
    /// told of the end even if this fails.
    pub async fn finish(self) -> ExitStatus {
        let Self {
            mut process,
            hub,
            pieces,
        } = self;
        let status = match move_bytes(&mut process, &hub, pieces).await {
            Ok(()) => process.finish().await,
            Err(error) => {
                // Dropped first, because the drop ends the process, and the log and the clients are
                // told that it was ended.
                drop(process);
                Err(error)
            }
        };
        let status = status.unwrap_or_else(|error| {
            tracing::error!(%error, "the process was ended");
            ExitStatus::from_raw(Signal::KILL.as_raw())
        });
        hub.end(status);
        status
    }
}

async fn move_bytes(
    process: &mut Process,
    hub: &Hub,
    pieces: mpsc::Receiver<Bytes>,
) -> io::Result<()> {
    let Process {
        exit,
        input,
        stdout,
        stderr,
        ..
    } = process;
    let mut output = pin!(async {
        tokio::try_join!(
            publish(stdout, Stream::Stdout, hub),
            publish(stderr, Stream::Stderr, hub)
        )?;
        exit.wait().await
    });
    tokio::select! {
        outcome = &mut output => return outcome,
        () = type_in(pieces, input, hub) => {}
    }
    output.await
}

/// Hands all of an output to the attached clients, as fast as it arrives.
async fn publish(from: &mut Option<Output>, stream: Stream, hub: &Hub) -> io::Result<()> {
    let Some(from) = from else {
        return Ok(());
    };
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        hub.push(stream, &piece[..length]);
        // Without this, clients on the same thread would fall behind through no fault of their own.
        tokio::task::yield_now().await;
    }
}

/// Types the input of the attached clients, one piece after the other, until the process accepts no
/// more, or until no client can send any more, which ends the input. While the process is slow,
/// each client that waits has one piece here and keeps the rest.
async fn type_in(mut pieces: mpsc::Receiver<Bytes>, input: &mut Option<Input>, hub: &Hub) {
    let Some(to) = input else {
        return;
    };
    while let Some(mut piece) = pieces.recv().await {
        hub.calm().await;
        while !piece.is_empty() {
            match to.write(&piece).await {
                Ok(written) => piece.advance(written),
                Err(error) => {
                    tracing::debug!(%error, "the process takes no more input");
                    return;
                }
            }
        }
    }
    if let Some(to) = input.take() {
        // Fails if the terminal is gone, together with the process.
        let _ = to.end().await;
    }
}
