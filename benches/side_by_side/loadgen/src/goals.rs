//! The goals of this crate against the others, and their verdicts.

use crate::sampling::Samples;

/// The name of the crate itself among the peers.
pub const OURS: &str = "ours";

/// The part of a figure below which a row falls short. Medians drift by some percent from
/// run to run.
const TOLERANCE: f64 = 0.95;

/// The factor of CPU that a row may cost beyond what is allowed; see [`Goal::compare`].
const CPU_TOLERANCE: f64 = 1.1;

/// The beginning of the names of the peers that are a floor.
const FLOOR: &str = "rawtcp";

/// The direction in which a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
    /// The better one of throughput and CPU counts, because the load generator may be the
    /// limit.
    HigherOrLessCpu,
}

/// The figure to reach against one peer.
#[derive(Clone, Copy, Debug)]
pub struct Against {
    pub peer: &'static str,
    pub must: f64,
    pub aim: f64,
}

/// A run, and the figures to reach in it.
#[derive(Clone, Debug)]
pub struct Goal {
    pub run: &'static str,
    /// The peer that has to reach the figures: [`OURS`], or this crate over something else.
    pub of: &'static str,
    pub better: Better,
    pub against: Vec<Against>,
    /// Figures that have to stay below a bound, regardless of the peers.
    pub bounds: Vec<(&'static str, f64)>,
}

fn goal(run: &'static str, better: Better, against: &[(&'static str, f64, f64)]) -> Goal {
    let against = against
        .iter()
        .map(|&(peer, must, aim)| Against { peer, must, aim })
        .collect();
    Goal {
        run,
        of: OURS,
        better,
        against,
        bounds: Vec::new(),
    }
}

/// Returns all goals.
#[rustfmt::skip] // one row for each run
pub fn goals() -> Vec<Goal> {
    use Better::{Higher, HigherOrLessCpu, Lower};
    let (glue, raw, go) = ("axum-batch", "rawtcp-b32", "go");
    let mut goals = vec![
        goal("dl:64", Higher, &[(glue, 5.0, 9.0), ("fastws-b32", 1.3, 1.9), (raw, 0.35, 0.5), (go, 40.0, 60.0)]),
        goal("dl:1024", Higher, &[(glue, 2.0, 2.8), ("fastws-b32", 1.0, 1.2), (raw, 0.8, 1.0), (go, 10.0, 13.0)]),
        goal("dl:4096", Higher, &[(glue, 1.8, 2.6), ("fastws-b32", 1.0, 1.2), (raw, 0.8, 1.0), (go, 6.5, 8.0)]),
        goal("dl:8192", Higher, &[(raw, 0.8, 0.95)]),
        goal("dl:16384", Higher, &[(raw, 0.8, 0.95)]),
        goal("dl:32768", Higher, &[(glue, 1.7, 2.7), ("fastws-b32", 0.95, 1.15), (raw, 0.8, 0.97), (go, 3.7, 4.6)]),
        goal("ul:64", HigherOrLessCpu, &[(glue, 5.0, 15.0), ("fastws", 2.0, 5.0), (raw, 0.25, 0.6), (go, 35.0, 90.0)]),
        goal("ul:1024", HigherOrLessCpu, &[(glue, 2.5, 4.0), ("fastws", 1.0, 1.3), (raw, 0.5, 0.73), (go, 18.0, 26.0)]),
        goal("ul:4096", HigherOrLessCpu, &[(glue, 1.4, 2.3), ("tung", 0.95, 1.1), (raw, 0.6, 0.75), (go, 14.0, 22.0)]),
        goal("ul:32768", HigherOrLessCpu, &[(glue, 1.7, 2.7), ("tung", 0.9, 1.15), (raw, 0.6, 0.8), (go, 14.0, 20.0)]),
        goal("echo:1:128:64", Higher, &[(glue, 1.4, 1.75), ("tung-r16w32", 0.95, 1.25), (raw, 0.75, 1.0), (go, 6.0, 8.0)]),
        goal("echo:64:16:64", Higher, &[(glue, 2.0, 2.5), ("tung-r16w32", 1.0, 1.4), (raw, 0.6, 0.9), (go, 8.0, 12.0)]),
        goal("rtt:64", Lower, &[(glue, 0.62, 0.52), ("tung-r16w32", 1.1, 0.95), (raw, 1.2, 1.05), (go, 0.9, 0.78)]),
        goal("hs:8", Higher, &[(glue, 1.5, 2.0), ("tung-hyper", 1.3, 1.7), (go, 1.5, 2.0)]),
        goal("exec:200", Lower, &[(go, 1.5, 1.0)]),
        goal("dl64:32768", Higher, &[(glue, 1.7, 2.3), ("yawc", 1.5, 2.0), (go, 5.5, 7.5)]),
        goal("ul64:32768", HigherOrLessCpu, &[(glue, 1.9, 2.8), ("yawc", 1.6, 2.4), (go, 8.0, 12.0)]),
        goal("idle:2000", Lower, &[(glue, 0.05, 0.03), ("tokiows", 0.7, 0.45), (go, 0.3, 0.16)]),
        goal("idle:2000:32768", Lower, &[(glue, 0.05, 0.03), ("yawc", 0.4, 0.2), (go, 0.1, 0.05)]),
    ];
    for run in ["stall:64", "stall:32768"] {
        let mut goal = goal(run, Lower, &[]);
        // The high-water mark of a session. A session that waits does nothing.
        goal.bounds = vec![("growth_KiB", 256.0), ("cpu_while_stalled", 0.01)];
        goals.push(goal);
    }
    // 64 at once: the high-water mark and 16 KiB each.
    let mut stalled = goal("stall:32768:64", Lower, &[]);
    stalled.bounds = vec![("growth_KiB", 256.0 + 16.0), ("cpu_while_stalled", 0.01)];
    goals.push(stalled);
    goals.extend(others());
    goals
}

