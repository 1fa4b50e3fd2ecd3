//! The handler of `/sessions`: the sessions that are alive, and the last that have ended, as JSON
//! for the page.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json, Router,
    extract::State,
    http::header::{CACHE_CONTROL, HeaderName},
    routing::get,
};
use serde_json::{Value, json};
use tower_wsstream::{
    Sessions, Status,
    session::{SessionInfo, SessionSummary, Traffic},
};

use crate::refusal::wrong_method;

/// The sessions that are remembered after their end. This bounds the answer, and the memory.
const REMEMBERED: usize = 50;

/// A list of the sessions. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Overview {
    sessions: Sessions,
    ended: Arc<Mutex<VecDeque<Value>>>,
}

impl Overview {
    pub(crate) fn new(sessions: Sessions) -> Self {
        Self {
            sessions,
            ended: Arc::default(),
        }
    }

    /// Remembers the end of a session.
    pub(crate) fn remember(&self, summary: &SessionSummary) {
        let mut ended = self.ended();
        ended.truncate(REMEMBERED - 1);
        ended.push_front(past(summary));
    }

    /// Routes to the list.
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/sessions", get(list).fallback(wrong_method))
            .with_state(self)
    }

    fn ended(&self) -> MutexGuard<'_, VecDeque<Value>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn list(State(overview): State<Overview>) -> ([(HeaderName, &'static str); 1], Json<Value>) {
    let live: Vec<_> = overview.sessions.list().iter().map(present).collect();
    let list = json!({
        "draining": overview.sessions.is_closed(),
        "live": live,
        "ended": *overview.ended(),
    });
    ([(CACHE_CONTROL, "no-store")], Json(list))
}

fn present(info: &SessionInfo) -> Value {
    json!({
        "id": info.session.id(),
        "kind": info.peer.as_ref().map(|kind| kind.as_str()),
        "subprotocol": info.subprotocol,
        "seconds": info.age.as_secs_f64(),
        "received": traffic(info.received),
        "sent": traffic(info.sent),
    })
}

fn past(summary: &SessionSummary) -> Value {
    let outcome = summary.status.as_ref().map(outcome);
    json!({
        "id": summary.id,
        "kind": summary.peer.as_ref().map(|kind| kind.as_str()),
        "subprotocol": summary.subprotocol,
        "seconds": summary.duration.as_secs_f64(),
        "received": traffic(summary.received()),
        "sent": traffic(summary.sent()),
        "cause": summary.cause.to_string(),
        "closeCode": summary.close_code,
        "outcome": outcome,
    })
}

/// Returns the outcome of a command. Its message may quote the command, so its reason has to do.
fn outcome(status: &Status) -> String {
    match status.exit_code() {
        Some(code) => format!("exit code {code}"),
        None => status.reason().unwrap_or("failed").to_owned(),
    }
}

fn traffic(traffic: Traffic) -> Value {
    json!({ "bytes": traffic.bytes, "messages": traffic.messages })
}
