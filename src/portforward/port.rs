use std::{fmt, sync::Arc};

use http::request::Parts;

use super::stream::ForwardedStream;
use crate::Session;

/// One port of a session: its number and its data.
#[non_exhaustive]
pub struct ForwardedPort {
    /// The port that the client asked for, 1 to 65535.
    pub port: u16,
    /// Its place among the ports of the request, from 0; the same port may be
    /// asked for twice.
    pub index: usize,
    /// The data of the port. What the client sends before anyone reads waits in it.
    pub stream: ForwardedStream,
    /// The session, which the ports of a request share: its end, and its name in
    /// the logs. To close it ends all of them.
    pub session: Session,
    /// The head of the upgrade request, with what outer layers have put into
    /// its extensions; the ports of a request share it. Drop it early: it keeps a
    /// read buffer of the server alive, 8 KiB as a rule.
    pub request: Option<Arc<Parts>>,
}

/// Without the request: it may hold credentials.
impl fmt::Debug for ForwardedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardedPort")
            .field("port", &self.port)
            .field("index", &self.index)
            .field("stream", &self.stream)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
