//! A Kubernetes API server with one running pod, `demo`, whose commands are processes of this
//! machine. An unmodified kubectl of any version runs them through `StreamingLayer`.
//!
//! ```text
//! cargo run -p pod-server
//! kubectl --kubeconfig /dev/null --server http://127.0.0.1:8001 exec -it demo -- sh
//! ```
//!
//! opens a shell on this machine, and so does the page that the server has at `/`. Pipes, exit codes,
//! window sizes and Ctrl-C work as in a pod. With the same two options, `attach -i demo` joins the
//! pod's own process, which counts the seconds and echoes each line; `logs -f demo` shows its output,
//! and `port-forward demo 9000:8001` forwards a port of this machine, here that of the server.
//!
//! Start with `routes.rs`: it is the whole server as an axum `Router`.
//!
//! The public modules of this library are what `examples/cri-server` builds its containers from.
//!
//! | file | what it is |
//! |---|---|
//! | `routes.rs` | the routes, and the layers on each of them |
//! | `guard.rs`, `authority.rs` | middleware: who may reach the server at all |
//! | `trace.rs`, `refusal.rs` | the log of the requests, and the refusals that handlers share |
//! | `target.rs` | an extractor: the pod that a path names |
//! | `discovery.rs` | handlers: the documents that a client reads before it starts a session |
//! | `web.rs`, `../web` | the page at `/`: a terminal in the browser |
//! | `overview.rs` | a handler: the list of the sessions, for the page |
//! | `acknowledge.rs` | flow control for browsers, between exec or attach and the upgrade |
//! | `exec.rs`, `copy.rs` | a service of commands: a session's channels and a process |
//! | `attach.rs` | another: a session's channels and the pod's process |
//! | `permit.rs` | a filter: how many sessions there are at once |
//! | `forward.rs` | a service of ports: a session's channels and a port of this machine |
//! | `logs.rs` | an ordinary handler, whose body also goes out as messages of a WebSocket |
//! | `end.rs` | the end of a session, for the services |
//! | `pod.rs`, `ticker.rs` | the pod's process, and the program that it runs |
//! | `running.rs` | one run of it |
//! | `hub.rs`, `seat.rs`, `recent.rs` | its output: for clients that are attached, and for the log |
//! | `process.rs`, `stdio.rs`, `signals.rs` | how a command starts |
//! | `ending.rs`, `reaper.rs`, `stat.rs` | how it ends with its session |
//! | `options.rs`, `start.rs` | the command line, and from there to a server that listens |
//! | `connection.rs`, `tls.rs` | HTTP/1.1 and HTTP/2, with TLS or without, on ports that strangers reach |
//! | `stream_deadline.rs`, `write_deadline.rs` | deadlines for clients that do not read |

#[cfg(not(target_os = "linux"))]
compile_error!(
    "pod-server needs Linux: it finds the processes of a session in /proc, and holds them by pidfds"
);

mod acknowledge;
pub mod attach;
mod authority;
mod connection;
mod copy;
mod discovery;
pub mod end;
mod ending;
pub mod exec;
pub mod forward;
mod guard;
pub mod hub;
#[cfg(test)]
mod limit;
mod logs;
mod options;
mod overview;
#[cfg(test)]
mod own_process;
pub mod permit;
mod pod;
pub mod process;
pub mod reaper;
mod recent;
mod refusal;
mod routes;
pub mod running;
mod seat;
pub mod signals;
mod start;
mod stat;
mod stdio;
mod stream_deadline;
mod target;
mod ticker;
mod tls;
mod trace;
mod web;
mod write_deadline;

pub use start::main;
