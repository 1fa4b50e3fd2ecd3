//! Shortens a plan that fails.

use std::time::{Duration, Instant};

use crate::{
    draw,
    plan::{Act, Kind, Plan, Step},
    scenario,
};

/// The time that may be spent on one plan.
const MOST: Duration = Duration::from_secs(20);

/// Returns a shorter plan that fails in the same way, and how.
pub(crate) fn shrink(mut plan: Plan, mut wrong: String) -> (Plan, String) {
    let start = Instant::now();
    let kind = kind_of(&wrong);
    loop {
        let before = plan.clone();
        let mut at = 0;
        while let Some(shorter) = variant(&plan, at) {
            if start.elapsed() > MOST {
                return (plan, wrong);
            }
            match scenario::run(&shorter) {
                Err(why) if kind_of(&why) == kind && shorter != plan => {
                    plan = shorter;
                    wrong = why;
                    // The rest has moved up, so the same place is tried again.
                }
                _ => at += 1,
            }
        }
        if plan == before {
            return (plan, wrong);
        }
    }
}

/// Returns the words by which failures of the same kind are known, without their numbers.
fn kind_of(wrong: &str) -> String {
    let line = wrong.lines().next().unwrap_or_default();
    line.chars()
        .filter(|c| !c.is_ascii_digit())
        .take(40)
        .collect()
}

/// Returns the plan without one of its parts, or with a simpler one.
fn variant(plan: &Plan, at: usize) -> Option<Plan> {
    let mut shorter = plan.clone();
    let mut at = at;
    if at < plan.client.len() {
        shorter.client.remove(at);
        return Some(shorter);
    }
    at -= plan.client.len();
    if at < plan.reads.len() {
        shorter.reads.remove(at);
        return Some(shorter);
    }
    at -= plan.reads.len();
    for (task, steps) in plan.tasks.iter().enumerate() {
        if at < steps.len() {
            shorter.tasks[task].remove(at);
            return Some(shorter);
        }
        at -= steps.len();
    }
    // The settings of a plan that has nothing in it.
    let calm = &draw::calm();
    let settings: &[fn(&mut Plan, &Plan)] = &[
        |to, from| to.setup.transport = from.setup.transport,
        |to, from| to.setup.capacity = from.setup.capacity,
        |to, from| to.setup.chop = from.setup.chop,
        |to, from| to.setup.fault = from.setup.fault,
        |to, from| to.setup.explicit = from.setup.explicit,
        |to, from| to.setup.window = from.setup.window,
        |to, from| to.setup.budget = from.setup.budget,
        |to, from| to.setup.high_water = from.setup.high_water,
        |to, from| to.setup.reserve = from.setup.reserve,
        |to, from| to.setup.max_frame = from.setup.max_frame,
        |to, from| to.setup.max_message = from.setup.max_message,
        |to, from| to.setup.rate = from.setup.rate,
        |to, from| to.setup.ping = from.setup.ping,
        |to, from| to.setup.ping_timeout = from.setup.ping_timeout,
        |to, from| to.setup.idle = from.setup.idle,
        |to, from| to.setup.time_limit = from.setup.time_limit,
        |to, from| to.setup.grace = from.setup.grace,
        |to, from| to.setup.closed_grace = from.setup.closed_grace,
        |to, from| to.setup.close_timeout = from.setup.close_timeout,
        |to, from| to.setup.drain = from.setup.drain,
        |to, from| to.setup.early_drain = from.setup.early_drain,
        |to, from| to.setup.answers_pings = from.setup.answers_pings,
        |to, from| to.setup.farewell = from.setup.farewell,
        |to, from| to.setup.subprotocol = from.setup.subprotocol,
        |to, from| to.end = from.end,
        |to, _| to.setup.owners = [0; 5],
        |to, _| to.client.iter_mut().for_each(shorten_act),
        |to, _| to.tasks.iter_mut().flatten().for_each(shorten_step),
    ];
    let set = settings.get(at)?;
    set(&mut shorter, calm);
    if plan.setup.kind == Kind::Ports {
        shorter.setup.subprotocol = draw::port_subprotocol(shorter.setup.transport);
    }
    Some(shorter)
}

fn shorten_act(act: &mut Act) {
    if let Act::Send {
        len,
        frames,
        pings,
        piece,
        ..
    } = act
    {
        *len /= 2;
        *frames = 1;
        *pings = false;
        *piece = usize::MAX;
    }
}

fn shorten_step(step: &mut Step) {
    if let Step::Write { len, .. }
    | Step::WriteAll { len, .. }
    | Step::Send { len, .. }
    | Step::TryWrite { len, .. } = step
    {
        *len /= 2;
    }
}