/// Returns the goals over TLS, HTTP/2 and SPDY.
#[rustfmt::skip] // one row for each run
fn others() -> Vec<Goal> {
    use Better::{Higher, HigherOrLessCpu, Lower};
    let mut goals = vec![];
    for (of, glue) in [
        ("ours+tls", "axum-batch+tls"),
        ("ours+h2", "axum-batch+h2"),
        ("ours+tls+h2", "axum-batch+tls+h2"),
    ] {
        let rows = [
            goal("dl:64", Higher, &[(glue, 2.0, 3.0)]),
            goal("dl:32768", Higher, &[(glue, 1.0, 1.2)]),
            goal("ul:64", HigherOrLessCpu, &[(glue, 3.0, 6.0)]),
            goal("ul:32768", HigherOrLessCpu, &[(glue, 1.1, 1.5)]),
            goal("rtt:64", Lower, &[(glue, 0.8, 0.6)]),
        ];
        goals.extend(rows.map(|goal| Goal { of, ..goal }));
    }
    for of in ["forward+tunnel", "forward+post"] {
        let raw = "rawtcp-b32";
        let rows = [
            goal("forward-dl:32768:1", Higher, &[(raw, 0.7, 0.9)]),
            goal("forward-dl:64:16", Higher, &[(raw, 0.25, 0.4)]),
            goal("forward-ul:32768:1", HigherOrLessCpu, &[(raw, 0.6, 0.8)]),
            goal("forward-ul:64:16", HigherOrLessCpu, &[(raw, 0.15, 0.3)]),
            goal("forward-rtt:64", Lower, &[(raw, 1.3, 1.1)]),
            goal("forward-hs:1", Higher, &[(raw, 0.7, 1.0)]),
            goal("forward-hs:16", Higher, &[(raw, 0.7, 1.0)]),
        ];
        goals.extend(rows.map(|goal| Goal { of, ..goal }));
        for (run, most) in [("forward-idle:2000:0", 6.0), ("forward-idle:2000:1", 12.0)] {
            let bounds = vec![("KiB/session", most)];
            goals.push(Goal { of, bounds, ..goal(run, Lower, &[]) });
        }
    }
    goals
}

/// The verdict on a comparison, a row, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    FallsShort,
    Passes,
    ReachesTheAim,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::FallsShort => "FALLS SHORT",
            Self::Passes => "pass",
            Self::ReachesTheAim => "pass, aim",
        })
    }
}

/// The result of one comparison.
#[derive(Clone, Debug)]
pub struct Compared {
    pub against: Against,
    /// Our figure divided by theirs.
    pub ratio: f64,
    /// Our CPU for the same work divided by theirs; NaN if it is not measured.
    pub cpu: f64,
    pub verdict: Verdict,
}

/// The name of the figure with the CPU of a unit of work.
fn cpu_figure(samples: &Samples) -> Option<&'static str> {
    let names = ["cpu_s/GiB", "cpu_us/msg", "cpu_us"];
    names
        .into_iter()
        .find(|name| samples.figures.contains(name))
}

impl Goal {
    /// Judges the row against each peer that was present.
    ///
    /// A row must not be won by burning the second core, so its CPU counts as well.
    ///
    /// * A peer that speaks the same protocol does the same work. On one core, its speed is the inverse
    ///   of its CPU for each byte, and so is ours: a row may cost what its own speed explains. Twice as
    ///   fast with the same CPU is a second core.
    /// * Bare TCP is a floor. It has system calls and the copy of the kernel, and we have these and on
    ///   top of them frames, masks, a second copy into the channel, and for SPDY a second layer of
    ///   frames. That we work more for each byte is no waste, whatever our speed is, so speed cannot be
    ///   the measure. What the work on top may cost is a decision, and the goal is that decision: to
    ///   reach 0.7 of the floor on one core is to work 1/0.7 as much. A row may therefore cost the
    ///   inverse of its goal. A row that is as fast as the floor but costs more than that falls short.
    pub fn compare(&self, samples: &Samples) -> Vec<Compared> {
        let figure = samples.figures.first().copied().unwrap_or_default();
        let compare = |against: &Against| {
            let ratio = samples.ratio(self.of, against.peer, figure);
            let cpu = cpu_figure(samples)
                .map_or(f64::NAN, |name| samples.ratio(self.of, against.peer, name));
            Compared {
                against: *against,
                ratio,
                cpu,
                verdict: judge(self.better, against, ratio, cpu),
            }
        };
        let all = self.against.iter().map(compare);
        all.filter(|compared| !compared.ratio.is_nan()).collect()
    }

