//! Commands in sessions of their own, ended together.

use std::{fs::File, process::Stdio, thread};

use rustix::process::kill_process;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdout, Command},
};

use super::*;
use crate::{own_process::in_own_process, reaper::LOOK_AGAIN, stat::processes};

fn start(script: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new("setsid")
        .args(["bash", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    (child, stdout)
}

fn ending(child: Child, manner: Manner) -> Ending {
    Ending::new(Box::new(child), manner, Box::new(())).unwrap()
}

/// Commands in sessions of their own, each with a second process in a group of its own. The
/// outputs stay open.
async fn commands(count: usize) -> (Vec<Child>, Vec<Pid>, Vec<BufReader<ChildStdout>>) {
    let (mut children, mut seconds, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        let (child, output) = start("set -m; sleep 1000 & echo $!; wait");
        children.push(child);
        outputs.push(output);
    }
    for (child, output) in children.iter().zip(&mut outputs) {
        let mut line = String::new();
        output.read_line(&mut line).await.unwrap();
        let second = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
        let stat = Stat::read(second).unwrap().unwrap();
        assert!(stat.is_of(pid(child).unwrap()));
        seconds.push(second);
    }
    (children, seconds, outputs)
}

#[tokio::test]
async fn commands_that_end_together_are_looked_for_together() {
    for manner in [Manner::Kill, Manner::HangUp] {
        let (children, seconds, _outputs) = commands(20).await;
        let mut endings: Vec<_> = children
            .into_iter()
            .map(|child| ending(child, manner))
            .collect();
        let start = Instant::now();
        while !endings.is_empty() {
            let mut looks = 0;
            advance(&mut endings, || {
                looks += 1;
                processes()
            });
            assert!(looks <= 1, "{looks} looks");
            assert!(start.elapsed() < GIVE_UP, "{} left", endings.len());
            thread::sleep(LOOK_AGAIN);
        }
        for second in seconds {
            let left = Stat::read(second).unwrap().filter(Stat::is_alive);
            assert_eq!(left, None, "{second} survives {manner:?}");
        }
    }
}

/// As many connections as there are descriptors must not save a command.
#[test]
fn without_a_descriptor_left_no_process_is_taken_for_dead() {
    // The other tests need descriptors.
    in_own_process("", async || {
        let (mut children, seconds, _outputs) = commands(1).await;
        let (child, second) = (children.pop().unwrap(), seconds[0]);
        let mut crowd = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            crowd.push(file);
        }
        let mut endings = vec![ending(child, Manner::Kill)];
        let start = Instant::now();
        while !endings.is_empty() {
            advance(&mut endings, processes);
            thread::sleep(LOOK_AGAIN);
            // A few of them leave.
            if start.elapsed() > Duration::from_secs(1) {
                crowd.truncate(crowd.len().saturating_sub(10));
            }
        }
        drop(crowd);
        let left = Stat::read(second).unwrap().filter(Stat::is_alive);
        if left.is_some() {
            let _ = kill_process(second, Signal::KILL);
        }
        assert_eq!(left, None, "over after {:?}", start.elapsed());
    });
}

/// A process that is another one at each look: each forks one and exits.
#[tokio::test]
async fn one_that_runs_from_process_to_process_is_ended() {
    // For 15 s, so that a test that fails leaves nothing behind.
    const RUNNER: &str =
        r#"perl -e '$|=1; print "on\n"; $end=time+15; while(time<$end){ $p=fork; exit if $p }'"#;
    let cases = [
        ("RUNNER; exec sleep 20", Manner::Kill),
        ("trap '' HUP; RUNNER & exit", Manner::HangUp),
    ];
    for (script, manner) in cases {
        let script = script.replace("RUNNER", RUNNER);
        let (child, mut stdout) = start(&script);
        stdout.read_line(&mut String::new()).await.unwrap();
        thread::sleep(Duration::from_millis(200));
        let start = Instant::now();
        let mut endings = vec![ending(child, manner)];
        while !endings.is_empty() {
            advance(&mut endings, processes);
            thread::sleep(LOOK_AGAIN);
        }
        let took = start.elapsed();
        // A process that lives holds the pipe.
        stdout.read_to_end(&mut Vec::new()).await.unwrap();
        let lived = start.elapsed() - took;
        assert!(
            lived < Duration::from_secs(2),
            "{script:?} {manner:?}: over after {took:?}, and lived on for {lived:?}"
        );
    }
}

#[tokio::test]
async fn one_that_is_deaf_is_not_looked_for_until_it_is_killed() {
    let (child, mut stdout) = start("trap '' HUP; echo; read forever");
    stdout.read_u8().await.unwrap();
    let mut endings = vec![ending(child, Manner::HangUp)];
    for expected in [1, 0, 0] {
        let mut looks = 0;
        advance(&mut endings, || {
            looks += 1;
            processes()
        });
        assert_eq!((looks, endings.len()), (expected, 1));
    }
    endings[0].since -= HANG_UP;
    let start = Instant::now();
    while !endings.is_empty() {
        advance(&mut endings, processes);
        assert!(start.elapsed() < GIVE_UP);
        thread::sleep(LOOK_AGAIN);
    }
}
