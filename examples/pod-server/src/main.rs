//! A Kubernetes API server with one running pod, `demo`, whose commands are
//! local processes: an unmodified kubectl runs them through `WsStreamLayer`.
//!
//! ```text
//! cargo run -p pod-server
//! kubectl --kubeconfig /dev/null --server http://127.0.0.1:8001 exec -it demo -- sh
//! ```
//!
//! shows a shell on this machine: pipes, exit codes, window sizes and Ctrl-C work
//! as in a pod. `attach -i demo` joins the pod's own process, which counts the
//! seconds and gives back each line; `logs -f demo` shows what it prints. kubectl
//! 1.29 and 1.30 need `KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true`.
//!
//! Where to look:
//!
//! | file | what |
//! |---|---|
//! | `server.rs` | the tower stack, and the listener under it |
//! | `connection.rs`, `tls.rs`, `write_deadline.rs`, `stream_deadline.rs` | hyper: HTTP/1.1 and HTTP/2, with TLS or without, and their deadlines |
//! | `exec.rs`, `copy.rs` | the service: a session's channels and a process |
//! | `attach.rs` | the other service: a session's channels and the pod's process |
//! | `forward.rs` | the third one: a port of this machine |
//! | `pod.rs`, `ticker.rs` | that process, and the program that it runs |
//! | `hub.rs` | from one process to many attachers, none of whom it waits for |
//! | `logs.rs`, `recent.rs` | an ordinary HTTP service: what the process has printed |
//! | `process.rs`, `pty.rs`, `trampoline.rs` | how a command starts, without `unsafe` |
//! | `end.rs`, `ending.rs` | how it ends when its session does |
//! | `guard.rs`, `authority.rs`, `args.rs`, `duration.rs` | who may reach it, and for how long |
//! | `api.rs`, `discovery.rs` | the rest of an API server, and the paths of a kubelet, which a real API server may use |

#[cfg(target_os = "linux")]
mod api;
#[cfg(target_os = "linux")]
mod args;
#[cfg(target_os = "linux")]
mod attach;
#[cfg(target_os = "linux")]
mod authority;
#[cfg(target_os = "linux")]
mod connection;
#[cfg(target_os = "linux")]
mod copy;
#[cfg(target_os = "linux")]
mod discovery;
#[cfg(target_os = "linux")]
mod duration;
#[cfg(target_os = "linux")]
mod end;
#[cfg(target_os = "linux")]
mod ending;
#[cfg(target_os = "linux")]
mod exec;
#[cfg(target_os = "linux")]
mod forward;
#[cfg(target_os = "linux")]
mod guard;
#[cfg(target_os = "linux")]
mod hub;
#[cfg(target_os = "linux")]
mod logs;
#[cfg(target_os = "linux")]
mod pod;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod pty;
#[cfg(target_os = "linux")]
mod recent;
#[cfg(target_os = "linux")]
mod server;
#[cfg(target_os = "linux")]
mod start;
#[cfg(target_os = "linux")]
mod stream_deadline;
#[cfg(target_os = "linux")]
mod ticker;
#[cfg(target_os = "linux")]
mod tls;
#[cfg(target_os = "linux")]
mod trampoline;
#[cfg(target_os = "linux")]
mod write_deadline;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    start::main()
}

/// The processes of a session are found in `/proc` and held by pidfds. The
/// library itself runs everywhere.
#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("pod-server runs on Linux only");
    std::process::exit(2);
}
