//! The `kube` crate, unmodified, against `pod-server`: exec and attach over
//! v5 as it asks for it and over v4, and port-forward.
//!
//!     cargo run -p pod-server -- --listen 127.0.0.1:8001
//!     cargo run --manifest-path tests/kube/Cargo.toml -- http://127.0.0.1:8001 [--mib 16] [--only WORD]
//!
//! The pod must be this machine: what a command wrote is looked at beside kube.
//! A line a check; ends with `kube: P passed, F failed`.

mod checks;
mod forward;
mod pod;
mod report;

use std::process::ExitCode;

use pod::{Pod, Subprotocol};
use report::{Failure, Report};

const USAGE: &str = "usage: wsstream-kube URL [--mib N] [--only WORD]";
const SESSIONS_AT_ONCE: usize = 20;
const FORWARDED_MIB: usize = 64;

struct Args {
    url: http::Uri,
    mib: usize,
    only: Option<String>,
}

fn args() -> Result<Args, Failure> {
    let (mut url, mut mib, mut only) = (None, 16, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--mib" => mib = words.next().ok_or(USAGE)?.parse()?,
            "--only" => only = Some(words.next().ok_or(USAGE)?),
            _ => url = Some(word.parse()?),
        }
    }
    Ok(Args {
        url: url.ok_or(USAGE)?,
        mib,
        only,
    })
}

#[tokio::main]
async fn main() -> Result<ExitCode, Failure> {
    let Args { url, mib, only } = args()?;
    let mut report = Report::new(only);
    for subprotocol in [Subprotocol::V5, Subprotocol::V4] {
        let pod = &Pod::new(&url, subprotocol)?;
        macro_rules! check {
            ($name:literal, $check:ident $(, $argument:expr)*) => {
                let name = format!("{} {}", subprotocol.name(), $name);
                report.check(name, checks::$check(pod $(, $argument)*)).await;
            };
        }
        check!("stdin, stdout, stderr, success", streams);
        check!("exit codes", exit_codes);
        check!("no such command", cannot_start);
        check!("no such pod", no_such_pod);
        check!("terminal: typing and resize", resize);
        check!("empty stdin", empty_stdin);
        check!("work after the end of stdin", work_after_the_end_of_stdin);
        check!("joined at once", joined_at_once);
        check!("upload", upload, mib);
        check!("download", download, mib);
        check!("there and back", there_and_back, mib);
        check!("sessions at once", at_once, SESSIONS_AT_ONCE);
        check!("attach", attach);
        selected(&mut report, subprotocol.name(), pod, subprotocol).await;
    }
    // kube offers both here too, and has to be given the older one.
    let pod = &Pod::new(&url, Subprotocol::V5)?;
    macro_rules! check {
        ($name:literal, $check:ident $(, $argument:expr)*) => {
            let name = format!("portforward {}", $name);
            report.check(name, forward::$check(pod $(, $argument)*)).await;
        };
    }
    check!("two ports at once, both ways", both_ways, FORWARDED_MIB);
    check!("refused port", refused_port);
    check!("target that ends first", target_ends_first);
    check!("client that breaks off", broken_off);
    check!("joined at once", joined_at_once);
    check!("no such pod", no_such_pod);
    selected(&mut report, "portforward v4", pod, Subprotocol::V4).await;
    Ok(if report.finish() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Every session of the checks before has had what it should.
async fn selected(report: &mut Report, what: &str, pod: &Pod, wanted: Subprotocol) {
    let selected = async {
        match pod.selected(wanted)? {
            0 => Err("there was no session".into()),
            count => Ok(format!("{count} sessions")),
        }
    };
    let name = format!("{what} was selected every time");
    report.check(name, selected).await;
}
