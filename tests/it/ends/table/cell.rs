//! One session for each cell of the table.

use super::*;

/// Observes a session through its handles, in a task of its own.
async fn observe(
    cause: Cause,
    handles: Handles,
    ready: oneshot::Sender<()>,
    over: oneshot::Receiver<()>,
) -> Saw {
    let Handles {
        mut stdin,
        mut stdout,
        mut stderr,
        session,
    } = handles;
    if cause == Stalled {
        stdout.send(vec![7; 100_000]).await.unwrap();
        drop(stdout);
        drop(stderr);
        let _ = ready.send(());
        let cause = session.ended().await;
        let input = read_out(&mut stdin).await;
        let gone = || Err(cause.clone().into());
        return Saw {
            write: gone(),
            after: gone(),
            cause,
            input,
        };
    }
    // This writer must not keep the session open. It is tried again at the end.
    let _ = stderr.shutdown().await;
    if cause == Completed {
        // Otherwise the session would wait for it.
        let _ = stdout.shutdown().await;
    }
    let _ = ready.send(());
    let why = session.ended().await;
    let write = stdout.write_all(b"late").await;
    drop(stdout);
    let input = read_out(&mut stdin).await;
    let _ = over.await;
    Saw {
        cause: why,
        write,
        input,
        after: stderr.write_all(b"after").await,
    }
}

/// The parts of one session.
struct Plan {
    cause: Cause,
    how: How,
    /// The service fails with the cause that it was told, as with `?` after a read.
    passes_on: bool,
    ready: oneshot::Sender<()>,
    over: oneshot::Receiver<()>,
    saw: oneshot::Sender<Saw>,
    go: watch::Receiver<bool>,
}

impl Plan {
    /// Plays the service's part.
    async fn run(mut self, handles: Handles, kind: Kind) -> Result<(), BoxError> {
        let session = handles.session.clone();
        let (cause, saw) = (self.cause, self.saw);
        let observer = observe(cause, handles, self.ready, self.over);
        tokio::spawn(async move { saw.send(observer.await).map_err(drop) });
        if cause == Refused {
            return Err(Rejection::new(http::StatusCode::NOT_FOUND, "not here").into());
        }
        match cause {
            // Here a service around the layer of commands fails.
            ServiceFailed | ServicePanicked if kind == Kind::Command => {
                std::future::pending::<()>().await;
            }
            Completed | ServiceFailed | ServicePanicked | Stalled => {
                let _ = self.go.wait_for(|go| *go).await;
            }
            Closed => {
                let _ = self.go.wait_for(|go| *go).await;
                session.close(4001, "going")?;
                session.ended().await;
            }
            _ => {
                session.ended().await;
            }
        }
        if self.passes_on {
            return Err(io::Error::from(session.ended().await).into());
        }
        finish(self.how).await
    }
}

type Finish = std::pin::Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;
type Sessions = WsStream<BoxCloneSyncService<ChannelSet, (), BoxError>>;

fn service(plan: Plan, kind: Kind, registry: &tower_wsstream::Sessions) -> Sessions {
    let limits = Limits::default().max_frame(LARGEST);
    let config = SessionConfig::default()
        .limits(limits)
        .sessions(registry.clone());
    let config = match plan.cause {
        IdleTimeout => config.keep_alive(None).idle_timeout(secs(60)),
        TimeLimit => config.keep_alive(None).time_limit(secs(60)),
        PeerUnresponsive => config.keep_alive(KeepAlive::every(secs(20)).timeout(secs(10))),
        _ => config.keep_alive(None),
    };
    let layer = WsStreamLayer::new(Protocols::default()).config(config);
    let (cause, how, go) = (plan.cause, plan.how, plan.go.clone());
    let plan = Arc::new(Mutex::new(Some(plan)));
    let take = move || plan.lock().unwrap().take().expect("there is one session");
    layer.layer(match kind {
        Kind::Plain => BoxCloneSyncService::new(service_fn(move |mut set: ChannelSet| {
            let handles = Handles {
                stdin: set.take_reader(0).unwrap(),
                stdout: set.take_writer(1).unwrap(),
                stderr: set.take_writer(2).unwrap(),
                session: set.session().clone(),
            };
            take().run(handles, Kind::Plain)
        })),
        Kind::Command => {
            let command = ServiceBuilder::new()
                .layer(RemoteCommandLayer::new())
                .service_fn(move |mut command: RemoteCommand| {
                    let handles = Handles {
                        stdin: command.stdin.take().unwrap(),
                        stdout: command.stdout.take().unwrap(),
                        stderr: command.stderr.take().unwrap(),
                        session: command.session,
                    };
                    let run = take().run(handles, Kind::Command);
                    async move { run.await.map(|()| ExitStatus::from_code(3)) }
                });
            BoxCloneSyncService::new(service_fn(move |set| {
                let inner = command.clone().oneshot(set);
                let mut go = go.clone();
                // A service around the layer of commands, which fails in its place.
                let around: Finish = Box::pin(async move {
                    if !matches!(cause, ServiceFailed | ServicePanicked) {
                        return std::future::pending().await;
                    }
                    let _ = go.wait_for(|go| *go).await;
                    finish(how).await
                });
                let inner: Finish = Box::pin(inner);
                Box::pin(async move {
                    tokio::select! {
                        result = inner => result,
                        result = around => result,
                    }
                }) as Finish
            }))
        }
    })
}