    /// Judges the bounds. Returns the name, the median and the bound of each figure.
    pub fn bounded(&self, samples: &Samples) -> Vec<(&'static str, f64, f64)> {
        let median = |&(name, bound)| (name, samples.median(self.of, name), bound);
        self.bounds.iter().map(median).collect()
    }
}

/// Judges one comparison by the ratios of the figure and of CPU, of which the latter may be NaN.
fn judge(better: Better, against: &Against, ratio: f64, cpu: f64) -> Verdict {
    let (speed, must, aim) = match better {
        Better::Lower => (1.0 / ratio, 1.0 / against.must, 1.0 / against.aim),
        Better::Higher | Better::HigherOrLessCpu => (ratio, against.must, against.aim),
    };
    let reaches = |wanted: f64| {
        let explained = match against.peer.starts_with(FLOOR) {
            true => wanted,
            false => speed,
        };
        let honest = cpu.is_nan() || cpu <= CPU_TOLERANCE / explained;
        let by_cpu = better == Better::HigherOrLessCpu && 1.0 / cpu >= TOLERANCE * wanted;
        honest && speed >= TOLERANCE * wanted || by_cpu
    };
    if reaches(aim) {
        Verdict::ReachesTheAim
    } else if reaches(must) {
        Verdict::Passes
    } else {
        Verdict::FallsShort
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGAINST: Against = Against {
        peer: "x",
        must: 2.0,
        aim: 4.0,
    };

    #[test]
    fn a_row_passes_at_the_figure_less_what_medians_drift() {
        let judge = |ratio| judge(Better::Higher, &AGAINST, ratio, f64::NAN);
        assert_eq!(judge(1.89), Verdict::FallsShort);
        assert_eq!(judge(1.91), Verdict::Passes);
        assert_eq!(judge(3.81), Verdict::ReachesTheAim);
        assert_eq!(judge(f64::NAN), Verdict::FallsShort);
    }

    #[test]
    fn a_row_that_burns_the_second_core_is_not_won() {
        assert_eq!(judge(Better::Higher, &AGAINST, 2.0, 0.55), Verdict::Passes);
        assert_eq!(
            judge(Better::Higher, &AGAINST, 2.0, 0.56),
            Verdict::FallsShort
        );
    }

    #[test]
    fn a_row_may_cost_the_inverse_of_its_goal_against_a_floor() {
        let against = Against {
            peer: "rawtcp-b32",
            must: 0.5,
            aim: 0.8,
        };
        let judge = |ratio, cpu| judge(Better::Higher, &against, ratio, cpu);
        assert_eq!(judge(1.0, 1.3), Verdict::ReachesTheAim);
        assert_eq!(judge(1.0, 1.4), Verdict::Passes);
        assert_eq!(judge(1.0, 2.1), Verdict::Passes);
        assert_eq!(judge(1.0, 2.3), Verdict::FallsShort);
        assert_eq!(judge(0.5, 2.1), Verdict::Passes);
        assert_eq!(judge(0.4, 1.0), Verdict::FallsShort);
    }

    #[test]
    fn an_upload_passes_by_either_figure() {
        let judge = |ratio, cpu| judge(Better::HigherOrLessCpu, &AGAINST, ratio, cpu);
        assert_eq!(judge(1.0, 0.5), Verdict::Passes);
        assert_eq!(judge(2.0, 0.54), Verdict::Passes);
        assert_eq!(judge(1.0, 0.6), Verdict::FallsShort);
        assert_eq!(judge(2.0, 2.0), Verdict::FallsShort);
    }

    #[test]
    fn less_is_better_where_it_is() {
        let against = Against {
            peer: "x",
            must: 0.62,
            aim: 0.52,
        };
        let judge = |ratio| judge(Better::Lower, &against, ratio, 0.6);
        assert_eq!(judge(0.6), Verdict::Passes);
        assert_eq!(judge(0.5), Verdict::FallsShort, "0.6 of the CPU");
        assert_eq!(judge(0.7), Verdict::FallsShort);
    }

    #[test]
    fn peers_are_named_once_a_row() {
        for goal in goals() {
            let mut names: Vec<_> = goal.against.iter().map(|against| against.peer).collect();
            names.dedup();
            assert_eq!(names.len(), goal.against.len(), "{}", goal.run);
        }
    }
}
