//! Handles that were carried out of a runtime that is shut down.

use super::*;

/// Returns the view of handles that were carried out of a runtime before its shutdown.
fn aborted(kind: Kind, subprotocol: &'static str) -> Saw {
    let (handed, handles) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    // The client outlives the runtime, so the connection is not lost.
    let (near, far) = tokio::io::duplex(4096);
    let (client, handles) = runtime.block_on(async move {
        let inner = hand(handed, kind);
        let layer = WsStreamLayer::new(Protocols::default());
        serve(far, layer.layer(inner));
        let mut client = Raw::handshake_at(near, PATH, subprotocol).await.unwrap();
        client.send(0, b"before").await.unwrap();
        let mut handles: Handles = handles.await.unwrap();
        let mut first = [0; 3];
        handles.stdin.read_exact(&mut first).await.unwrap();
        (client, handles)
    });
    drop(runtime);
    let waiting = tokio::runtime::Builder::new_current_thread();
    let waiting = { waiting }.enable_all().build().unwrap();
    waiting.block_on(async move {
        let Handles {
            mut stdin,
            mut stdout,
            mut stderr,
            session,
        } = handles;
        let mut client = client;
        let told = client.read_to_end().await;
        assert_eq!((told.close, told.text(3)), (None, String::new()));
        let cause = session.ended().await;
        let (rest, end) = read_out(&mut stdin).await;
        Saw {
            cause,
            write: stdout.write_all(b"late").await,
            input: ([b"bef", rest.as_slice()].concat(), end),
            after: stderr.write_all(b"after").await,
        }
    })
}

/// Returns a service that hands its handles out, and never ends.
fn hand(
    handed: oneshot::Sender<Handles>,
    kind: Kind,
) -> BoxCloneSyncService<ChannelSet, (), BoxError> {
    let handed = Arc::new(Mutex::new(Some(handed)));
    let give = move |handles| {
        let handed = handed.lock().unwrap().take();
        let _ = handed.expect("there is one session").send(handles);
    };
    match kind {
        Kind::Plain => BoxCloneSyncService::new(service_fn(move |mut set: ChannelSet| {
            give(Handles {
                stdin: set.take_reader(0).unwrap(),
                stdout: set.take_writer(1).unwrap(),
                stderr: set.take_writer(2).unwrap(),
                session: set.session().clone(),
            });
            std::future::pending()
        })),
        Kind::Command => {
            let command = ServiceBuilder::new()
                .layer(RemoteCommandLayer::new())
                .service_fn(move |command: RemoteCommand| {
                    give(Handles {
                        stdin: command.stdin.unwrap(),
                        stdout: command.stdout.unwrap(),
                        stderr: command.stderr.unwrap(),
                        session: command.session,
                    });
                    std::future::pending::<Result<ExitStatus, BoxError>>()
                });
            BoxCloneSyncService::new(command)
        }
    }
}

#[test]
fn handles_outlive_their_runtime() {
    let _watchdog = Watchdog::bites_after(secs(50));
    for kind in [Kind::Plain, Kind::Command] {
        for subprotocol in EVERY {
            let context = format!("{kind:?} service, on {subprotocol:?}");
            let saw = aborted(kind, subprotocol);
            check_handles(Aborted, subprotocol, &saw, true, &context);
        }
    }
}
