//! Measures servers of `channel.k8s.io` against each other: see README.md.

mod forward;
mod goals;
mod h2;
mod plot;
mod progress;
mod runs;
mod sampling;
mod server;
mod spdy;
mod transport;
mod wire;

use std::{collections::BTreeSet, env, fs, io::Write, process::ExitCode};

use goals::{Goal, OURS, Verdict, goals};
use plot::{HEAD, Row, number, svg};
use sampling::{Peer, Plan, Samples, sample};

const HELP: &str = "\
loadgen --peers FILE [--peer NAME=COMMAND ..] [--run RUN,..] [options]

Without --run: all goals of this crate, with pass or fall short.

  --peers FILE       peers, NAME=COMMAND a line, with {port} in the command
  --peer NAME=CMD    one more peer
  --only NAME,..     none but these
  --run RUN,..       runs instead of goals: dl:CHUNK[:TASKS] dl64:CHUNK ul:SIZE
                     ul64:SIZE echo:CONNECTIONS:WINDOW:SIZE echo64:.. rtt:SIZE
                     hs:CONCURRENCY mixed:CONNECTIONS idle:CONNECTIONS[:TOUCH]
                     stall:CHUNK[:CONNECTIONS] exec:TIMES
                     forward-dl:CHUNK:STREAMS forward-ul:SIZE:STREAMS
                     forward-rtt:SIZE forward-hs:CONCURRENCY
                     forward-idle:SESSIONS:PAIRS
  --base NAME,..     with --run: ratios to these
  --goal RUN,..      no goals but these; a peer's name stands for all of its own
  --rounds N         9; uploads of a goal get two thirds more
  --secs S           seconds of a run, 0.5
  --plotted NAME,..  with goals: measure these in every row, for the plot
  --svg FILE         with goals: write the plot
  --out FILE         append every sample, a JSON object a line
  --port FIRST       20100
  --others CORES     repeat a run in which others used more, 0.2
  --wait S           wait so long for a quiet machine, 10
";

struct Args {
    peers: Vec<Peer>,
    runs: Vec<String>,
    bases: Vec<String>,
    goals: Vec<String>,
    plotted: Vec<String>,
    rounds: usize,
    svg: Option<String>,
    out: Option<fs::File>,
    plan: Plan,
}

fn parse() -> Result<Args, String> {
    let mut args = Args {
        peers: vec![],
        runs: vec![],
        bases: vec![],
        goals: vec![],
        plotted: vec![],
        rounds: 9,
        svg: None,
        out: None,
        plan: Plan {
            secs: 0.5,
            port: 20100,
            others: 0.2,
            wait: 10.0,
        },
    };
    let mut only = vec![];
    let words = |value: &str| value.split(',').map(String::from).collect::<Vec<_>>();
    let peer = |line: &str| match line.split_once('=') {
        Some((name, command)) => Ok(Peer {
            name: name.trim().into(),
            command: command.trim().into(),
        }),
        None => Err(format!("{line}: want NAME=COMMAND")),
    };
    let mut given = env::args().skip(1);
    while let Some(key) = given.next() {
        if key == "--help" {
            return Err(HELP.into());
        }
        let value = given.next().ok_or(format!("{key} wants a value\n{HELP}"))?;
        let number = || {
            value
                .parse::<f64>()
                .map_err(|_| format!("{key} wants a number"))
        };
        match key.as_str() {
            "--peer" => args.peers.push(peer(&value)?),
            "--peers" => {
                let text = fs::read_to_string(&value).map_err(|e| format!("{value}: {e}"))?;
                for line in text.lines().map(str::trim) {
                    if !line.is_empty() && !line.starts_with('#') {
                        args.peers.push(peer(line)?);
                    }
                }
            }
            "--only" => only = words(&value),
            "--run" => args.runs.extend(words(&value)),
            "--base" => args.bases.extend(words(&value)),
            "--goal" => args.goals.extend(words(&value)),
            "--plotted" => args.plotted.extend(words(&value)),
            "--rounds" => args.rounds = number()? as usize,
            "--secs" => args.plan.secs = number()?,
            "--port" => args.plan.port = number()? as u16,
            "--wait" => args.plan.wait = number()?,
            "--others" => args.plan.others = number()?,
            "--svg" => args.svg = Some(value),
            "--out" => {
                let file = fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(&value);
                args.out = Some(file.map_err(|error| format!("{value}: {error}"))?);
            }
            _ => return Err(format!("unknown option {key}\n{HELP}")),
        }
    }
    if !only.is_empty() {
        args.peers.retain(|peer| only.contains(&peer.name));
    }
    if args.peers.is_empty() {
        return Err(format!("no peers\n{HELP}"));
    }
    Ok(args)
}