/// Serves a connection whose answer is made, but not sent.
fn withhold(io: DuplexStream, cause: Cause, mut service: Sessions) {
    serve(
        io,
        service_fn(move |request| {
            let answer = service.call(request);
            async move {
                answer.await?;
                match cause {
                    UpgradeFailed => Err(BoxError::from("withheld")),
                    _ => std::future::pending::<Result<http::Response<String>, _>>().await,
                }
            }
        }),
    );
}

/// Plays the client's part, and returns what it received if it got a session.
async fn trigger(
    cause: Cause,
    subprotocol: &str,
    service: Sessions,
    ready: oneshot::Receiver<()>,
    go: &watch::Sender<bool>,
    registry: &tower_wsstream::Sessions,
) -> Option<Told> {
    let capacity = if cause == Stalled { 4096 } else { 256 * 1024 };
    let (near, far) = tokio::io::duplex(capacity);
    if matches!(cause, UpgradeFailed | UpgradeTimedOut) {
        withhold(far, cause, service);
        let answer = Raw::handshake_at(near, PATH, subprotocol);
        // This would never end, because the server still has its connection.
        let answer = tokio::time::timeout(secs(20), answer).await;
        assert!(!matches!(answer, Ok(Ok(_))), "no 101 has been sent");
        return None;
    }
    serve(far, service);
    let client = match Raw::handshake_at(near, PATH, subprotocol).await {
        Ok(client) => client,
        Err(answer) => {
            assert_eq!(cause, Refused, "{answer}");
            assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
            return None;
        }
    };
    let mut client = client;
    client.send(0, b"before").await.unwrap();
    within(LONG, ready).await.unwrap();
    let acted = match cause {
        ClosedWell => act(Act::Close(Some(1000)), client).await,
        ClosedWithoutCode => act(Act::Close(None), client).await,
        ClosedBadly => act(Act::Close(Some(1001)), client).await,
        ProtocolError => act(Act::ReservedBit, client).await,
        TooLarge => act(Act::TooLarge, client).await,
        InvalidText => act(Act::NotUtf8, client).await,
        ConnectionLost => {
            client.io.shutdown().await.unwrap();
            Some(client)
        }
        Completed | ServiceFailed | ServicePanicked | Closed => {
            go.send_replace(true);
            Some(client)
        }
        Stalled => {
            go.send_replace(true);
            sleep(secs(91)).await;
            Some(client)
        }
        Drained => {
            drop(registry.drain(LONG));
            Some(client)
        }
        IdleTimeout | TimeLimit | PeerUnresponsive => Some(client),
        UpgradeFailed | UpgradeTimedOut | Refused | Aborted => unreachable!("{cause:?}"),
    };
    let mut client = acted.expect("the client is still there");
    Some(within(LONG, client.read_to_end()).await)
}

/// Runs one cell, and returns the variant that the handles saw.
async fn cell(cause: Cause, how: How, kind: Kind, subprotocol: &str) -> String {
    cell_of(cause, how, false, kind, subprotocol).await
}

async fn cell_of(cause: Cause, how: How, passes_on: bool, kind: Kind, subprotocol: &str) -> String {
    let context = format!("{cause:?}, {kind:?} service, {how:?}, on {subprotocol:?}");
    let (ready, when_ready) = oneshot::channel();
    let (over, when_over) = oneshot::channel();
    let (saw, seen) = oneshot::channel();
    let (go, when_go) = watch::channel(false);
    let plan = Plan {
        cause,
        how,
        passes_on,
        ready,
        over: when_over,
        saw,
        go: when_go,
    };
    let registry = tower_wsstream::Sessions::default();
    let service = service(plan, kind, &registry);
    let told = trigger(cause, subprotocol, service, when_ready, &go, &registry).await;
    drop(over);
    let saw = within(LONG, seen).await.expect(&context);
    check_handles(cause, subprotocol, &saw, told.is_some(), &context);
    check_client(cause, how, kind, subprotocol, told, &context);
    format!("{:?}", saw.cause)
}

async fn every_cell_of(cause: Cause) -> BTreeSet<String> {
    let _watchdog = Watchdog::bites_after(secs(50));
    let mut seen = BTreeSet::new();
    for subprotocol in EVERY {
        for kind in [Kind::Plain, Kind::Command] {
            for how in hows(cause) {
                let debug = cell(cause, *how, kind, subprotocol).await;
                seen.insert(name_of(&debug).to_owned());
            }
        }
    }
    seen
}

fn name_of(debug: &str) -> &str {
    debug.split([' ', '{', '(']).next().unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_cell_is_what_the_table_says() {
    for cause in CAUSES {
        if cause == Aborted {
            continue;
        }
        let seen = every_cell_of(cause).await;
        if cause != Stalled {
            let variant = row(cause).variant.to_owned();
            assert_eq!(seen, BTreeSet::from([variant]), "{cause:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_passes_on_its_end_is_told_of_as_one_that_was_dropped() {
    for cause in [
        IdleTimeout,
        TimeLimit,
        Drained,
        ClosedWell,
        ClosedBadly,
        Closed,
    ] {
        for subprotocol in EVERY {
            for kind in [Kind::Plain, Kind::Command] {
                cell_of(cause, How::Never, true, kind, subprotocol).await;
            }
        }
    }
}
