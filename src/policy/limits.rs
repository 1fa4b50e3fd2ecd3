use std::time::Duration;

use super::time::time_for;
use crate::protocol::ConfigError;

/// The default receive window of a channel, which holds eight messages of kubectl. With a smaller
/// one, reading would more often pause in front of a resize or Ctrl-C that is behind unread input.
const DEFAULT_RECEIVE_WINDOW: usize = 256 * 1024;

/// The default bound on the queue of one channel: two writes of 32 KiB in flight.
const DEFAULT_SEND_BUDGET: usize = 64 * 1024;

/// The default bound on the queue of a session: five channels with full budgets, or the largest DATA
/// frame of SPDY beside one.
const DEFAULT_HIGH_WATER: usize = 320 * 1024;

/// The default bound on the memory of a session's stalled channels beyond their windows. At
/// 80 KiB/s, a kubectl whose input is not read survives for ten minutes.
const DEFAULT_STALL_RESERVE: usize = 48 * 1024 * 1024;

/// The largest frame by default. Payload is streamed, so this only guards against nonsense in a
/// header.
const DEFAULT_MAX_FRAME: u64 = 4 << 30;

/// The rate, in bytes a second, of the slowest link on which a terminal is of any use: a phone with
/// GPRS at the edge of its cell.
const DEFAULT_MIN_READ_RATE: u64 = 2 * 1024;

/// Bounds on the memory that a peer can make a session hold, and on the time for which it can.
///
/// Set them with [`SessionConfig::limits`](crate::SessionConfig::limits). As a request extension,
/// they replace all of the layer's limits: one that they do not set has its default.
///
/// # Examples
///
/// ```
/// use tower_wsstream::policy::Limits;
///
/// // For a web terminal: little data in flight, and no message above 1 MiB.
/// let limits = Limits::default()
///     .receive_window(64 * 1024)
///     .max_message(1024 * 1024);
/// # let _ = limits;
/// ```
///
/// For many sessions on a small machine, and for links that are slower than a modem:
///
/// ```
/// use tower_wsstream::{SessionConfig, policy::Limits};
///
/// # fn main() -> Result<(), tower_wsstream::ConfigError> {
/// let limits = Limits::default()
///     .receive_window(32 * 1024)
///     .send_budget(16 * 1024)
///     .high_water(64 * 1024)
///     .stall_reserve(0)
///     .max_frame(64 * 1024)
///     .min_read_rate(512);
/// SessionConfig::default().limits(limits).check()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub(crate) receive_window: usize,
    pub(crate) send_budget: usize,
    pub(crate) high_water: usize,
    pub(crate) stall_reserve: usize,
    pub(crate) max_frame: u64,
    pub(crate) max_message: Option<u64>,
    pub(crate) min_read_rate: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            receive_window: DEFAULT_RECEIVE_WINDOW,
            send_budget: DEFAULT_SEND_BUDGET,
            high_water: DEFAULT_HIGH_WATER,
            stall_reserve: DEFAULT_STALL_RESERVE,
            max_frame: DEFAULT_MAX_FRAME,
            max_message: None,
            min_read_rate: DEFAULT_MIN_READ_RATE,
        }
    }
}

impl Limits {
    /// Sets how many bytes of one readable channel may wait for its reader. Default 256 KiB.
    ///
    /// The capacity of the buffers counts, in steps of 16 KiB. Everything that arrives behind data
    /// for a full window waits until there is room, even a resize or a Close frame. Only a trickle
    /// is still read: see [`stall_reserve`](Self::stall_reserve). With base64, up to two bytes of
    /// the window stay unused.
    #[must_use]
    pub fn receive_window(mut self, bytes: usize) -> Self {
        self.receive_window = bytes;
        self
    }

    /// Sets how many bytes of one channel may be accepted from its writer before they are sent.
    /// Default 64 KiB.
    #[must_use]
    pub fn send_budget(mut self, bytes: usize) -> Self {
        self.send_budget = bytes;
        self
    }

