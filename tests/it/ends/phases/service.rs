//! The service of each cell.

use super::*;

type Finish = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// Brings the session into the phase of the fault.
async fn reach(when: When, handles: &mut Handles) -> Result<(), BoxError> {
    let Handles {
        stdin,
        stdout,
        session,
        ..
    } = handles;
    match when {
        When::PollReady | When::Call | When::FirstPoll => return Result::Ok(()),
        When::Undecided => {
            sleep(millis(5)).await;
            return Result::Ok(());
        }
        When::AfterMessage => {
            stdin.read_exact(&mut [0]).await?;
        }
        When::InLargeWrite => {
            let large = vec![7; 1_000_000];
            let write = tokio::time::timeout(millis(50), stdout.write_all(&large));
            write.await.expect_err("the client does not read");
            return Result::Ok(());
        }
        When::Paused => sleep(millis(700)).await,
        When::OutputHeld => {
            session.hold_output(Hold::until_peer_reads(millis(20), millis(250)));
            sleep(millis(5)).await;
        }
        When::AfterInput => {
            stdin.read_to_end(&mut Vec::new()).await?;
        }
        When::AfterClose => {
            session.ended().await;
        }
        When::InGrace => {
            session.ended().await;
            sleep(millis(500)).await;
        }
        When::Closing => {
            stdout.send(vec![7; 100_000]).await?;
            session.close(4001, "")?;
            sleep(millis(50)).await;
            return Result::Ok(());
        }
        When::Lingering => {
            session.close(4001, "")?;
            sleep(millis(550)).await;
            return Result::Ok(());
        }
    }
    stdout.write_all(b"out").await?;
    Result::Ok(())
}

async fn run(cell: Cell, mut handles: Handles) -> Result<(), BoxError> {
    reach(cell.when, &mut handles).await?;
    match cell.what {
        Error => return Err("failed on purpose".into()),
        Panic => panic!("panicked on purpose"),
        Ok | PanicsInDrop => {}
        Never => std::future::pending().await,
        DropsOne => {
            drop(handles.stdout);
            sleep(millis(100)).await;
        }
        DropsAll => {
            drop(handles);
            sleep(millis(100)).await;
        }
        Leaks => {
            tokio::spawn(async move {
                let _held = handles;
                sleep(secs(2)).await;
            });
        }
    }
    Result::Ok(())
}

/// Panics when it is dropped if it is told to.
struct Mine(bool);

impl Drop for Mine {
    fn drop(&mut self) {
        assert!(!self.0, "panicked in drop, on purpose");
    }
}

pub(super) struct Mined {
    future: Finish,
    _alive: Arc<()>,
    _mine: Mine,
}

impl Future for Mined {
    type Output = Result<(), BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

#[derive(Clone)]
pub(super) struct Inner {
    pub(super) cell: Cell,
    pub(super) alive: Arc<()>,
}

impl Inner {
    fn ready(&self) -> Poll<Result<(), BoxError>> {
        match (self.cell.when, self.cell.what) {
            (When::PollReady, Never) => Poll::Pending,
            (When::PollReady, Panic) => panic!("panicked on purpose"),
            (When::PollReady, _) => Poll::Ready(Err("failed on purpose".into())),
            _ => Poll::Ready(Result::Ok(())),
        }
    }

    fn start(&self, handles: Handles) -> Mined {
        assert!(self.cell.when != When::Call, "panicked on purpose");
        Mined {
            future: Box::pin(run(self.cell, handles)),
            _alive: Arc::clone(&self.alive),
            _mine: Mine(self.cell.what == PanicsInDrop),
        }
    }
}

impl Service<ChannelSet> for Inner {
    type Response = ();
    type Error = BoxError;
    type Future = Mined;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.ready()
    }

    fn call(&mut self, mut set: ChannelSet) -> Mined {
        self.start(Handles {
            stdin: set.take_reader(0).unwrap(),
            stdout: set.take_writer(1).unwrap(),
            _stderr: set.take_writer(2).unwrap(),
            session: set.session().clone(),
        })
    }
}

impl Service<RemoteCommand> for Inner {
    type Response = ExitStatus;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<ExitStatus, BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.ready()
    }

    fn call(&mut self, command: RemoteCommand) -> Self::Future {
        let mined = self.start(Handles {
            stdin: command.stdin.unwrap(),
            stdout: command.stdout.unwrap(),
            _stderr: command.stderr.unwrap(),
            session: command.session,
        });
        Box::pin(AsExit(mined))
    }
}

/// This is not an `async` block, which would drop the future before it has returned.
pub(super) struct AsExit(Mined);

impl Future for AsExit {
    type Output = Result<ExitStatus, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = Pin::new(&mut self.0).poll(cx);
        result.map_ok(|()| ExitStatus::success())
    }
}
