use http::request::Parts;

use super::{Options, TerminalSizes};
use crate::{ChannelReader, ChannelWriter, Session};

/// A command of exec or attach: its options and its streams.
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
