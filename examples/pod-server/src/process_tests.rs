//! Commands by themselves: no client, no session.

use super::*;

fn spec(argv: &[OsString], tty: bool) -> Spec<'_> {
    Spec {
        argv,
        tty,
        stdin: false,
        stdout: true,
        stderr: false,
        size: None,
    }
}

async fn output(argv: &[&str]) -> String {
    let argv: Vec<_> = argv.iter().map(OsString::from).collect();
    let mut process = Process::start(spec(&argv, false)).await.unwrap();
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match process.stdout.as_mut().unwrap().read(&mut piece).await {
            Ok(0) => break,
            length => text.extend_from_slice(&piece[..length.unwrap()]),
        }
    }
    process.finish().await.unwrap();
    String::from_utf8(text).unwrap()
}

/// Terminals are opened while commands start, and no command has one that is not its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn commands_that_start_together_inherit_nothing_of_each_other() {
    let opening: Vec<_> = (0..4)
        .map(|_| {
            tokio::spawn(async {
                // Fails behind the terminal, and soon.
                let argv = ["/no/such".into()];
                loop {
                    assert!(Process::start(spec(&argv, true)).await.is_err());
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let starting: Vec<_> = (0..4)
        .map(|_| {
            tokio::spawn(async {
                for _ in 0..100 {
                    let open = output(&["ls", "-l", "/proc/self/fd"]).await;
                    assert!(!open.contains("ptmx"), "{open}");
                }
            })
        })
        .collect();
    for task in starting {
        task.await.unwrap();
    }
    for task in opening {
        task.abort();
    }
}

/// Too few descriptors, for example: the program is not at fault, and is not named as missing.
#[tokio::test]
async fn a_failure_of_the_setup_does_not_blame_the_program() {
    const CHILD: &str = "POD_SERVER_TEST_SETUP";
    const NAME: &str = "process::tests::a_failure_of_the_setup_does_not_blame_the_program";
    // In a process of its own, which runs out of descriptors.
    if std::env::var_os(CHILD).is_none() {
        let output = std::process::Command::new("sh")
            .args(["-c", "ulimit -n 64; exec \"$0\" --exact \"$1\""])
            .args([std::env::current_exe().unwrap().as_os_str(), NAME.as_ref()])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        return;
    }
    let held: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    for tty in [false, true] {
        let error = Process::start(spec(&["sh".into()], tty)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "unable to start process: preparing the process: too many open files"
        );
    }
    drop(held);
    // How a machine without `/dev/ptmx` fails.
    let missing = CannotStart::Setup(io::ErrorKind::NotFound.into());
    assert!(!missing.to_string().contains("$PATH"), "{missing}");
}
