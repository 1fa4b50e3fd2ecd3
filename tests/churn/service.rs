//! The service of a session, which follows its plan.

mod lane;

use std::sync::Arc;

use tokio::time::Instant;
use tower_wsstream::{
    BoxError, ChannelReader, ChannelSet, Session,
    portforward::{ForwardError, ForwardedPort},
    remotecommand::{ExitStatus, RemoteCommand},
};

use self::lane::{Lane, Output};
use crate::{
    notes::{Notes, Outcome},
    plan::{CHANNELS, End, Plan},
};

/// The message of the last words.
pub(crate) const LAST: &[u8] = b"these are the last words";

/// The port of the first connection.
pub(crate) const FIRST_PORT: u16 = 1000;

/// Notes the cause of a session's end.
pub(crate) fn watch(notes: &Notes, session: &Session) {
    let (notes, session) = (notes.clone(), session.clone());
    tokio::spawn(async move {
        let cause = session.ended().await;
        notes.log().ended = Some((Instant::now(), cause));
    });
}

/// Runs the session of a plan.
pub(crate) async fn run(
    plan: Arc<Plan>,
    notes: Notes,
    mut set: ChannelSet,
) -> Result<(), BoxError> {
    let session = set.session().clone();
    watch(&notes, &session);
    let handles = Handles {
        readers: std::array::from_fn(|channel| set.take_reader(channel as u8)),
        writers: std::array::from_fn(|channel| set.take_writer(channel as u8).map(Output::Channel)),
    };
    drop(set);
    follow(&plan, &notes, session, handles).await.map(drop)
}

/// Runs the command of a plan.
pub(crate) async fn command(
    plan: Arc<Plan>,
    notes: Notes,
    mut command: RemoteCommand,
) -> Result<ExitStatus, BoxError> {
    let mut handles = Handles::default();
    handles.readers[0] = command.stdin.take();
    handles.writers[1] = command.stdout.take().map(Output::Channel);
    handles.writers[2] = command.stderr.take().map(Output::Channel);
    let session = command.session.clone();
    let code = follow(&plan, &notes, session, handles).await?;
    Ok(ExitStatus::from_code(code))
}

/// Runs the service of one connection, whose number stands for its port.
pub(crate) async fn connection(
    plan: Arc<Plan>,
    notes: Notes,
    port: ForwardedPort,
) -> Result<(), BoxError> {
    let connection = usize::from(port.port - FIRST_PORT);
    notes.log().calls[connection] += 1;
    let ending = Ending(notes.clone(), Some(connection));
    let mut lane = Lane::new(&plan, &notes, &port.session);
    let (reader, writer) = port.stream.into_split();
    lane.readers[connection] = Some(reader);
    lane.writers[connection] = Some(Output::Port(writer));
    let end = lane.run(connection).await.unwrap_or(plan.end);
    if end == End::Never {
        std::future::pending::<()>().await;
    }
    ending.note(end);
    drop(lane);
    leave(end).map(drop)
}

/// The handles of a session or of a connection.
#[derive(Default)]
struct Handles {
    readers: [Option<ChannelReader>; CHANNELS],
    writers: [Option<Output>; CHANNELS],
}

/// Runs all tasks of a plan. Returns the code of a command.
async fn follow(
    plan: &Arc<Plan>,
    notes: &Notes,
    session: Session,
    mut handles: Handles,
) -> Result<u8, BoxError> {
    let ending = Ending(notes.clone(), None);
    notes.log().called = true;
    let mut lanes = (0..plan.tasks.len())
        .map(|_| Lane::new(plan, notes, &session))
        .collect::<Vec<_>>();
    for channel in 0..CHANNELS {
        let Some(lane) = lanes.get_mut(plan.setup.owners[channel]) else {
            continue;
        };
        lane.readers[channel] = handles.readers[channel].take();
        lane.writers[channel] = handles.writers[channel].take();
    }
    drop(handles);
    let mut lanes = lanes.into_iter().enumerate();
    let mut own = lanes.next().map(|(_, lane)| lane);
    for (at, mut lane) in lanes {
        tokio::spawn(async move { lane.run(at).await });
    }
    if let Some(lane) = &mut own {
        lane.run(0).await;
    }
    if plan.end == End::Never {
        std::future::pending::<()>().await;
    }
    // A writer that is still there would keep a session open that has returned.
    drop(own);
    ending.note(plan.end);
    leave(plan.end)
}

fn leave(end: End) -> Result<u8, BoxError> {
    match end {
        End::Ok => Ok(0),
        End::Exit(code) => Ok(code),
        End::Fail => Err("failed on purpose".into()),
        End::FailTarget => Err(ForwardError::target("failed on purpose").into()),
        End::Panic | End::Never => panic!("on purpose"),
    }
}

/// Notes how the future of a service, or of a connection, ends.
struct Ending(Notes, Option<usize>);

impl Ending {
    fn note(&self, end: End) {
        self.note_outcome(match end {
            End::Ok => Outcome::Returned,
            End::Exit(code) => Outcome::Exited(code),
            End::Fail => Outcome::Failed,
            End::FailTarget => Outcome::FailedTarget,
            End::Panic | End::Never => Outcome::Panicked,
        });
    }

    fn note_outcome(&self, outcome: Outcome) {
        let mut log = self.0.log();
        match self.1 {
            Some(connection) => drop(log.outcomes[connection].get_or_insert(outcome)),
            None => drop(log.outcome.get_or_insert((Instant::now(), outcome))),
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.note_outcome(Outcome::Dropped);
    }
}