    /// Sets how many bytes of all channels of a session may be accepted before they are sent.
    /// Default 320 KiB.
    #[must_use]
    pub fn high_water(mut self, bytes: usize) -> Self {
        self.high_water = bytes;
        self
    }

    /// Sets how many bytes beyond their windows stalled channels may use, in steps of 16 KiB.
    /// Default 48 MiB; 0 for none.
    ///
    /// client-go, and therefore kubectl, gives up when one of its writes takes longer than 60 s.
    /// While a channel's window is full and more data arrives for it, the session takes 80 KiB a
    /// second of that data into this reserve, for ten minutes with the default. After that it
    /// stops reading, but stays open and still sends Pongs. A second bound applies to all sessions
    /// of a [`Sessions`](crate::Sessions::with_stall_reserve) together. Of that, each gets an eighth of
    /// what the others have left, so a session alone gets its whole reserve only up to an eighth of the
    /// bound.
    ///
    /// In a tunnel of port-forward, a connection whose window is full takes the reserve
    /// as fast as its data arrives, so that the other connections continue. This leaves at least
    /// half of the bound for all sessions to pauses, and a quarter is never lent to connections.
    #[must_use]
    pub fn stall_reserve(mut self, bytes: usize) -> Self {
        self.stall_reserve = bytes;
        self
    }

    /// Sets the largest payload of one frame, in bytes. Default 4 GiB: payload is streamed and costs
    /// no memory.
    ///
    /// A larger frame is refused at its header, with close code 1009.
    #[must_use]
    pub fn max_frame(mut self, bytes: u64) -> Self {
        self.max_frame = bytes;
        self
    }

    /// Sets the largest payload of one message over all its fragments, in bytes. Unlimited by
    /// default.
    ///
    /// A larger message is refused at the header of the frame that exceeds the limit.
    #[must_use]
    pub fn max_message(mut self, bytes: u64) -> Self {
        self.max_message = Some(bytes);
        self
    }

    /// Sets the lowest rate, in bytes a second, at which a peer may read while the session waits
    /// for it. Default 2 KiB/s; it must be above 0.
    ///
    /// With a lower rate, the output of a peer that hardly reads stays in memory for longer. The
    /// rate applies in two places:
    ///
    /// * While the session closes, its queue must leave within the
    ///   [close limit](crate::SessionConfig::close_limit) plus the time that the queue takes at this
    ///   rate, and at the [`ByteRate`](super::ByteRate) if one is set. Otherwise the session ends as
    ///   [`Stalled`](crate::EndCause::Stalled). It also does if no byte leaves for 90 s.
    /// * A [keep-alive timeout](super::KeepAlive::timeout) is extended by the time that the output
    ///   in front of the Ping takes at this rate.
    #[must_use]
    pub fn min_read_rate(mut self, bytes_per_second: u64) -> Self {
        self.min_read_rate = bytes_per_second;
        self
    }

    /// Returns the time that a peer may take to read this many bytes.
    pub(crate) fn time_to_read(&self, bytes: u64) -> Duration {
        time_for(bytes, self.min_read_rate)
    }

    /// Checks the limits, most of which must be above 0.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let Limits {
            receive_window,
            send_budget,
            high_water,
            stall_reserve: _,
            max_frame,
            max_message,
            min_read_rate,
        } = *self;
        if receive_window == 0 {
            return Err(ConfigError::new("Limits::receive_window must be above 0"));
        }
        if send_budget == 0 || high_water == 0 {
            return Err(ConfigError::new(
                "Limits::send_budget and Limits::high_water must be above 0",
            ));
        }
        if max_frame == 0 || max_message == Some(0) {
            return Err(ConfigError::new(
                "Limits::max_frame and Limits::max_message must be above 0",
            ));
        }
        if min_read_rate == 0 {
            return Err(ConfigError::new("Limits::min_read_rate must be above 0"));
        }
        Ok(())
    }
}
