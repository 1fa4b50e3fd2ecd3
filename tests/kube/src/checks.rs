//! Checks that must hold for every subprotocol that kube speaks.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::SinkExt;
use futures::future::try_join_all;
use kube::api::{AttachParams, TerminalSize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::pod::{POD, Pod, code, told, why};
use crate::report::{Failure, equal};

/// The outcome of a check, with a remark for its line of the report.
pub(crate) type Checked = Result<String, Failure>;

/// The size of kube's pipes in these checks. Its default is 1 KiB, and its messages are
/// as large as its pipes.
const WIDE: usize = 64 << 10;

/// Checks stdin through `cat`, stderr beside it, and success.
pub(crate) async fn streams(pod: &Pod) -> Checked {
    let command = ["sh", "-c", "cat; echo to-err >&2"];
    let ended = pod.run(&command, Some(b"hello\n")).await?;
    equal(ended.stdout.as_slice(), b"hello\n", "stdout")?;
    equal(ended.stderr.as_slice(), b"to-err\n", "stderr")?;
    equal(ended.code()?.as_str(), "0", "exit code")?;
    Ok(String::new())
}

/// Checks that the client is told each exit code. There is no stdin, so that only the
/// server ends the session.
pub(crate) async fn exit_codes(pod: &Pod) -> Checked {
    for (script, wanted) in [
        ("true", "0"),
        ("exit 1", "1"),
        ("exit 42", "42"),
        ("kill -9 $$", "137"),
    ] {
        let script = format!("echo out; echo err >&2; {script}");
        let ended = pod.run(&["sh", "-c", &script], None).await?;
        equal(ended.stdout.as_slice(), b"out\n", "stdout")?;
        equal(ended.stderr.as_slice(), b"err\n", "stderr")?;
        equal(ended.code()?.as_str(), wanted, "exit code")?;
    }
    Ok(String::new())
}

/// Checks that the reason is in words, and that nothing breaks.
pub(crate) async fn cannot_start(pod: &Pod) -> Checked {
    let status = pod.run(&["no-such-command"], None).await?.status;
    equal(
        status.reason.as_deref(),
        Some("InternalError"),
        "reason of the status",
    )?;
    let message = status.message.unwrap_or_default();
    if !message.contains("no-such-command") {
        return Err(format!("not named in {message:?}").into());
    }
    Ok(message)
}

/// Checks that an answer before the upgrade is an error that kube can read.
pub(crate) async fn no_such_pod(pod: &Pod) -> Checked {
    let params = AttachParams::default();
    match pod.api.exec("nobody", ["true"], &params).await {
        Err(kube::Error::Api(status)) => {
            equal(status.code, 404, "code")?;
            Ok(status.message)
        }
        Err(error) => Err(why("another error", &error)),
        Ok(_) => Err("it was found".into()),
    }
}

/// Checks that a terminal takes on the first size and every later one, and echoes what
/// is typed.
pub(crate) async fn resize(pod: &Pod) -> Checked {
    let script = r#"read line; echo "got $line"
        becomes() { until [ "$(stty size)" = "$1" ]; do sleep 0.05; done; echo "is $1"; }
        becomes "47 132"; becomes "24 80"; test -t 0 && test -t 1 && exit 6"#;
    let mut process = pod
        .exec(&["sh", "-c", script], &AttachParams::interactive_tty())
        .await?;
    let mut stdin = process.stdin().ok_or("kube gives no stdin")?;
    let mut stdout = process.stdout().ok_or("kube gives no stdout")?;
    let mut sizes = process.terminal_size().ok_or("kube gives no sizes")?;
    let status = process.take_status().ok_or("kube gives no status")?;
    let talk = async {
        stdin.write_all(b"hello\n").await?;
        hear(&mut stdout, "got hello").await?;
        for (width, height) in [(132, 47), (80, 24)] {
            sizes.send(TerminalSize { width, height }).await?;
            hear(&mut stdout, &format!("is {height} {width}")).await?;
        }
        status.await.ok_or_else(|| "kube got no status".into())
    };
    let status = told(talk, process).await?;
    equal(code(&status)?.as_str(), "6", "exit code")?;
    Ok(String::new())
}

/// Reads until the words have arrived.
async fn hear(stdout: &mut (impl AsyncRead + Unpin), words: &str) -> Result<(), Failure> {
    let mut heard = String::new();
    let mut piece = [0; 1024];
    while !heard.contains(words) {
        let count = stdout.read(&mut piece).await?;
        if count == 0 {
            return Err(format!("the end instead of {words:?}; heard {heard:?}").into());
        }
        heard += &String::from_utf8_lossy(&piece[..count]);
    }
    Ok(())
}

/// Checks that `shutdown` ends stdin and nothing else: on v5 with a CLOSE of the
/// channel, on v4 with a Close of the whole WebSocket, after which the command still
/// works and its output arrives.
pub(crate) async fn work_after_the_end_of_stdin(pod: &Pod) -> Checked {
    let file = Scratch::new();
    let script = r#"cat >"$1"; sleep 3; echo done; echo done-too >&2; exit 4"#;
    let command = ["sh", "-c", script, "sh", file.name()];
    let stdin = bytes(1 << 20);
    let ended = pod.run(&command, Some(&stdin)).await?;
    same(&std::fs::read(&file.0)?, &stdin)?;
    equal(ended.stdout.as_slice(), b"done\n", "stdout")?;
    equal(ended.stderr.as_slice(), b"done-too\n", "stderr")?;
    equal(ended.code()?.as_str(), "4", "exit code")?;
    Ok(String::new())
}

/// Checks an end of stdin with nothing before it.
pub(crate) async fn empty_stdin(pod: &Pod) -> Checked {
    let ended = pod.run(&["wc", "-c"], Some(b"")).await?;
    equal(ended.stdout.as_slice(), b"0\n", "stdout")?;
    equal(ended.code()?.as_str(), "0", "exit code")?;
    Ok(String::new())
}

/// Checks a `join` at once, which many users call: it ends stdin, on v4 with a Close
/// before the command has begun.
pub(crate) async fn joined_at_once(pod: &Pod) -> Checked {
    // With stdin, because without it a Close is a goodbye, and the command ends.
    let params = AttachParams::default().stdin(true).stdout(false);
    let mut process = pod.exec(&["sh", "-c", "sleep 1; exit 3"], &params).await?;
    let status = process.take_status().ok_or("kube gives no status")?;
    process.join().await.map_err(|error| why("join", &error))?;
    let status = status.await.ok_or("kube got no status")?;
    equal(code(&status)?.as_str(), "3", "exit code")?;
    Ok(String::new())
}

pub(crate) async fn upload(pod: &Pod, mib: usize) -> Checked {
    let file = Scratch::new();
    let stdin = bytes(mib << 20);
    let command = ["sh", "-c", r#"cat >"$1""#, "sh", file.name()];
    let ended = pod.run(&command, Some(&stdin)).await?;
    equal(ended.code()?.as_str(), "0", "exit code")?;
    same(&std::fs::read(&file.0)?, &stdin)?;
    Ok(format!("{mib} MiB in messages of 1 KiB"))
}

pub(crate) async fn download(pod: &Pod, mib: usize) -> Checked {
    let file = Scratch::new();
    let wanted = bytes(mib << 20);
    std::fs::write(&file.0, &wanted)?;
    let params = AttachParams::default().max_stdout_buf_size(WIDE);
    let command = ["sh", "-c", r#"cat "$1"; exit 2"#, "sh", file.name()];
    let ended = pod.run_with(&command, None, &params).await?;
    same(&ended.stdout, &wanted)?;
    equal(ended.code()?.as_str(), "2", "exit code")?;
    Ok(format!("{mib} MiB"))
}

/// Sends data through `cat`, in both directions at the same time.
pub(crate) async fn there_and_back(pod: &Pod, mib: usize) -> Checked {
    let stdin = bytes(mib << 20);
    let params = AttachParams::default()
        .stdin(true)
        .max_stdin_buf_size(WIDE)
        .max_stdout_buf_size(WIDE);
    let ended = pod.run_with(&["cat"], Some(&stdin), &params).await?;
    same(&ended.stdout, &stdin)?;
    equal(ended.code()?.as_str(), "0", "exit code")?;
    Ok(format!("{mib} MiB"))
}

/// Checks that no session gets the output or the exit code of another.
pub(crate) async fn at_once(pod: &Pod, sessions: usize) -> Checked {
    try_join_all((1..=sessions).map(|number| async move {
        let script = format!("cat; echo err-{number} >&2; sleep 1; exit {number}");
        let stdin = format!("word-{number}");
        let ended = pod
            .run(&["sh", "-c", &script], Some(stdin.as_bytes()))
            .await?;
        equal(String::from_utf8(ended.stdout.clone())?, stdin, "stdout")?;
        let wanted = format!("err-{number}\n").into_bytes();
        equal(&ended.stderr, &wanted, "stderr")?;
        equal(ended.code()?, number.to_string(), "exit code")
    }))
    .await?;
    Ok(format!("{sessions} sessions"))
}

/// Checks attaching to a process that is already running: it ticks each second and
/// repeats lines.
pub(crate) async fn attach(pod: &Pod) -> Checked {
    let params = AttachParams::default().stdin(true).stderr(false);
    let mut process = pod.api.attach(POD, &params).await?;
    let mut stdin = process.stdin().ok_or("kube gives no stdin")?;
    let mut stdout = process.stdout().ok_or("kube gives no stdout")?;
    hear(&mut stdout, "tick ").await?;
    stdin.write_all(b"hello from kube\n").await?;
    hear(&mut stdout, "hello from kube").await?;
    hear(&mut stdout, "tick ").await?;
    Ok(String::new())
}

/// Returns bytes without a pattern that could hide a mistake.
pub(crate) fn bytes(count: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut made = Vec::with_capacity(count + 8);
    while made.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        made.extend_from_slice(&state.to_le_bytes());
    }
    made.truncate(count);
    made
}

fn same(seen: &[u8], wanted: &[u8]) -> Result<(), Failure> {
    equal(seen.len(), wanted.len(), "bytes")?;
    match seen
        .iter()
        .zip(wanted)
        .position(|(one, other)| one != other)
    {
        None => Ok(()),
        Some(place) => Err(format!("the bytes differ at {place}").into()),
    }
}

/// A unique path, whose file is removed when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        // Relaxed: the numbers only have to differ.
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wsstream-kube-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn name(&self) -> &str {
        self.0.to_str().expect("made of ASCII, in a usual folder")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
