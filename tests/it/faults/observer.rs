//! The part of a service, played outside of its task, so that it also sees what comes after that.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tower_wsstream::EndCause;

use super::{
    client::INPUT,
    end::{End, Own},
    outcome::{Reader, Writer},
    service::{Handles, Piece, Verdict},
};
use crate::support::{secs, soon};

/// Output behind the end.
const LATE: &[u8] = b"late";

/// The time before a service ends by itself, in which client and proxy do their part.
pub(super) const BEFORE: Duration = Duration::from_secs(6);

/// The time that an observer waits for what may never come.
const PATIENCE: Duration = Duration::from_secs(100);

/// Returns what the service writes before the end.
pub(super) fn output(end: End) -> Vec<u8> {
    let len = match end {
        End::NeverReads => 1_000_000,
        End::CloseBothOk => 50_000,
        _ => 1000,
    };
    (0..len).map(|n| (n % 251) as u8).collect()
}

/// The observations of the service.
#[derive(Debug)]
pub(super) struct Saw {
    pub(super) reader: Option<(Vec<u8>, Reader)>,
    pub(super) writer: Option<Writer>,
    /// The output that was accepted.
    pub(super) accepted: Vec<u8>,
    pub(super) cause: Option<EndCause>,
    /// Set if the service has no complaint.
    pub(super) content: bool,
}

/// Reads what is left, and how that ends.
async fn read_out(reader: &mut tower_wsstream::ChannelReader) -> (Vec<u8>, Reader) {
    let (mut all, mut buf) = (Vec::new(), [0; 512]);
    loop {
        match timeout(PATIENCE, reader.read(&mut buf)).await {
            Err(_) => return (all, Reader::Open),
            Ok(Ok(0)) => return (all, Reader::Eof),
            Ok(Ok(n)) => all.extend_from_slice(&buf[..n]),
            Ok(Err(error)) => return (all, Reader::Failed(error.kind())),
        }
    }
}

async fn write_late(writer: &mut (impl AsyncWrite + Unpin), accepted: &mut Vec<u8>) -> Writer {
    match timeout(PATIENCE, writer.write_all(LATE)).await {
        Err(_) => Writer::Waits,
        Ok(Ok(())) => {
            accepted.extend_from_slice(LATE);
            Writer::Works
        }
        Ok(Err(error)) => Writer::Failed(error.kind()),
    }
}

/// Plays the part of a service, outside of its task.
pub(super) async fn observe(end: End, handles: Handles, ready: oneshot::Sender<()>) -> Saw {
    let Handles {
        mut reader,
        mut writer,
        session,
        verdict,
    } = handles;
    let mut accepted = Vec::new();
    let mut input = Vec::new();
    if !matches!(end, End::UpgradeFailed | End::StreamsMissing) {
        let mut first = [0; INPUT.len()];
        reader.read_exact(&mut first).await.expect("the input");
        input.extend_from_slice(&first);
        let output = output(end);
        if end == End::NeverReads {
            while let Ok(Ok(n)) = timeout(secs(1), writer.write(&output[accepted.len()..])).await {
                accepted.extend_from_slice(&output[accepted.len()..][..n]);
            }
            let _ = ready.send(());
            sleep(BEFORE).await;
            drop(writer);
            let _ = verdict.send(Verdict::Own(Own::Ok));
            let cause = timeout(PATIENCE, session.ended()).await.ok();
            let (rest, last) = read_out(&mut reader).await;
            input.extend(rest);
            return Saw {
                reader: Some((input, last)),
                writer: None,
                accepted,
                cause,
                content: true,
            };
        }
        writer.write_all(&output).await.expect("a session");
        writer.flush().await.expect("a session");
        accepted = output;
    }
    let _ = ready.send(());
    if let Some(own) = end.own() {
        sleep(BEFORE).await;
        match own {
            Own::Ok | Own::Exit => writer.shutdown().await.unwrap_or_default(),
            Own::Closes => session.close(4001, "going").expect("a session"),
            Own::Status | Own::Error | Own::Target | Own::Panic => {}
        }
        if own == Own::Closes {
            session.ended().await;
        }
        let _ = verdict.send(Verdict::Own(own));
        // An outcome that was told leaves the session open while there are writers.
        let cause = timeout(secs(1), session.ended()).await.ok();
        let late = write_late(&mut writer, &mut accepted).await;
        drop(writer);
        let (rest, last) = read_out(&mut reader).await;
        input.extend(rest);
        return Saw {
            reader: Some((input, last)),
            writer: Some(late),
            accepted,
            cause,
            content: matches!(own, Own::Ok | Own::Closes),
        };
    }
    let (mut rest, mut last) = read_out(&mut reader).await;
    while last == Reader::Open {
        // Nothing has happened yet.
        let more;
        (more, last) = read_out(&mut reader).await;
        rest.extend(more);
    }
    input.extend(rest);
    let cause = timeout(secs(1), session.ended()).await.ok();
    let late = write_late(&mut writer, &mut accepted).await;
    let content = last == Reader::Eof;
    if end.is_ignored() {
        // The service takes no notice, and is dropped with its channels.
        let mut verdict = verdict;
        soon(verdict.closed()).await;
        drop(writer);
    } else {
        drop(writer);
        let _ = verdict.send(match last {
            Reader::Failed(kind) => Verdict::PassOn(match &cause {
                Some(cause) => cause.clone().into(),
                None => kind.into(),
            }),
            _ => Verdict::Own(Own::Ok),
        });
    }
    Saw {
        reader: Some((input, last)),
        writer: Some(late),
        accepted,
        cause,
        content: content && !end.is_ignored(),
    }
}

/// Plays the part of a body.
pub(super) async fn observe_body(
    end: End,
    pieces: mpsc::UnboundedSender<Piece>,
    ready: oneshot::Sender<()>,
) -> Saw {
    let output = output(end);
    for piece in output.chunks(50_000) {
        let _ = pieces.send(Piece::Data(piece.to_vec().into()));
    }
    let _ = ready.send(());
    let own = end.own();
    if let Some(own) = own {
        sleep(BEFORE).await;
        let _ = match own {
            Own::Ok => Ok(()),
            Own::Panic => pieces.send(Piece::Panics),
            _ => pieces.send(Piece::Fails("failed on purpose".into())),
        };
    } else {
        pieces.closed().await;
    }
    drop(pieces);
    Saw {
        reader: None,
        writer: None,
        accepted: output,
        cause: None,
        content: own == Some(Own::Ok),
    }
}
