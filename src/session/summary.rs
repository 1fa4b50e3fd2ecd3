use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use super::Peer;
use crate::{error::EndCause, protocol::Status, unwind::catch, wire::Traffic};

/// The report of a session that has ended, for
/// [`SessionConfig::on_end`](crate::SessionConfig::on_end).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionSummary {
    /// The session's number, as returned by [`Session::id`](crate::Session::id).
    pub id: u64,
    /// The selected subprotocol, or `""` if the client offered none.
    pub subprotocol: Cow<'static, str>,
    /// The name of the peer, if an outer layer has inserted one.
    pub peer: Option<Peer>,
    /// The time from the acceptance of the upgrade to the end of the connection.
    pub duration: Duration,
    /// The cause of the end.
    pub cause: EndCause,
    /// The code of our Close frame. `None` if no Close frame was sent, or one without a code. Over
    /// SPDY without a WebSocket, it is the code that the frame would have had.
    pub close_code: Option<u16>,
    /// The outcome that the last words reported, if they had a [`Status`].
    ///
    /// This is the outcome of a command, on every subprotocol, or the one given to
    /// [`LastWords::with_status`](crate::session::LastWords::with_status). It is `None` if the
    /// session ended without last words. A client that was lost while the session closed may not
    /// have received it.
    ///
    /// Its [`exit_code`](Status::exit_code) and [`reason`](Status::reason) tell apart sessions that
    /// have all [completed](EndCause::Completed): a command that succeeded, one with exit code 3
    /// (`NonZeroExitCode`), and one that a limit refused (`TooManyRequests`).
    pub status: Option<Status>,
    /// The data of each channel, in the order of their numbers.
    pub channels: Vec<ChannelSummary>,
    /// The number of messages for channels that do not exist, or that only the server writes.
    pub ignored: u64,
}

/// The data of one channel in a [`SessionSummary`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelSummary {
    /// The data that the peer sent, including data that arrived after the reader was dropped.
    pub received: Traffic,
    /// The data that the service wrote and the writer accepted.
    pub sent: Traffic,
}

impl SessionSummary {
    /// Returns the sum of the data received on all channels.
    pub fn received(&self) -> Traffic {
        total(self.channels.iter().map(|channel| channel.received))
    }

    /// Returns the sum of the data sent on all channels.
    pub fn sent(&self) -> Traffic {
        total(self.channels.iter().map(|channel| channel.sent))
    }

    /// Logs the event at the end of a session.
    pub(crate) fn log(&self) {
        let (received, sent) = (self.received(), self.sent());
        let status = self.status.as_ref();
        tracing::debug!(
            subprotocol = %self.subprotocol,
            peer = self.peer.as_ref().map(tracing::field::display),
            duration = ?self.duration,
            cause = %self.cause,
            close_code = self.close_code,
            exit_code = status.and_then(Status::exit_code),
            reason = status.and_then(Status::reason),
            received_bytes = received.bytes,
            received_messages = received.messages,
            sent_bytes = sent.bytes,
            sent_messages = sent.messages,
            channels = %Channels(&self.channels),
            ignored = self.ignored,
            "session over"
        );
    }
}

pub(super) fn total(all: impl Iterator<Item = Traffic>) -> Traffic {
    all.fold(Traffic::default(), |mut sum, one| {
        sum += one;
        sum
    })
}

/// Formats the bytes and messages of each channel that carried any, as in `0:<12/3 1:>4096/1`.
struct Channels<'a>(&'a [ChannelSummary]);

impl fmt::Display for Channels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (id, channel) in self.0.iter().enumerate() {
            for (arrow, traffic) in [('<', channel.received), ('>', channel.sent)] {
                if traffic != Traffic::default() {
                    let space = if std::mem::take(&mut first) { "" } else { " " };
                    let Traffic { bytes, messages } = traffic;
                    write!(f, "{space}{id}:{arrow}{bytes}/{messages}")?;
                }
            }
        }
        Ok(())
    }
}

type Callback = dyn Fn(&SessionSummary) + Send + Sync;

/// The closure that is called at the end of each session.
#[derive(Clone, Default)]
pub(crate) struct OnEnd(Option<Arc<Callback>>);

impl OnEnd {
    pub(crate) fn new(tell: impl Fn(&SessionSummary) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    /// Calls the closure. It is the user's code, and the session has ended, so a panic in it is
    /// only logged.
    pub(crate) fn tell(&self, summary: &SessionSummary) {
        let Some(tell) = &self.0 else { return };
        if catch(|| tell(summary)).is_err() {
            tracing::error!("the closure of on_end panicked");
        }
    }
}

impl fmt::Debug for OnEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnEnd").field(&self.0.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_show_what_moved() {
        let traffic = |bytes, messages| Traffic { bytes, messages };
        let channels = [
            ChannelSummary {
                received: traffic(12, 3),
                ..ChannelSummary::default()
            },
            ChannelSummary::default(),
            ChannelSummary {
                received: traffic(0, 1),
                sent: traffic(4096, 1),
            },
        ];
        assert_eq!(Channels(&channels).to_string(), "0:<12/3 2:<0/1 2:>4096/1");
        assert_eq!(Channels(&[]).to_string(), "");
    }
}
