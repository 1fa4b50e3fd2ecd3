use std::{fmt, sync::Arc};

use http::request::Parts;

use super::stream::ForwardedStream;
use crate::Session;

/// One port of a session.
#[non_exhaustive]
pub struct ForwardedPort {
    /// The number of the port that the client asked for, from 1 to 65535.
    pub port: u16,
    /// The index of the port in the request, from 0. A client may ask for the same port twice.
    pub index: usize,
    /// The data of the port. It buffers data that the client sends before the service reads it.
    pub stream: ForwardedStream,
    /// The session, which all ports of a request share. Closing it ends all of them.
    pub session: Session,
    /// The head of the upgrade request, with the extensions that outer layers have inserted.
    ///
    /// All ports of a request share it. Drop it early: it keeps a read buffer of the server alive,
    /// usually 8 KiB.
    pub request: Option<Arc<Parts>>,
}

/// Omits the request, which may hold credentials.
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
