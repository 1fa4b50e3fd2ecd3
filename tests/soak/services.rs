//! The services, and the notes of their sessions.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, MutexGuard},
};

use http::request::Parts;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt, sink};
use tower_wsstream::{
    BoxError, ChannelSet, EndCause,
    portforward::ForwardedPort,
    remotecommand::{ExitStatus, RemoteCommand},
    session::SessionSummary,
};

use crate::lane::{Kind, Lane, Verdict, byte};

/// The notes of a session.
#[derive(Debug, Default)]
struct Noted {
    /// The cause of its end.
    over: Option<String>,
    /// The reports of its services, by lane.
    lanes: Vec<String>,
}

/// The notes that were not taken yet, by the session's name.
static NOTED: LazyLock<Mutex<HashMap<String, Noted>>> = LazyLock::new(Mutex::default);

fn noted() -> MutexGuard<'static, HashMap<String, Noted>> {
    NOTED.lock().expect("no panic")
}

/// Notes the end of a session, whose name is that of its peer.
pub(crate) fn note_end(summary: &SessionSummary) {
    if let Some(name) = &summary.peer {
        let mut noted = noted();
        let session = noted.entry(name.to_string()).or_default();
        session.over = Some(summary.cause.name().to_owned());
    }
}

/// Takes the note of a session that is over: the cause, and a line for each service.
pub(crate) fn take_note(name: &str) -> Option<String> {
    let mut noted = noted();
    noted.get(name)?.over.as_ref()?;
    let Noted { over, lanes } = noted.remove(name)?;
    Some([over?, lanes.join("\n")].join("\n"))
}

/// Forgets the remaining notes, whose clients never had an answer.
pub(crate) fn forget() {
    *noted() = HashMap::new();
}

/// The report of a service, which is noted when it is dropped.
struct Report {
    session: String,
    lane: usize,
    read: u64,
    right: bool,
    /// The end of its input, or the cause of a failed write.
    end: String,
    /// The end of the service itself.
    done: &'static str,
}

impl Drop for Report {
    fn drop(&mut self) {
        let Self {
            session,
            lane,
            read,
            right,
            end,
            done,
        } = self;
        let line = format!("{lane} {read} {right} {end} {done}");
        let mut noted = noted();
        noted
            .entry(std::mem::take(session))
            .or_default()
            .lanes
            .push(line);
    }
}

/// Returns the name of the session in a path, and the lanes behind it.
pub(crate) fn parse(path: &str) -> Option<(&str, &str)> {
    let mut parts = path.split('/').skip(2);
    Some((parts.next()?, parts.next()?))
}

/// Runs the channels 0 and 1.
pub(crate) async fn plain(mut set: ChannelSet) -> Result<(), BoxError> {
    let head = set.take_request().ok_or("a head")?;
    let input = set.take_reader(0).ok_or("channel 0")?;
    let output = set.take_writer(1).ok_or("channel 1")?;
    drop(set);
    run(*head, 0, input, output).await
}

pub(crate) async fn command(command: RemoteCommand) -> Result<ExitStatus, BoxError> {
    let RemoteCommand {
        stdin,
        stdout,
        request,
        ..
    } = command;
    let head = *request.ok_or("a head")?;
    let (input, output) = (stdin.ok_or("stdin")?, stdout.ok_or("stdout")?);
    run(head, 0, input, output).await?;
    Ok(ExitStatus::success())
}

/// Runs the lane whose number is that of the port.
pub(crate) async fn port(port: ForwardedPort) -> Result<(), BoxError> {
    let ForwardedPort {
        port: number,
        stream,
        request,
        ..
    } = port;
    let head = request.ok_or("a head")?;
    let head = Parts::clone(&head);
    let (input, output) = stream.into_split();
    run(head, usize::from(number) - 1, input, output).await
}

async fn run(
    head: Parts,
    index: usize,
    mut input: impl AsyncBufRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> Result<(), BoxError> {
    let (name, lanes) = parse(head.uri.path()).ok_or("a name and lanes")?;
    let lane: Lane = lanes.split(',').nth(index).ok_or("a lane")?.parse()?;
    let mut report = Report {
        session: name.to_owned(),
        lane: index,
        read: 0,
        right: true,
        end: "unread".to_owned(),
        done: "dropped",
    };
    drop(head);
    let done = match lane.kind {
        Kind::Echo => read(&mut input, &mut output, &mut report).await,
        Kind::Count => {
            // Its output ends with it.
            let counted = read(&mut input, &mut sink(), &mut report).await;
            drop(output);
            counted
        }
        Kind::Say(verdict) => match say(&mut output, lane.total, &mut report).await {
            Ok(()) if verdict == Verdict::Fails => Err("failed on purpose".into()),
            Ok(()) if verdict == Verdict::Panics => {
                report.done = "failed";
                panic!("on purpose")
            }
            said => said,
        },
    };
    report.done = match done {
        Ok(()) => "ok",
        Err(_) => "failed",
    };
    done
}

/// Reads to the end, and notes the number of bytes, whether they were right, and their end.
async fn read(
    input: &mut (impl AsyncBufRead + Unpin),
    output: &mut (impl AsyncWrite + Unpin),
    report: &mut Report,
) -> Result<(), BoxError> {
    loop {
        let n = match input.fill_buf().await {
            Ok([]) => {
                report.end = "EOF".to_owned();
                return Ok(());
            }
            Ok(bytes) => {
                report.right &= (report.read..).zip(bytes).all(|(at, b)| byte(at) == *b);
                report.read += bytes.len() as u64;
                if let Err(error) = output.write_all(bytes).await {
                    report.end = broke(&error);
                    return Err(error.into());
                }
                bytes.len()
            }
            Err(error) => {
                report.end = broke(&error);
                return Err(error.into());
            }
        };
        input.consume(n);
    }
}

/// Returns the name of the cause of an error.
fn broke(error: &std::io::Error) -> String {
    let cause = EndCause::from_error(error);
    cause.map_or("error", EndCause::name).to_owned()
}

/// Writes as many bytes, in writes of all sizes, and notes a write that fails.
async fn say(
    output: &mut (impl AsyncWrite + Unpin),
    mut left: u64,
    report: &mut Report,
) -> Result<(), BoxError> {
    let (mut at, mut n) = (0, 1);
    while left > 0 {
        let len = left.min(n);
        let bytes: Vec<u8> = (at..at + len).map(byte).collect();
        if let Err(error) = output.write_all(&bytes).await {
            report.end = broke(&error);
            return Err(error.into());
        }
        (at, left, n) = (at + len, left - len, n * 7 % 40_009);
    }
    Ok(())
}
