//! From the command line to a listening server, and back.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tower_wsstream::Sessions;
use tracing_subscriber::EnvFilter;

use crate::args::{self, Args, Asked, TlsFiles};
use crate::guard::Guard;
use crate::pod::Pod;
use crate::{ending, server, ticker, tls, trampoline};

/// How long a server that was told to stop waits for the commands that it ends:
/// longer than the time between their SIGHUP and SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// How long it waits for its sessions: for a client that reads, a moment. Shorter
/// than the 30 s that a kubelet or an init system waits before it kills.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Exit code of a wrong command line.
const USAGE_ERROR: u8 = 2;

pub(crate) fn main() -> ExitCode {
    // Before anything else: a trampoline is no server, and starts no threads.
    match std::env::args_os().nth(1) {
        Some(arg) if arg == trampoline::MARK => trampoline::run(),
        Some(arg) if arg == ticker::MARK => ticker::run(),
        _ => {}
    }
    let args = match args::parse(
        std::env::args_os().skip(1),
        std::env::var_os(args::TOKEN_VARIABLE),
    ) {
        Ok(Asked::Serve(args)) => args,
        Ok(Asked::Help) => {
            println!("{}", args::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("pod-server: {error}");
            return ExitCode::from(USAGE_ERROR);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pod-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> io::Result<()> {
    let acceptor = args.tls.as_ref().map(tls::acceptor).transpose()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(async {
        // Before the address is printed: who reads it may stop us right away.
        let (mut interrupt, mut terminate) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        );
        let listener = TcpListener::bind(args.listen).await.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("listening on {}: {error}", args.listen),
            )
        })?;
        let (pod, keeping) = Pod::start(ticker::argv())
            .await
            .map_err(|error| io::Error::other(format!("the pod's process: {error}")))?;
        announce(
            listener.local_addr()?,
            args.tls.as_ref(),
            args.token.is_some(),
        )?;
        let guard = Guard::new(args.token);
        let sessions = Sessions::default();
        let serving = server::serve(
            listener,
            acceptor,
            guard,
            pod,
            args.idle_timeout,
            sessions.clone(),
        );
        let mut keeping = pin!(keeping);
        tokio::select! {
            () = serving => {}
            // On this thread, which has nothing else to do: the sessions, which
            // it must not wait for, are on others.
            () = &mut keeping => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        // Nothing is accepted any more; who is there learns why it ends. A second
        // signal does not wait for them.
        let draining = sessions.drain(DRAIN_TIMEOUT);
        tokio::select! {
            drained = draining => tracing::info!(drained.ended, drained.cut, "stopped"),
            () = keeping => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    });
    // Drops every session, and with it every command; the pod's process has gone
    // with the block.
    drop(runtime);
    ending::wait_for_all(STOP_TIMEOUT);
    result
}

/// On stdout and at once, for people and for scripts that asked for port 0.
fn announce(address: SocketAddr, tls: Option<&TlsFiles>, token: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let scheme = if tls.is_some() { "https" } else { "http" };
    writeln!(out, "listening on {scheme}://{address}")?;
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
