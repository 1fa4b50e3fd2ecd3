//! Real commands, driven over in-memory streams: no connection, no server.

use std::{
    ffi::{OsStr, OsString},
    future::pending,
    io,
    os::unix::{ffi::OsStrExt, process::ExitStatusExt},
    path::PathBuf,
    process::ExitStatus,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tower_wsstream::{BoxError, Status};

use super::{Channels, End, Sizes, Spec, drive};

/// Half of the grace that a session leaves its service. In real time, because the commands are
/// real.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Less than one read of the copy loops, so that they have to wait for each other.
const SMALL: usize = 4096;

impl Sizes for mpsc::UnboundedReceiver<(u16, u16)> {
    async fn next(&mut self) -> Option<(u16, u16)> {
        self.recv().await
    }
}

/// The far end of a command's channels.
struct Client {
    stdin: Option<DuplexStream>,
    stdout: DuplexStream,
    stderr: DuplexStream,
    resize: mpsc::UnboundedSender<(u16, u16)>,
    end: Option<oneshot::Sender<End>>,
    driving: JoinHandle<Result<ExitStatus, BoxError>>,
}

impl Client {
    fn start<A: AsRef<OsStr>>(argv: &[A], tty: bool) -> Self {
        Self::with_size(argv, tty, None)
    }

    fn sh(script: &str) -> Self {
        Self::start(&["sh", "-c", script], false)
    }

    /// Starts a command without stdin.
    fn silent(script: &str) -> Self {
        Self::open(&["sh", "-c", script], false, false, None)
    }

    fn with_size<A: AsRef<OsStr>>(argv: &[A], tty: bool, size: Option<(u16, u16)>) -> Self {
        Self::open(argv, tty, true, size)
    }

    fn open<A: AsRef<OsStr>>(
        argv: &[A],
        tty: bool,
        has_stdin: bool,
        size: Option<(u16, u16)>,
    ) -> Self {
        let argv: Vec<OsString> = argv.iter().map(|arg| arg.as_ref().into()).collect();
        let (stdin, their_stdin) = duplex(SMALL);
        let (stdout, their_stdout) = duplex(SMALL);
        let (stderr, their_stderr) = duplex(SMALL);
        let (resize, sizes) = mpsc::unbounded_channel();
        if let Some(size) = size {
            resize.send(size).unwrap();
        }
        let (end, ended) = oneshot::channel();
        let driving = tokio::spawn(async move {
            let spec = Spec {
                argv: &argv,
                tty,
                stdin: has_stdin,
                stdout: true,
                stderr: !tty,
                size: None,
            };
            let channels = Channels {
                stdin: has_stdin.then(|| BufReader::new(their_stdin)),
                stdout: Some(their_stdout),
                stderr: (!tty).then_some(their_stderr),
                resize: Some(sizes),
            };
            let ended = async move {
                match ended.await {
                    Ok(end) => end,
                    Err(_) => pending().await,
                }
            };
            drive(spec, channels, ended).await
        });
        Self {
            stdin: Some(stdin),
            stdout,
            stderr,
            resize,
            end: Some(end),
            driving,
        }
    }

    fn end_session(&mut self, end: fn(BoxError) -> End) {
        let end = end("the session has ended".into());
        self.end.take().unwrap().send(end).unwrap();
    }

    /// Returns how it ended. Only the command is waited for.
    async fn ended_at_once(self) -> Result<ExitStatus, BoxError> {
        timeout(AT_ONCE, self.driving).await.unwrap().unwrap()
    }

    async fn line(&mut self) -> String {
        let mut line = Vec::new();
        loop {
            match self.stdout.read_u8().await.unwrap() {
                b'\n' => return String::from_utf8(line).unwrap().trim_end().to_owned(),
                byte => line.push(byte),
            }
        }
    }

    async fn type_in(&mut self, keys: &str) {
        self.stdin
            .as_mut()
            .unwrap()
            .write_all(keys.as_bytes())
            .await
            .unwrap();
    }

    /// Ends the input, and returns both outputs and the exit status.
    async fn finish(mut self) -> (String, String, ExitStatus) {
        self.stdin = None;
        let (mut out, mut err) = (String::new(), String::new());
        let all = async {
            tokio::try_join!(
                self.stdout.read_to_string(&mut out),
                self.stderr.read_to_string(&mut err)
            )
            .unwrap();
            self.driving.await.unwrap().unwrap()
        };
        // Long enough for any machine: a test that hangs has to fail.
        let status = timeout(Duration::from_secs(30), all).await.unwrap();
        (out, err, status)
    }

    async fn failure(self) -> String {
        let error = self.driving.await.unwrap().unwrap_err();
        let status = error.downcast_ref::<Status>().expect("a Status");
        assert_eq!(status.code(), Some(500));
        status.message().unwrap().to_owned()
    }
}

/// Returns how many processes of a session are alive, as `ps` sees them.
fn alive(session: &str) -> usize {
    let out = std::process::Command::new("ps")
        .args(["-o", "stat=", "-s", session])
        .output()
        .unwrap();
    String::from_utf8(out.stdout)
        .unwrap()
        .lines()
        .filter(|state| !state.starts_with('Z'))
        .count()
}

async fn gone_within(session: &str, limit: Duration) {
    let start = Instant::now();
    while alive(session) > 0 {
        assert!(start.elapsed() < limit, "{} alive", alive(session));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A copy of a program that is under a write lease, so that `execve` waits until the holder gives
/// the lease up. A program on a network file system that does not answer hangs likewise.
struct Leased {
    program: PathBuf,
    holder: std::process::Child,
}

impl Leased {
    fn new(program: &str, name: &str) -> Self {
        // F_SETLEASE is 1024, and F_WRLCK is 1. The lease ends by itself, so that nothing hangs for
        // ever where the test fails.
        const HOLD: &str = "$SIG{IO} = 'IGNORE'; $| = 1; open F, '<', $ARGV[0] or die; \
            fcntl(F, 1024, 1) or die; print qq(on\n); $e = time + 15; sleep 1 while time < $e";
        let path = std::env::temp_dir().join(format!("pod-server-{name}-{}", std::process::id()));
        std::fs::copy(program, &path).unwrap();
        let mut holder = std::process::Command::new("perl")
            .args(["-e", HOLD])
            .arg(&path)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 3];
        io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut line).unwrap();
        assert_eq!(&line, b"on\n");
        Self {
            program: path,
            holder,
        }
    }

    fn release(&mut self) {
        self.holder.kill().unwrap();
        self.holder.wait().unwrap();
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        let _ = std::fs::remove_file(&self.program);
    }
}

#[test]
fn the_service_is_send() {
    fn is_send<T: Send>(_: fn(tower_wsstream::remotecommand::RemoteCommand) -> T) {}
    is_send(super::run);
}

#[tokio::test]
async fn exit_codes_and_signals_are_told() {
    for code in [0, 1, 42, 137, 255] {
        let (_, _, status) = Client::sh(&format!("exit {code}")).finish().await;
        assert_eq!(status.code(), Some(code));
    }
    let (_, _, status) = Client::sh("kill -9 $$").finish().await;
    assert_eq!(status.signal(), Some(9));
}

#[tokio::test]
async fn stdout_and_stderr_stay_apart() {
    let (out, err, _) = Client::sh("echo out; echo err >&2").finish().await;
    assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
}

#[tokio::test]
async fn bytes_pass_unchanged_and_the_end_of_stdin_arrives() {
    let sent: Vec<u8> = (0..3_000_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let mut client = Client::start(&["cat"], false);
    let mut stdin = client.stdin.take().unwrap();
    let expected = sent.clone();
    let sending = tokio::spawn(async move { stdin.write_all(&sent).await });
    let mut received = Vec::new();
    client.stdout.read_to_end(&mut received).await.unwrap();
    sending.await.unwrap().unwrap();
    assert!(received == expected);
    assert!(client.driving.await.unwrap().unwrap().success());
}

#[tokio::test]
async fn a_command_that_never_reads_ends_with_its_own_code() {
    let mut client = Client::sh("echo begun; sleep 0.2; echo over; exit 7");
    let mut stdin = client.stdin.take().unwrap();
    let sending = tokio::spawn(async move { while stdin.write_all(&[0; 1000]).await.is_ok() {} });
    assert_eq!(client.line().await, "begun");
    assert_eq!(client.line().await, "over");
    assert_eq!(client.driving.await.unwrap().unwrap().code(), Some(7));
    // The reader is dropped, not left full.
    sending.await.unwrap();
}

#[tokio::test]
async fn a_command_that_closes_its_stdin_runs_on() {
    let mut client = Client::sh("exec <&-; echo closed; sleep 0.2; echo done");
    assert_eq!(client.line().await, "closed");
    client.type_in("unread").await;
    let (out, _, status) = client.finish().await;
    assert_eq!(out, "done\n");
    assert!(status.success());
}

#[tokio::test]
async fn an_argument_that_is_not_utf_8_reaches_the_command() {
    let script = r#"printf %s "$1" | od -An -tx1"#;
    let argv = [
        b"sh".as_slice(),
        b"-c",
        script.as_bytes(),
        b"sh",
        b"a\xff\xc3",
    ];
    let (out, _, status) = Client::start(&argv.map(OsStr::from_bytes), false)
        .finish()
        .await;
    assert_eq!(out, " 61 ff c3\n");
    assert!(status.success());
    let unknown = Client::start(&[OsStr::from_bytes(b"no\xff")], false);
    let message = unknown.failure().await;
    assert!(
        message.contains(r#"exec: "no\xFF": executable"#),
        "{message}"
    );
}

#[tokio::test]
async fn a_command_that_cannot_start_is_named() {
    let start = |name| Client::start(&[name], false).failure();
    let prefix = "Internal error occurred: error executing command in container: unable to start process: exec: ";
    assert_eq!(
        start("no-such-command").await,
        format!("{prefix}\"no-such-command\": executable file not found in $PATH")
    );
    assert_eq!(
        start("/no/such").await,
        format!("{prefix}\"/no/such\": no such file or directory")
    );
    assert_eq!(
        start("/etc/passwd").await,
        format!("{prefix}\"/etc/passwd\": permission denied")
    );
    assert!(start("").await.contains("executable file not found"));
    assert!(start("nul\0byte").await.contains("NUL"));
    let long = "x".repeat(4 << 20);
    assert!(
        Client::start(&["echo", &long], false)
            .failure()
            .await
            .contains("argument list too long")
    );
}

/// One on a network file system that does not answer. In the clock of `std`: no timer of tokio fires
/// while all its threads are stuck.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_cannot_be_opened_holds_up_no_other() {
    let leased = Leased::new("/bin/true", "leased");
    // Before the pause below, which does not end either while all threads are stuck.
    let start = Instant::now();
    // More than the threads of the runtime: a thread may have several of them to start.
    let stuck = [(); 8].map(|()| Client::start(&[&leased.program], false));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(Client::sh("exit 0").finish().await.2.success());
    // This waits until the stuck ones have surely forked.
    let terminal = Client::start(&["true"], true).finish().await;
    assert!(terminal.2.success());
    assert!(start.elapsed() < Duration::from_secs(2));
    drop(leased);
    for stuck in stuck {
        assert!(stuck.finish().await.2.success());
    }
}

#[tokio::test]
async fn a_start_that_is_dropped_leaves_no_command() {
    let mut leased = Leased::new("/bin/sh", "dropped");
    let note = leased.program.with_extension("note");
    let script = format!("sleep 0.3; echo ran >{}; sleep 1000", note.display());
    let argv = [leased.program.as_os_str(), "-c".as_ref(), script.as_ref()];
    let client = Client::start(&argv, false);
    // Until it is stuck.
    tokio::time::sleep(Duration::from_millis(200)).await;
    client.driving.abort();
    assert!(client.driving.await.unwrap_err().is_cancelled());
    leased.release();
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(!note.exists());
    let found = std::process::Command::new("pgrep")
        .arg("-f")
        .arg(&leased.program)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

/// The first poll comes before the 101, and a drain may still refuse the request then.
#[tokio::test]
async fn nothing_has_started_after_the_first_poll() {
    let note = std::env::temp_dir().join(format!("pod-server-poll-{}", std::process::id()));
    let argv = ["touch".into(), note.clone().into()];
    let spec = Spec {
        argv: &argv,
        tty: false,
        stdin: false,
        stdout: false,
        stderr: false,
        size: None,
    };
    let channels = Channels::<BufReader<DuplexStream>, DuplexStream, mpsc::UnboundedReceiver<_>> {
        stdin: None,
        stdout: None,
        stderr: None,
        resize: None,
    };
    let mut driving = tokio_test::task::spawn(drive(spec, channels, pending()));
    tokio_test::assert_pending!(driving.poll());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!note.exists());
    // Later polls start it.
    assert!(driving.await.unwrap().success());
    std::fs::remove_file(note).unwrap();
}

#[tokio::test]
async fn children_inherit_neither_signals_nor_descriptors() {
    // The C library ignores 32 and 33, its own, in what it spawns.
    const OWN_OF_LIBC: u64 = 0b11 << 31;
    let (out, _, _) = Client::start(&["grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"], false)
        .finish()
        .await;
    for line in out.lines() {
        let (_, set) = line.split_once(":\t").unwrap();
        assert_eq!(
            u64::from_str_radix(set, 16).unwrap() & !OWN_OF_LIBC,
            0,
            "{out}"
        );
    }
    // No more than a plain child gets: this program may have inherited some itself.
    let ls = ["ls", "/proc/self/fd"];
    let plain = std::process::Command::new(ls[0])
        .arg(ls[1])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let (out, _, _) = Client::start(&ls, false).finish().await;
    assert_eq!(out.as_bytes(), plain.stdout);
}

#[tokio::test]
async fn a_lost_connection_kills_the_whole_session_at_once() {
    // Two process groups, one of them stopped, that ignore all signals that can be ignored.
    let script = "trap '' HUP TERM PIPE; set -m; (sleep 1000; true) & (kill -STOP $BASHPID) & echo $$; sleep 1000";
    let mut client = Client::start(&["bash", "-c", script], false);
    let session = client.line().await;
    assert!(alive(&session) >= 3);
    client.end_session(End::Lost);
    assert!(client.driving.await.unwrap().is_err());
    gone_within(&session, Duration::from_millis(500)).await;
}

#[tokio::test]
async fn an_orphan_that_holds_stdout_keeps_the_session_and_dies_with_it() {
    let mut client = Client::sh("sleep 1000 & echo $$");
    let session = client.line().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!client.driving.is_finished());
    assert_eq!(alive(&session), 1);
    client.end_session(End::Lost);
    assert!(client.driving.await.unwrap().is_err());
    gone_within(&session, Duration::from_millis(500)).await;
}

#[tokio::test]
async fn what_was_left_in_the_background_on_purpose_is_left_alone() {
    let client = Client::sh("sleep 1000 >/dev/null 2>&1 & echo $! $$");
    let (out, _, status) = client.finish().await;
    assert!(status.success());
    let (process, session) = out.trim().split_once(' ').unwrap();
    assert_eq!(alive(session), 1);
    std::process::Command::new("kill")
        .args(["-9", process])
        .status()
        .unwrap();
}

#[tokio::test]
async fn a_future_dropped_without_a_word_kills() {
    let mut client = Client::sh("trap '' HUP; echo $$; sleep 1000; sleep 1000");
    let session = client.line().await;
    client.driving.abort();
    gone_within(&session, Duration::from_millis(500)).await;
}

#[tokio::test]
async fn after_a_close_the_command_has_its_grace() {
    let mut client = Client::sh("cat >/dev/null; sleep 0.3; echo done");
    client.end_session(End::Closed);
    let (out, _, status) = client.finish().await;
    assert_eq!(out, "done\n");
    assert!(status.success());
}

#[tokio::test]
async fn without_stdin_the_end_of_the_session_ends_the_command() {
    for end in [End::Closed as fn(_) -> _, End::Stopped] {
        let mut client = Client::silent("echo $$; sleep 1000");
        let session = client.line().await;
        client.end_session(end);
        assert!(client.ended_at_once().await.is_err());
        gone_within(&session, AT_ONCE).await;
    }
}

#[tokio::test]
async fn after_the_end_of_stdin_a_close_ends_the_command() {
    let mut client = Client::sh("echo $$; cat; echo over; sleep 1000");
    let session = client.line().await;
    client.stdin = None;
    assert_eq!(client.line().await, "over");
    client.end_session(End::Closed);
    assert!(client.ended_at_once().await.is_err());
    gone_within(&session, AT_ONCE).await;
}

#[tokio::test]
async fn a_server_that_stops_ends_a_command_that_has_stdin() {
    let mut client = Client::sh("echo $$; sleep 1000");
    let session = client.line().await;
    client.end_session(End::Stopped);
    assert!(client.ended_at_once().await.is_err());
    gone_within(&session, AT_ONCE).await;
}

#[tokio::test]
async fn a_command_that_takes_no_input_has_its_grace_after_a_close() {
    let mut client = Client::sh("exec <&-; echo closed; sleep 0.3; echo done");
    assert_eq!(client.line().await, "closed");
    // The command does not take it.
    client.type_in("more").await;
    client.end_session(End::Closed);
    let (out, _, status) = client.finish().await;
    assert_eq!(out, "done\n");
    assert!(status.success());
}

#[tokio::test]
async fn output_of_a_command_that_has_exited_outlives_the_end() {
    let mut client = Client::silent("echo $$; head -c 20000 /dev/zero; exit 3");
    let session = client.line().await;
    gone_within(&session, AT_ONCE).await;
    // Until the exit was seen here as well.
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.end_session(End::Stopped);
    let (out, _, status) = client.finish().await;
    assert_eq!((out.len(), status.code()), (20_000, Some(3)));
}

#[tokio::test]
async fn an_orphan_that_holds_stdout_is_ended_by_a_close() {
    let mut client = Client::silent("sleep 1000 & echo $$");
    let session = client.line().await;
    client.end_session(End::Closed);
    assert!(client.ended_at_once().await.is_err());
    gone_within(&session, AT_ONCE).await;
}

#[tokio::test]
async fn after_the_grace_comes_sighup_and_soon_sigkill() {
    let note = std::env::temp_dir().join(format!("pod-server-hup-{}", std::process::id()));
    let script = format!(
        "trap 'echo hung up >{}' HUP; echo $$; while :; do sleep 0.02; done",
        note.display()
    );
    let mut client = Client::sh(&script);
    let session = client.line().await;
    client.end_session(End::Closed);
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.driving.abort();
    gone_within(&session, Duration::from_secs(1)).await;
    assert_eq!(std::fs::read_to_string(&note).unwrap(), "hung up\n");
    std::fs::remove_file(note).unwrap();
}

#[tokio::test]
async fn a_cut_upload_does_not_look_complete() {
    let note = std::env::temp_dir().join(format!("pod-server-cut-{}", std::process::id()));
    for kind in [
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::ConnectionAborted,
    ] {
        // It ignores SIGHUP, so it would see an end of its input before the SIGKILL.
        let script = format!(
            "trap '' HUP; cat >/dev/null; echo complete >{}",
            note.display()
        );
        let argv = ["sh".into(), "-c".into(), script.into()];
        let spec = Spec {
            argv: &argv,
            tty: false,
            stdin: true,
            stdout: false,
            stderr: false,
            size: None,
        };
        let stdin = tokio_test::io::Builder::new()
            .read(b"half of it")
            .wait(Duration::from_millis(100))
            .read_error(kind.into())
            .build();
        let channels = Channels::<_, DuplexStream, mpsc::UnboundedReceiver<_>> {
            stdin: Some(BufReader::new(stdin)),
            stdout: None,
            stderr: None,
            resize: None,
        };
        assert!(drive(spec, channels, pending()).await.is_err());
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert!(!note.exists(), "{kind:?}");
    }
}

#[tokio::test]
async fn a_terminal_has_its_size_from_the_start_and_follows() {
    let script =
        "stty size; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.02; done";
    let mut client = Client::with_size(&["sh", "-c", script], true, Some((132, 43)));
    assert_eq!(client.line().await, "43 132");
    assert_eq!(client.line().await, "ready");
    client.resize.send((100, 30)).unwrap();
    assert_eq!(client.line().await, "30 100");
    assert_eq!(client.driving.await.unwrap().unwrap().code(), Some(5));
}

#[tokio::test]
async fn ctrl_c_interrupts_in_a_terminal() {
    let mut client = Client::start(&["sh", "-c", "tty; echo $TERM; exec sleep 1000"], true);
    assert!(client.line().await.starts_with("/dev/pts/"));
    assert_eq!(client.line().await, "xterm");
    client.type_in("\x03").await;
    assert_eq!(client.driving.await.unwrap().unwrap().signal(), Some(2));
}

#[tokio::test]
async fn a_shell_in_a_terminal_has_job_control() {
    let mut client = Client::start(&["bash", "--norc", "-i"], true);
    // The result, and not the echo of the line. The job prints it, so it runs.
    client
        .type_in("sh -c 'echo job $((6 * 7)); exec sleep 1000'\r")
        .await;
    while !client.line().await.contains("job 42") {}
    client.type_in("\x1a").await;
    while !client.line().await.contains("Stopped") {}
    client.type_in("exec sh -c 'exit 9'\r").await;
    let mut rest = Vec::new();
    client.stdout.read_to_end(&mut rest).await.unwrap();
    assert_eq!(client.driving.await.unwrap().unwrap().code(), Some(9));
}

#[tokio::test]
async fn the_end_of_stdin_ends_a_reader_in_a_terminal() {
    for typed in ["whole line\r", "half a line"] {
        let mut client = Client::start(&["sh", "-c", "stty -echo; echo on; exec cat"], true);
        assert_eq!(client.line().await, "on");
        client.type_in(typed).await;
        let (out, _, status) = client.finish().await;
        assert_eq!(out.trim_end(), typed.trim_end());
        assert!(status.success());
    }
}

#[tokio::test]
async fn all_output_of_a_terminal_arrives() {
    let (out, _, _) = Client::start(&["seq", "50000"], true).finish().await;
    assert_eq!(out.lines().count(), 50_000);
    assert!(out.ends_with("50000\r\n"));
}

#[tokio::test]
async fn a_lost_connection_kills_a_terminal_session() {
    let mut client = Client::start(
        &[
            "bash",
            "-c",
            "trap '' HUP; echo $$; set -m; sleep 1000 & sleep 1000",
        ],
        true,
    );
    let session = client.line().await;
    client.end_session(End::Lost);
    assert!(client.driving.await.unwrap().is_err());
    gone_within(&session, Duration::from_millis(500)).await;
}
