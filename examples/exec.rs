//! The smallest exec that runs processes: the one to copy.
//!
//!     cargo run --example exec
//!     kubectl --kubeconfig /dev/null --server http://127.0.0.1:8007 exec demo -- sh -c 'echo hello; exit 3'
//!
//! prints `hello`, and says that the command terminated with exit code 3. Any WebSocket
//! client sees the same, here as base64 after the number of its channel:
//!
//!     npx wscat -s base64.channel.k8s.io -c 'ws://127.0.0.1:8007/api/v1/namespaces/default/pods/demo/exec?command=id&stdout=true'
//!
//! It has no authentication: add some before others can reach it (kubectl sends a token
//! over TLS only). The repository's package `pod-server` is the large one, with terminals
//! and TLS.
//!
//! `support/documents.rs` is for kubectl alone, which asks for more than an exec. A package of its
//! own needs axum, tower (`limit`, `load-shed`, `util`), tokio (`full`),
//! hyper (`http1`, `server`), hyper-util (`tokio`, `service`), and rustix (`process`).

#[path = "support/documents.rs"]
mod documents;

use std::{convert::Infallible, future::pending, io, process::Stdio, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, copy, copy_buf},
    net::TcpListener,
    process::{Child, ChildStdin, Command},
};
use tower::ServiceBuilder;
use tower_wsstream::{
    BoxError, ChannelReader, ChannelWriter, Sessions, WsStreamLayer,
    remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
};

/// A command and its input. Dropping it kills the command, unless the command has been
/// waited for.
struct Running {
    child: Child,
    /// Dropped after the child: a command that is killed must not see the end of its
    /// input first, and take an upload that was cut off for a complete one.
    input: Option<ChildStdin>,
}

impl Drop for Running {
    /// Kills the process group, because `kill_on_drop` leaves the processes that the
    /// command has started. A process that has left the group survives this too;
    /// `pod-server` finds those.
    fn drop(&mut self) {
        let leader = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = leader.and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Runs a command. When the client is gone, this future is dropped and the command dies.
async fn run(command: RemoteCommand) -> Result<ExitStatus, BoxError> {
    let options = &command.options;
    if options.tty {
        return Err("there are no terminals here: leave out -t".into());
    }
    let (program, arguments) = options.command.split_first().ok_or("no command")?;
    // The first poll comes before the answer to the request. Over SPDY, with `StreamingLayer`, the
    // next one comes only once the client has opened its streams: no command starts before that.
    tokio::task::yield_now().await;
    let pipe = |wanted| {
        if wanted {
            Stdio::piped()
        } else {
            Stdio::null()
        }
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(pipe(options.stdin))
        .stdout(pipe(options.stdout))
        .stderr(pipe(options.stderr))
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let input = child.stdin.take();
    let mut running = Running { child, input };

    let input = feed(command.stdin, &mut running.input);
    let (out, err) = (pump(out, command.stdout), pump(err, command.stderr));
    // The wait comes last. Until then the IDs of the process and of its group are not
    // reused, so `Running` can still kill a group whose shell has exited and has left
    // processes that hold its output.
    let exit = async {
        tokio::try_join!(out, err)?;
        running.child.wait().await
    };
    // The session is over when the command and its output have ended. The input does
    // not count, because a client may keep it open forever.
    tokio::select! {
        exit = exit => Ok(exit?.into()),
        cut_off = input => Err(cut_off.into()),
    }
}

/// Passes the client's input on. Resolves only if the input was cut off.
async fn feed(from: Option<ChannelReader>, to: &mut Option<ChildStdin>) -> io::Error {
    if let (Some(mut from), Some(input)) = (from, &mut *to) {
        match copy_buf(&mut from, input).await {
            // If the command closes its input, the rest is discarded.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => return error,
            Ok(_) => {}
        }
    }
    *to = None;
    pending().await
}

async fn pump(from: Option<impl AsyncRead + Unpin>, to: Option<ChannelWriter>) -> io::Result<()> {
    if let (Some(mut from), Some(mut to)) = (from, to) {
        copy(&mut from, &mut to).await?;
    }
    Ok(())
}

/// The route of exec, beside the documents that kubectl reads first.
fn app(sessions: Sessions) -> Router {
    let exec = ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()).sessions(sessions))
        .layer(RemoteCommandLayer::new())
        // These layers count sessions. They are inside, because kubectl shows a refusal
        // from here. Further out they would refuse the upgrade, and kubectl would not
        // show why.
        .load_shed()
        .concurrency_limit(64)
        .service_fn(run);
    documents::router().route_service(&format!("{}/exec", documents::POD), exec)
}

async fn serve(listener: TcpListener, app: Router) -> Infallible {
    loop {
        let tcp = match listener.accept().await {
            Ok((tcp, _)) => tcp,
            // Usually there is no descriptor left until a connection ends.
            Err(error) => {
                eprintln!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = tcp.set_nodelay(true);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(10))
            .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(app.clone()))
            .with_upgrades();
        tokio::spawn(connection);
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:8007").await?;
    println!("listening on http://{}", listener.local_addr()?);
    let sessions = Sessions::default();
    tokio::select! {
        never = serve(listener, app(sessions.clone())) => match never {},
        _ = tokio::signal::ctrl_c() => {}
    }
    sessions.drain(Duration::from_secs(5)).await;
    Ok(())
}

#[cfg(all(test, feature = "testing"))]
#[path = "exec/tests.rs"]
mod tests;
