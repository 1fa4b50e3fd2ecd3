//! Interleaved runs against several peers, and their medians.

use std::{collections::BTreeMap, io::Write, thread, time::Duration, time::Instant};

use crate::{
    progress::Progress,
    runs::{self, Figures},
    server::{Pinned, Server, machine_busy},
};

/// A server to measure: its name, and the command that starts it.
#[derive(Clone, Debug)]
pub struct Peer {
    pub name: String,
    pub command: String,
}

/// The settings of the runs.
#[derive(Clone, Debug)]
pub struct Plan {
    pub secs: f64,
    pub port: u16,
    /// A run in which other processes used more cores than this is repeated,
    /// three times at most.
    pub others: f64,
    /// Seconds that a run waits for a quiet machine.
    pub wait: f64,
}

/// The figures of one run by peer and name, with one value for each round. A run that
/// failed is NaN.
#[derive(Debug, Default)]
pub struct Samples {
    /// Names of the figures, the one that counts first.
    pub figures: Vec<&'static str>,
    values: BTreeMap<String, BTreeMap<&'static str, Vec<f64>>>,
    pub repeated: usize,
    pub failed: usize,
}

impl Samples {
    fn values(&self, peer: &str, figure: &str) -> &[f64] {
        let values = self.values.get(peer).and_then(|of| of.get(figure));
        values.map_or(&[], Vec::as_slice)
    }

    /// Returns the median over all rounds; NaN if there is no value.
    pub fn median(&self, peer: &str, figure: &str) -> f64 {
        median(self.values(peer, figure).iter().copied())
    }

    /// Returns the median of the ratios within each round, so that a machine that drifts
    /// affects both sides alike.
    pub fn ratio(&self, peer: &str, base: &str, figure: &str) -> f64 {
        let (peer, base) = (self.values(peer, figure), self.values(base, figure));
        median(peer.iter().zip(base).map(|(peer, base)| peer / base))
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// Waits until no other process uses the machine (a tenth of a core over 100 ms).
fn wait_for_quiet(secs: f64) {
    let started = Instant::now();
    while started.elapsed().as_secs_f64() < secs {
        let (busy, then) = (machine_busy(), Instant::now());
        thread::sleep(Duration::from_millis(100));
        if (machine_busy() - busy) / then.elapsed().as_secs_f64() < 0.11 {
            return;
        }
    }
}

/// Repeats one run `rounds` times against each peer: A B C, then C B A.
///
/// Each sample is also written to `out`, as a JSON object on a line of its own.
pub fn sample(
    peers: &[Peer],
    run: &str,
    rounds: usize,
    plan: &Plan,
    mut out: Option<&mut dyn Write>,
) -> Result<Samples, String> {
    let _pinned = match runs::wants_one_core(run) {
        true => Some(Pinned::to_one_core().map_err(|error| format!("one core: {error}"))?),
        false => None,
    };
    let mut servers = BTreeMap::new();
    if !runs::wants_fresh_server(run) {
        for (n, peer) in peers.iter().enumerate() {
            servers.insert(n, Server::start(peer, plan.port + n as u16)?);
        }
    }
    let mut samples = Samples::default();
    let progress = Progress::new(run, rounds * peers.len());
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..peers.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for (done, n) in order.into_iter().enumerate() {
            let peer = &peers[n];
            progress.show(round * peers.len() + done, &peer.name);
            let figures = undisturbed(&mut samples.repeated, plan, || match servers.get(&n) {
                Some(server) => Ok(runs::run(server, run, plan.secs)),
                None => {
                    // Ports of earlier servers may linger, so they alternate.
                    let port = plan.port + 100 + (round % 50) as u16;
                    let server = Server::start(peer, port)?;
                    Ok(runs::run(&server, run, plan.secs))
                }
            })?;
            let figures = match figures {
                Ok(figures) => figures,
                Err(error) => {
                    eprintln!("{run}, round {round}, {}: {error}", peer.name);
                    samples.failed += 1;
                    continue;
                }
            };
            if let Some(out) = &mut out {
                let pairs: String = figures
                    .iter()
                    .map(|(name, value)| format!(",\"{name}\":{value:.6}"))
                    .collect();
                let name = &peer.name;
                writeln!(
                    out,
                    "{{\"run\":\"{run}\",\"round\":{round},\"peer\":\"{name}\"{pairs}}}"
                )
                .map_err(|error| format!("samples: {error}"))?;
            }
            let of = samples.values.entry(peer.name.clone()).or_default();
            for (name, value) in figures {
                if !samples.figures.contains(&name) {
                    samples.figures.push(name);
                }
                of.entry(name)
                    .or_insert_with(|| vec![f64::NAN; rounds])
                    .splice(round..=round, [value]);
            }
        }
    }
    Ok(samples)
}

/// Repeats a run during which other processes used the machine.
fn undisturbed(
    repeated: &mut usize,
    plan: &Plan,
    mut run: impl FnMut() -> Result<std::io::Result<Figures>, String>,
) -> Result<std::io::Result<Figures>, String> {
    for _ in 0..3 {
        wait_for_quiet(plan.wait);
        let result = run()?;
        thread::sleep(Duration::from_millis(30));
        let others = result.as_ref().map_or(0.0, |figures| {
            let others = figures.iter().find(|(name, _)| *name == "others");
            others.map_or(0.0, |(_, cores)| *cores)
        });
        if others <= plan.others {
            return Ok(result);
        }
        *repeated += 1;
    }
    run()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(pairs: &[(&str, &[f64])]) -> Samples {
        let values = pairs
            .iter()
            .map(|(peer, values)| ((*peer).into(), BTreeMap::from([("MiB/s", values.to_vec())])))
            .collect();
        Samples {
            values,
            ..Samples::default()
        }
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let samples = samples(&[("a", &[10.0, 200.0, 30.0]), ("b", &[5.0, 100.0, 15.0])]);
        assert_eq!(samples.ratio("a", "b", "MiB/s"), 2.0);
        assert_eq!(samples.median("a", "MiB/s"), 30.0);
    }

    #[test]
    fn a_run_that_failed_does_not_count() {
        let samples = samples(&[("a", &[10.0, f64::NAN, 30.0]), ("b", &[10.0, 1.0, 10.0])]);
        assert_eq!(samples.ratio("a", "b", "MiB/s"), 2.0);
        assert!(samples.ratio("a", "c", "MiB/s").is_nan());
    }
}
