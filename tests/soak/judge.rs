//! The verdict on a session, from the observations of both ends.
//!
//! An end that is not reported never looks like one that is, on either side.

use crate::{
    carrier::Carrier,
    client::{StreamEnd, Told},
    lane::{Kind, Lane, Verdict, bytes},
};

/// The client's side of a session.
pub(crate) struct Known<'a> {
    pub(crate) carrier: Carrier,
    pub(crate) lanes: &'a [Lane],
    /// The offset in the client's script behind the end of each lane's input.
    pub(crate) ends: &'a [usize],
    /// The script ends with a breach of the protocol.
    pub(crate) breach: bool,
    /// The client meant to break off.
    pub(crate) left: bool,
    /// A proxy has broken the connection.
    pub(crate) broke: bool,
    pub(crate) told: &'a Told,
}

pub(crate) struct Judged {
    pub(crate) kind: &'static str,
    /// The bytes that were compared, in both directions.
    pub(crate) bytes: u64,
}

/// The report of a service.
struct Report<'a> {
    read: u64,
    right: bool,
    /// The end of its input, or the cause of a failed write. It is [`UNREAD`] if neither came.
    end: &'a str,
    done: &'a str,
}

impl<'a> Report<'a> {
    /// Reads the line of a lane.
    fn find(note: &'a str, lane: usize) -> Option<Self> {
        note.lines().skip(1).find_map(|line| {
            let mut parts = line.split(' ');
            let mut next = || parts.next().unwrap_or_default();
            (next() == lane.to_string()).then(|| Self {
                read: next().parse().unwrap_or(u64::MAX),
                right: next() == "true",
                end: next(),
                done: next(),
            })
        })
    }
}

/// The end of input that was not read to its end.
const UNREAD: &str = "unread";

/// The names of the causes of a broken connection.
const LOST: [&str; 2] = ["connection_lost", "upgrade_failed"];

/// Returns the kind of the session, or its fault.
pub(crate) fn judge(known: &Known<'_>, note: &str) -> Result<Judged, String> {
    let told = known.told;
    if let Some(wrong) = &told.wrong {
        return Err(wrong.clone());
    }
    let cause = note.lines().next().unwrap_or_default();
    let mut judged = Judged {
        kind: match () {
            () if known.broke => "broken by a proxy",
            () if known.breach => "broke the protocol",
            () if known.left => "left",
            () => "whole",
        },
        bytes: 0,
    };
    let mut all_done = true;
    for lane in 0..known.lanes.len() {
        let report = Report::find(note, lane);
        judged.bytes += told.lanes[lane].output.len() as u64;
        judged.bytes += report.as_ref().map_or(0, |report| report.read);
        all_done &= report.as_ref().is_some_and(|report| {
            let has_input = known.lanes[lane].has_input();
            // A service whose write failed has not ended by itself.
            let has_said = !has_input && report.end == UNREAD && report.done != "dropped";
            report.end == "EOF" || has_said
        });
        let wrong = known.judge_lane(lane, report.as_ref(), cause);
        wrong.map_err(|wrong| format!("lane {lane}: {wrong}"))?;
    }
    known.judge_cause(cause, all_done)?;
    Ok(judged)
}

impl Known<'_> {
    fn is_whole(&self) -> bool {
        !self.breach && !self.left && !self.broke
    }

    fn judge_lane(
        &self,
        at: usize,
        report: Option<&Report<'_>>,
        cause: &str,
    ) -> Result<(), String> {
        let (lane, told) = (self.lanes[at], self.told);
        let heard = &told.lanes[at];
        let received = heard.output.len() as u64;
        let success = told.is_success(self.carrier, at);
        let is_whole_output = received == lane.output();
        if received > lane.output() || heard.output != bytes(0, received) {
            return Err(format!("other output, in {received} bytes"));
        }
        if success && !is_whole_output {
            return Err(format!("success, and {received} bytes"));
        }
        if heard.output_end == Some(StreamEnd::Fin) && !is_whole_output {
            return Err(format!("a FIN behind {received} bytes"));
        }
        // A Close is answered with its own code.
        let is_answer = self.carrier.ends_input_by_close() && told.written >= self.ends[at];
        if success && !is_answer && (!lane.succeeds() || self.breach && lane.has_input()) {
            return Err("success".into());
        }
        let Some(report) = report else {
            // The client's frames may not have come as far.
            let is_lost = LOST.contains(&cause) || self.breach && cause == "protocol_error";
            return match success || !is_lost || self.is_whole() {
                true => Err("there was no service".into()),
                false => Ok(()),
            };
        };
        let Report {
            read,
            right,
            end,
            done,
        } = *report;
        if !right || read > lane.total {
            return Err(format!("other input, in {read} bytes"));
        }
        if end == "EOF" && (read < lane.total || told.written < self.ends[at]) {
            return Err(format!("EOF after {read} bytes"));
        }
        if success && !is_answer && done != "ok" {
            return Err(format!("success, and the service has {done}"));
        }
        if done == "dropped" {
            // A command is polled once, and not started before its streams are open. It is dropped if
            // the session ends before that, or in the same read.
            let unstarted = self.carrier == Carrier::Command && read == 0;
            return match unstarted && !success && !self.is_whole() {
                true => Ok(()),
                false => Err("the service was dropped".into()),
            };
        }
        if lane.has_input() && end != "EOF" {
            let expected = match self.breach {
                true => end == "protocol_error" || self.broke && LOST.contains(&end),
                false => LOST.contains(&end) && (self.left || self.broke),
            };
            if !expected || done != "failed" {
                return Err(format!("{end} after {read} bytes, and it has {done}"));
            }
        }
        if self.is_whole() {
            let ok = match lane.kind {
                Kind::Echo | Kind::Count => end == "EOF" && success,
                Kind::Say(Verdict::Succeeds) => success,
                Kind::Say(Verdict::Fails | Verdict::Panics) => !success,
            };
            if !ok || !is_whole_output || !told.has_ended(self.carrier, at) {
                let error = String::from_utf8_lossy(&heard.error);
                let ends = (heard.output_end, heard.error_end);
                return Err(format!(
                    "{received} bytes, success {success}, {ends:?}, {error}"
                ));
            }
        }
        Ok(())
    }

    /// Checks why the server takes the session to be over. `all_done` is set if all services had ended
    /// by themselves.
    fn judge_cause(&self, cause: &str, all_done: bool) -> Result<(), String> {
        let told = self.told;
        let has_closed = told.said_goodbye
            || self.carrier.ends_input_by_close()
                && self.ends.iter().any(|end| told.written >= *end);
        let outcomes = ["completed", "service_failed", "service_panicked"];
        let by_service = all_done && !self.carrier.has_connections() && outcomes.contains(&cause);
        let by_client = has_closed && cause == "peer_closed";
        let by_fault = LOST.contains(&cause) && (self.left || self.broke)
            || self.breach && cause == "protocol_error";
        match by_service || by_client || by_fault {
            true => Ok(()),
            false => Err(format!("the cause is {cause}")),
        }
    }
}

impl std::fmt::Debug for Known<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known")
            .field("breach", &self.breach)
            .field("left", &self.left)
            .field("broke", &self.broke)
            .field("ends", &self.ends)
            .field("written", &self.told.written)
            .field("said_goodbye", &self.told.said_goodbye)
            .finish_non_exhaustive()
    }
}
