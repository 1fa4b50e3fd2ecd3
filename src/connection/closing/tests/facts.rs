//! A plain model of the end: the facts of a session and when they were known, without phases.
//!
//! Each step of the machine has to be the one that follows from the facts.

use tokio::time::Instant;

use super::*;
use crate::connection::consequences::Urgency;

/// The facts of a session that ends.
#[derive(Debug, Default)]
pub(super) struct Facts {
    first: Option<EndCause>,
    /// The code of the first Close that the service asked for.
    requested: Option<u16>,
    pub(super) grace: Option<Instant>,
    peer_closed: bool,
    read_ended: bool,
    /// The peer has broken the protocol.
    faulty: bool,
    /// The Close frame is queued. Output has to make progress since the first instant, and must have
    /// left by the second one.
    queued: Option<(Instant, Instant)>,
    /// All output has left.
    gone: Option<Instant>,
    /// The last sign of the peer, since then.
    heard: Option<Instant>,
    /// A shutdown of the sending side has begun.
    shuts_down: Option<Instant>,
    is_shut_down: bool,
    pub(super) is_over: bool,
}

impl Facts {
    fn is_ending(&self) -> bool {
        self.first.is_some() && self.queued.is_none() && !self.is_over
    }

    fn waits_for_peer(&self) -> bool {
        self.gone.is_some() && (self.shuts_down.is_none() || self.is_shut_down) && !self.is_over
    }

    /// Returns whether the time for the last words has come.
    pub(super) fn may_say_last(&self, done: bool, writers: usize, grace_over: bool) -> bool {
        let at_once = matches!(self.first, Some(EndCause::Closed { .. }));
        self.is_ending() && (at_once || (done && (writers == 0 || grace_over)))
    }

    /// Returns the steps that an event leads to. The driver answers with this number of queued bytes
    /// and this result of a shutdown.
    pub(super) fn on(
        &mut self,
        event: &Event,
        now: Instant,
        bytes: u64,
        shutdown: Shutdown,
    ) -> Vec<String> {
        match event {
            Event::Cause(cause) => self.cause(cause.clone(), now, bytes),
            Event::CloseRequested { code, .. } => {
                self.requested.get_or_insert(*code);
                self.cause(EndCause::Closed { code: *code }, now, bytes)
            }
            Event::LastWordsSaid { told } if self.is_ending() => {
                let code = self.close_code(*told);
                self.queue(now, bytes);
                vec![format!("Close {code}")]
            }
            Event::RoundOver {
                service_done,
                output,
            } => {
                if *service_done && !self.is_ending() {
                    self.grace = None;
                }
                self.round(*output, now, shutdown)
            }
            Event::ReadEnded(kind) => {
                self.read_ended = true;
                let is_fin = *kind == FIN;
                if is_fin && self.is_ending() && self.peer_closed {
                    self.bring_forward(now + secs(1));
                    return vec![];
                }
                if is_fin && self.queued.is_some() {
                    return vec![];
                }
                self.cause(EndCause::ConnectionLost { kind: *kind }, now, bytes)
            }
            Event::Heard => {
                if self.waits_for_peer() {
                    self.heard = Some(now);
                }
                vec![]
            }
            _ => vec![],
        }
    }

    fn cause(&mut self, cause: EndCause, now: Instant, bytes: u64) -> Vec<String> {
        if self.is_over {
            return vec![];
        }
        let urgency = consequences::urgency(&cause);
        self.peer_closed |= matches!(cause, EndCause::PeerClosed { .. });
        self.faulty |= urgency == Urgency::CloseOnly;
        if self.queued.is_some() && urgency != Urgency::Gone {
            return vec![];
        }
        let grace = match &cause {
            EndCause::PeerClosed {
                code: Some(1000), ..
            } => 30,
            _ => 1,
        };
        self.bring_forward(now + secs(grace));
        let mut steps = Vec::new();
        if self.first.is_none() {
            self.first = Some(cause.clone());
            steps.push("Tell".into());
        }
        match urgency {
            Urgency::WaitForService | Urgency::CloseNow => {}
            Urgency::CloseOnly => {
                let code = match cause {
                    EndCause::TooLarge => 1009,
                    EndCause::InvalidText { .. } => 1007,
                    _ => 1002,
                };
                self.queue(now, bytes);
                steps.push(format!("Close {code} only"));
            }
            Urgency::Gone => {
                self.is_over = true;
                steps.push("Abandon".into());
            }
        }
        steps
    }

