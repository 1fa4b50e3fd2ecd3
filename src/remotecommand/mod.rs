//! Kubernetes `exec` and `attach`: commands over the channels of a session.
//!
//! ```text
//!  WsStreamLayer::new(Protocols::default())   the channels of the query: stdin, stdout, stderr, tty
//!    RemoteCommandLayer::new()                ready message, resizes, exit status, last words
//!      your Service<RemoteCommand>            -> Result<ExitStatus, BoxError>
//! ```
//!
//! This module is built on the public interface of the crate, except for helpers that parse a
//! query, find the cause of an error and word a refusal. A layer of your own can do the same.
//!
//! | item | role |
//! |---|---|
//! | [`Protocols`] | the subprotocols, and the channels that a query asks for |
//! | [`RemoteCommandLayer`] | passes the channels to the service, and reports its outcome to the client |
//! | [`RemoteCommand`], [`Options`] | one command: its streams, and the parameters of the request |
//! | [`TerminalSizes`], [`TerminalSize`] | the client's terminal |
//! | [`ExitStatus`] | the outcome of a command |
//! | [`channel`] | the numbers of the channels |
//!
//! # The outcome of a command
//!
//! | the service | v4, v5 | older ones |
//! |---|---|---|
//! | returns exit code 0 | Status `Success` | nothing |
//! | returns another code | Status `NonZeroExitCode` | its text |
//! | fails with a [`Status`](crate::Status) in its error | that Status | its text |
//! | fails with tower's `Overloaded` or `Elapsed` in its error | Status `ServiceUnavailable`, `Timeout` | that text |
//! | fails with another error | Status `InternalError`: `Internal error occurred: {error}` | that text |
//! | panics, or its error panics when it is formatted | Status `InternalError` with a fixed text | that text |
//! | fails with a [`Rejection`](crate::Rejection) before the upgrade is answered | no upgrade: the answer is the refusal | no upgrade: the answer is the refusal |
//! | fails with a [`Rejection`](crate::Rejection) later | its Status | its text |
//! | is cut off by a layer, or after the end of the session | a Status that says so | its text |
//!
//! The client is shown the `Display` of an error. The report is always the last message, after all
//! output, and the close code is 1000.
//!
//! # Early output
//!
//! kubectl up to 1.33 drops data that arrives before it has set up its streams: the output of a
//! short command, or its exit code. For clients that may do this, output is held until there is
//! proof that they read, which takes a round trip and 20 ms. For all others, it leaves at once.
//! [`hold_by_user_agent`] tells them apart, and [`RemoteCommandLayer::hold`] sets another rule.
//! Nothing is held over SPDY, where the client opens all streams before the command starts.
//!
//! # Running a process
//!
//! `examples/exec.rs` runs a process, and is meant to be copied. It handles the following:
//!
//! * The session ends with the command and its output. A service that also waited for the end of
//!   stdin could wait forever, because the client may keep stdin open.
//! * A command may close its stdin, or never read it. The broken pipe is not a failure of the
//!   session; dropping the reader discards the rest of the input.
//! * An error of stdin is not the end of the input: kill the command before you close its pipe, or
//!   a truncated upload looks complete.
//! * When the client is gone, the service's future is dropped. `kill_on_drop` kills the command, but
//!   not the processes that it has started: give it its own process group.
//! * A [`std::process::ExitStatus`] converts to an [`ExitStatus`] by `into()`.
//!
//! # Examples
//!
//! ```
//! use tokio::io::AsyncWriteExt;
//! use tower::ServiceBuilder;
//! use tower_wsstream::{
//!     BoxError, WsStreamLayer,
//!     remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
//! };
//!
//! async fn run(mut command: RemoteCommand) -> Result<ExitStatus, BoxError> {
//!     if let Some(stdout) = &mut command.stdout {
//!         let words = command.options.command.join(" ".as_ref());
//!         stdout.write_all(words.as_encoded_bytes()).await?;
//!     }
//!     Ok(ExitStatus::from_code(3))
//! }
//!
//! let service = ServiceBuilder::new()
//!     .layer(WsStreamLayer::new(Protocols::default()))
//!     .layer(RemoteCommandLayer::new())
//!     .service_fn(run);
//! # let _ = service;
//! ```

pub mod channel;
mod command;
mod exit;
mod future;
mod layer;
mod options;
mod outcome;
mod protocols;
mod resize;
mod service;
mod sizes;
mod user_agent;

#[cfg(feature = "__fuzz")]
pub(crate) use self::resize::{MAX_VALUE as MAX_RESIZE, ResizeDecoder};
pub use self::{
    command::RemoteCommand, exit::ExitStatus, future::RemoteCommandFuture,
    layer::RemoteCommandLayer, options::Options, protocols::Protocols, resize::TerminalSize,
    service::RemoteCommandService, sizes::TerminalSizes, user_agent::hold_by_user_agent,
};
