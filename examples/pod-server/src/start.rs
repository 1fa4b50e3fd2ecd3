//! From the command line to a listening server, and back.

use std::{
    env,
    io::{self, IsTerminal, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::process::ExitStatusExt,
    pin::pin,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use clap::{CommandFactory, Parser, error::ErrorKind};
use rustix::process::Signal;
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};
use tower_wsstream::{Sessions, access::SessionPermits};
use tracing_subscriber::EnvFilter;

use crate::{
    connection::Connections,
    guard::Guard,
    options::{Options, TOKEN_VARIABLE, TlsFiles},
    pod::Pod,
    process, reaper,
    routes::{self, Limits},
    signals, ticker, tls,
};

/// The time for the tasks of a server that has stopped, and after them for the commands that end
/// with it. It is longer than the time between their
/// SIGHUP and SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The time for the sessions of a server that stops, and for the answers that it is sending. A
/// client that reads needs a moment of it. It is shorter than the 30 s after which a kubelet or an
/// init system kills.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of sessions that are told at once that there are too many. Each is over in a moment,
/// unless its client keeps it.
const REFUSALS: usize = 100;

/// The time between two looks at the sessions of a server that lets them finish.
const FINISH_STEP: Duration = Duration::from_millis(100);

pub fn main() -> ExitCode {
    // Before anything else, because this process may be the pod's.
    if env::args_os().nth(1).is_some_and(|arg| arg == ticker::MARK) {
        ticker::run();
    }
    let options = Options::parse();
    let token = match options.token(env::var_os(TOKEN_VARIABLE)) {
        Ok(token) => token,
        Err(error) => Options::command()
            .error(ErrorKind::ValueValidation, error)
            .exit(),
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    match run(&options, token) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pod-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options, token: Option<String>) -> io::Result<()> {
    let tls = options.tls.as_ref().map(tls::acceptor).transpose()?;
    let runtime = Runtime::new()?;
    let result = runtime.block_on(async {
        signals::catch_ignored();
        // Before the address is printed, because its reader may stop the server right away.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;

        let listener = TcpListener::bind(options.listen).await.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("listening on {}: {error}", options.listen),
            )
        })?;
        let (pod, keep_running) = Pod::start(ticker::argv())
            .await
            .map_err(|error| io::Error::other(format!("the pod's process: {error}")))?;
        announce(
            listener.local_addr()?,
            options.tls.as_ref(),
            token.is_some(),
        )?;

        let sessions = Sessions::default();
        let limits = Limits {
            idle_timeout: options.idle_timeout(),
            keep_alive: options.keep_alive(),
            permits: SessionPermits::new(options.max_sessions()),
            refusals: SessionPermits::new(REFUSALS),
        };
        let router = routes::router(&pod, Guard::new(token), &limits, &sessions);
        let (stopping, stop) = watch::channel(());
        let serving = Connections::new(tls, router, stop).serve_all(listener);
        let mut keep_running = pin!(keep_running);
        tokio::select! {
            () = serving => {}
            // On this thread, which has nothing else to do. The sessions are on others, and it
            // must not wait for them.
            () = &mut keep_running => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        // Nothing is accepted any more, because `serving` was dropped. A second signal does not
        // wait.
        let stopped = async {
            finish(&sessions, options.drain_after()).await;
            drain(&sessions, &pod, &stopping).await;
        };
        tokio::select! {
            () = stopped => {}
            () = keep_running => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    });
    let starting = async { timeout(STOP_TIMEOUT, process::stop_starting()).await };
    let _stopped = runtime.block_on(starting);
    // Drops all sessions, and with them their commands. The pod's process went with the block. A
    // command that is stuck in its start is not waited for any longer.
    runtime.shutdown_timeout(STOP_TIMEOUT);
    reaper::wait_for_all(STOP_TIMEOUT);
    result
}

/// Refuses new sessions, and waits until the others have ended by themselves, or for so long.
async fn finish(sessions: &Sessions, limit: Duration) {
    sessions.close();
    // A limit beyond all time is none.
    let deadline = Instant::now().checked_add(limit);
    while !sessions.is_empty() && deadline.is_none_or(|deadline| Instant::now() < deadline) {
        sleep(FINISH_STEP).await;
    }
}

/// Ends the sessions, then the logs that are followed, and then the connections. Each session
/// learns why it ends, and answers that are being sent are completed.
async fn drain(sessions: &Sessions, pod: &Pod, stopping: &watch::Sender<()>) {
    let deadline = Instant::now() + DRAIN_TIMEOUT;
    let drained = sessions.drain(DRAIN_TIMEOUT).await;
    tracing::info!(drained.ended, drained.cut, "stopped");
    // A log that is followed without a session is an ordinary answer, which would not end by
    // itself. The process of the pod is killed with the server.
    pod.output()
        .end(ExitStatus::from_raw(Signal::KILL.as_raw()));
    // After the sessions: as long as there are some, connections stay open for requests, and the
    // client of a new session learns why it is refused.
    stopping.send_replace(());
    if timeout_at(deadline, stopping.closed()).await.is_err() {
        tracing::info!(
            connections = stopping.receiver_count(),
            "cut at the deadline"
        );
    }
}

/// Returns an address for a browser on this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Says what to do next: on stdout and at once, for people, and for scripts that asked for port 0.
fn announce(address: SocketAddr, tls: Option<&TlsFiles>, token: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let scheme = if tls.is_some() { "https" } else { "http" };
    writeln!(out, "listening on {scheme}://{address}")?;
    writeln!(out, "open {scheme}://{}/ in a browser", reachable(address))?;
    let server = match tls {
        Some(files) => format!(
            "https://{address} --certificate-authority {}",
            files.cert.display()
        ),
        None if token => {
            writeln!(
                out,
                "kubectl sends its token over TLS only: add --tls-cert and --tls-key, or, with a \
                 proxy in front that speaks it,"
            )?;
            "https://PROXY".to_owned()
        }
        None => format!("http://{address}"),
    };
    let token = if token { " --token TOKEN" } else { "" };
    writeln!(
        out,
        "try: kubectl --kubeconfig /dev/null --server {server}{token} exec -it demo -- sh"
    )?;
    out.flush()
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