fn out(file: &mut Option<fs::File>) -> Option<&mut dyn Write> {
    file.as_mut().map(|file| file as &mut dyn Write)
}

/// Prints every figure of every peer, and ratios to the bases.
fn print(run: &str, args: &Args, peers: &[Peer], samples: &Samples) {
    let (rounds, secs, repeated) = (args.rounds, args.plan.secs, samples.repeated);
    println!("\n### {run} ({rounds} rounds of {secs} s, {repeated} disturbed runs repeated)\n");
    let first = samples.figures.first().copied().unwrap_or_default();
    let heads = args.bases.iter().map(|base| format!("{first} / {base}"));
    let heads: Vec<String> = samples
        .figures
        .iter()
        .map(|name| (*name).into())
        .chain(heads)
        .collect();
    println!("| peer | {} |", heads.join(" | "));
    println!("|---|{}", "---|".repeat(heads.len()));
    for Peer { name, .. } in peers {
        let medians = samples
            .figures
            .iter()
            .map(|figure| samples.median(name, figure));
        let ratios = args
            .bases
            .iter()
            .map(|base| samples.ratio(name, base, first));
        let cells: Vec<String> = medians.chain(ratios).map(number).collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
}

fn run_all(args: &mut Args) -> Result<(), String> {
    for run in args.runs.clone() {
        let mut peers = args.peers.clone();
        peers.retain(|peer| runs::is_served_by(&run, &peer.name));
        let samples = sample(&peers, &run, args.rounds, &args.plan, out(&mut args.out))?;
        print(&run, args, &peers, &samples);
        if samples.failed > 0 {
            return Err(format!("{} runs failed", samples.failed));
        }
    }
    Ok(())
}

/// Measures one goal against those of its peers that are present.
fn measure(
    goal: Goal,
    args: &mut Args,
    missing: &mut BTreeSet<&'static str>,
) -> Result<Row, String> {
    let against: Vec<&str> = goal.against.iter().map(|against| against.peer).collect();
    for name in &goal.against {
        if !args.peers.iter().any(|peer| peer.name == name.peer) {
            missing.insert(name.peer);
        }
    }
    let wanted = |name: &str| {
        let can_be_plotted =
            goal.of == OURS && !against.is_empty() && runs::is_served_by_all(goal.run);
        let plotted = can_be_plotted && args.plotted.iter().any(|plotted| plotted == name);
        name == goal.of || plotted || against.contains(&name)
    };
    let peers: Vec<Peer> = args
        .peers
        .iter()
        .filter(|peer| wanted(&peer.name))
        .cloned()
        .collect();
    // Uploads have two modes, and chance decides which one a run falls into.
    let rounds = match goal.run.starts_with("ul") {
        true => args.rounds * 5 / 3,
        false => args.rounds,
    };
    let samples = sample(&peers, goal.run, rounds, &args.plan, out(&mut args.out))?;
    Ok(Row::new(goal, samples))
}

/// Returns whether no goal falls short.
fn judge_all(args: &mut Args) -> Result<bool, String> {
    if !args.peers.iter().any(|peer| peer.name == OURS) {
        return Err(format!("no peer is called {OURS}"));
    }
    println!("{HEAD}");
    let (mut rows, mut missing) = (Vec::new(), BTreeSet::new());
    for goal in goals() {
        let is_named = |name: &String| name == goal.run || name == goal.of;
        if args.goals.is_empty() || args.goals.iter().any(is_named) {
            let row = measure(goal, args, &mut missing)?;
            println!("{}", row.line());
            rows.push(row);
        }
    }
    if let Some(file) = &args.svg {
        let peers: Vec<String> = args.peers.iter().map(|peer| peer.name.clone()).collect();
        fs::write(file, svg(&rows, &peers)).map_err(|error| format!("{file}: {error}"))?;
    }
    for peer in &missing {
        println!("\n!! LEFT OUT: the peer {peer} is not there");
    }
    let short = rows
        .iter()
        .filter(|row| row.verdict == Verdict::FallsShort)
        .count();
    println!(
        "\nside_by_side: {} passed, {short} failed",
        rows.len() - short
    );
    Ok(short == 0)
}

fn main() -> ExitCode {
    let result = parse().and_then(|mut args| match args.runs.is_empty() {
        true => judge_all(&mut args),
        false => run_all(&mut args).map(|()| true),
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
