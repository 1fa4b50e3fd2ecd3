//! The purpose of a stream, which its headers name.

use std::time::Duration;

use tokio::time::Instant;

use super::handoff::Handoff;
use crate::{
    protocol::MAX_PAIRS,
    spdy::{Headers, Pairs},
};

/// The channels of a command, by the type of their streams.
const TYPES: [&[u8]; 5] = [b"stdin", b"stdout", b"stderr", b"error", b"resize"];

/// The channel of the input.
pub(super) const STDIN: u8 = 0;

/// The time within which a client has to open all streams of a command. Go's servers wait as long.
const OPEN_WITHIN: Duration = Duration::from_secs(30);

/// The channel of the error stream, which ends last.
pub(super) const ERROR: u8 = 3;

/// The purpose of all streams of a session.
#[derive(Debug)]
pub(crate) enum Roles {
    /// The channels of a command, for which the client opens a stream each.
    Command(Command),
    /// Connections to ports.
    Ports {
        pairs: Pairs,
        handoff: Handoff,
        /// The time after which a connection whose data is not read is reset, once it holds up the
        /// session.
        stall: Option<Duration>,
    },
}

impl Roles {
    /// Returns the roles of a session whose streams stand for these channels.
    pub(crate) fn command(channels: impl Iterator<Item = bool>) -> Self {
        Self::Command(Command::new(channels))
    }

    /// Returns the roles of a session whose streams are connections.
    pub(crate) fn ports(handoff: Handoff) -> Self {
        Self::Ports {
            pairs: Pairs::new(MAX_PAIRS),
            handoff,
            stall: None,
        }
    }

    /// Sets the time after which a connection is reset that holds up the session.
    pub(crate) fn reset_stalled(mut self, after: Option<Duration>) -> Self {
        if let Self::Ports { stall, .. } = &mut self {
            *stall = after;
        }
        self
    }
}

/// The role of a stream of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It stands for this channel.
    Channel(u8),
    /// It is accepted, and its data is discarded: the request did not ask for it, or its type is
    /// unknown. Go's servers do the same.
    Ignored,
    /// Its channel has a stream already.
    Duplicate,
}

/// The streams of a command.
#[derive(Debug)]
pub(crate) struct Command {
    /// Set for each channel whose stream has not been opened.
    missing: [bool; TYPES.len()],
    /// Set for each channel that there is.
    wanted: [bool; TYPES.len()],
}

impl Command {
    fn new(channels: impl Iterator<Item = bool>) -> Self {
        let mut wanted = [false; TYPES.len()];
        for (wanted, channel) in wanted.iter_mut().zip(channels) {
            *wanted = channel;
        }
        Self {
            missing: wanted,
            wanted,
        }
    }

    /// Handles a new stream.
    pub(super) fn open(&mut self, headers: &Headers<'_>) -> Role {
        let channel = headers
            .get("streamtype")
            .and_then(|kind| TYPES.iter().position(|name| *name == kind))
            .filter(|&channel| self.wanted[channel]);
        let Some(channel) = channel else {
            return Role::Ignored;
        };
        match std::mem::replace(&mut self.missing[channel], false) {
            true => Role::Channel(channel as u8),
            false => Role::Duplicate,
        }
    }

    /// Returns the instant at which all streams have to be open, unless they are.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        (!self.is_complete()).then(|| now + OPEN_WITHIN)
    }

    /// Returns whether all streams have been opened.
    pub(super) fn is_complete(&self) -> bool {
        !self.missing.contains(&true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spdy::write_headers;

    fn open(command: &mut Command, kind: &str) -> Role {
        let block = write_headers(&[("streamtype", kind)]);
        command.open(&Headers::read(&block).unwrap())
    }

    #[test]
    fn a_command_starts_once_all_its_streams_are_open() {
        // Without stdin and a terminal.
        let mut command = Command::new([false, true, true, true, false].into_iter());
        for (kind, role) in [
            ("error", Role::Channel(ERROR)),
            ("stdout", Role::Channel(1)),
            ("stdin", Role::Ignored),
            ("resize", Role::Ignored),
            ("data", Role::Ignored),
            ("stdout", Role::Duplicate),
        ] {
            assert_eq!(open(&mut command, kind), role, "{kind}");
            assert!(!command.is_complete());
        }
        assert_eq!(open(&mut command, "stderr"), Role::Channel(2));
        assert!(command.is_complete());
        let block = write_headers(&[]);
        assert_eq!(command.open(&Headers::read(&block).unwrap()), Role::Ignored);
    }

    #[test]
    fn old_versions_have_no_channel_for_sizes() {
        let mut command = Command::new([true; 4].into_iter());
        assert_eq!(open(&mut command, "resize"), Role::Ignored);
        for kind in ["error", "stdin", "stdout", "stderr"] {
            assert!(!command.is_complete());
            open(&mut command, kind);
        }
        assert!(command.is_complete());
    }
}
