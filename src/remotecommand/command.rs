use http::request::Parts;

use super::{Options, TerminalSizes};
use crate::{ChannelReader, ChannelWriter, Session};

/// A command of exec or attach: its options and its streams.
///
/// # Examples
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use tower_wsstream::{
///     BoxError, Status,
///     remotecommand::{ExitStatus, RemoteCommand},
/// };
///
/// /// `wc -c`
/// async fn count(mut command: RemoteCommand) -> Result<ExitStatus, BoxError> {
///     drop(command.request.take());
///     let (Some(mut stdin), Some(mut stdout)) = (command.stdin, command.stdout) else {
///         // kubectl prints this text.
///         return Err(Status::failure("BadRequest", "call this with -i", 400).into());
///     };
///     let mut input = Vec::new();
///     stdin.read_to_end(&mut input).await?;
///     stdout.write_all(format!("{}\n", input.len()).as_bytes()).await?;
///     Ok(ExitStatus::success())
/// }
/// # let _ = count;
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct RemoteCommand {
    /// The parameters of the client's request.
    pub options: Options,
    /// The input, if the client asked for it.
    pub stdin: Option<ChannelReader>,
    /// The output, if the client asked for it.
    pub stdout: Option<ChannelWriter>,
    /// The error output, if the client asked for it. It is always `None` with a terminal.
    pub stderr: Option<ChannelWriter>,
    /// The sizes of the client's terminal, if it has one.
    pub resize: Option<TerminalSizes>,
    /// A handle to the session.
    pub session: Session,
    /// The head of the upgrade request, with the extensions that outer layers have inserted.
    ///
    /// Drop it early: it keeps a read buffer of the server alive, usually 8 KiB.
    pub request: Option<Box<Parts>>,
}