    fn bring_forward(&mut self, grace: Instant) {
        self.grace = Some(self.grace.map_or(grace, |before| before.min(grace)));
    }

    fn close_code(&self, told: bool) -> u16 {
        match self.first.as_ref().expect("it ends") {
            EndCause::PeerClosed { code, .. } => code.unwrap_or(0),
            EndCause::Closed { code } => self.requested.unwrap_or(*code),
            _ if told => 1000,
            EndCause::Completed | EndCause::ServiceFailed => 1011,
            _ => 1001,
        }
    }

    fn queue(&mut self, now: Instant, bytes: u64) {
        let read = Duration::from_millis(bytes * 1000 / 2048);
        self.queued = Some((now, now + secs(300) + read));
    }

    /// Returns what follows from the end of a round.
    fn round(&mut self, output: Output, now: Instant, shutdown: Shutdown) -> Vec<String> {
        let Some((moved, limit)) = self.queued.filter(|_| !self.is_over) else {
            return vec![];
        };
        if self.gone.is_none() {
            match output {
                Output::Gone => (self.gone, self.heard) = (Some(now), Some(now)),
                Output::Held(due) => self.queue(now, due.queued),
                Output::Moving if now < limit => self.queued = Some((now, limit)),
                Output::Moving | Output::Waiting => {
                    if now >= (moved + secs(90)).min(limit) {
                        return self.stall(now);
                    }
                }
            }
        }
        let (Some(gone), Some(heard)) = (self.gone, self.heard) else {
            return vec![];
        };
        let is_late = now >= (heard + secs(30)).min(gone + secs(300));
        if self.shuts_down.is_none() {
            if !(self.peer_closed || self.read_ended || self.faulty || is_late) {
                return vec![];
            }
            self.shuts_down = Some(now);
        }
        let mut steps = Vec::new();
        if !self.is_shut_down {
            steps.push("ShutDown".into());
            match shutdown {
                Shutdown::Done => (self.is_shut_down, self.heard) = (true, Some(now)),
                Shutdown::Failed => {
                    self.is_over = true;
                    steps.push("Release".into());
                }
                Shutdown::Pending => {
                    let begun = self.shuts_down.unwrap_or(now);
                    if now >= (begun + secs(90)).min(gone + secs(300)) {
                        steps.extend(self.stall(now));
                    }
                }
            }
        }
        let heard = self.heard.unwrap_or(now);
        let is_late = now >= (heard + secs(30)).min(gone + secs(300));
        if self.is_shut_down && (self.read_ended || is_late) {
            self.is_over = true;
            steps.push("Release".into());
        }
        steps
    }

    fn stall(&mut self, now: Instant) -> Vec<String> {
        self.cause(EndCause::Stalled, now, 0)
    }

    /// Checks what the machine says of itself.
    pub(super) fn check(&self, closing: &Closing) {
        assert_eq!(closing.cause(), self.first.as_ref(), "another cause");
        assert_eq!(closing.is_open(), self.first.is_none());
        let receives = !self.is_over && self.queued.is_none();
        assert_eq!(closing.is_receiving(), receives, "{self:?}");
        assert_eq!(closing.waits_for_peer(), self.waits_for_peer(), "{self:?}");
        assert_eq!(closing.is_closed(), self.is_over, "{self:?}");
    }
}
