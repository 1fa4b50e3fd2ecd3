//! A deadline for a connection whose client does not read.
//!
//! hyper waits forever for a client to read its answer. The kernel can stop waiting, and only the
//! kernel knows whether a slow client has read a byte: hyper learns of it only when a whole buffer
//! has left.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::net::sockopt::set_tcp_user_timeout;

/// A limit on how long the client of a socket may neither read nor acknowledge any byte that was
/// written. The limit stays in force when this is dropped.
#[derive(Debug)]
pub(crate) struct WriteDeadline {
    // A second descriptor of the socket, because hyper owns the first.
    socket: OwnedFd,
    limit: Duration,
}

impl WriteDeadline {
    pub(crate) fn set(socket: impl AsFd, limit: Duration) -> io::Result<Self> {
        let socket = socket.as_fd().try_clone_to_owned()?;
        let millis = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        set_tcp_user_timeout(&socket, millis)?;
        Ok(Self { socket, limit })
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Lifts the limit for a session. A user who has stopped the output of a terminal is still
    /// there, and the library decides how long it waits.
    pub(crate) fn lift(&self) {
        if let Err(error) = set_tcp_user_timeout(&self.socket, 0) {
            tracing::debug!(%error, "a write deadline was not lifted");
        }
    }
}

#[cfg(test)]
#[path = "write_deadline_tests.rs"]
mod tests;
