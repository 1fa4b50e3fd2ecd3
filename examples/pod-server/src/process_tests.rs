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
    let mut process = Process::start(spec(&argv, false)).unwrap();
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
                    assert!(Process::start(spec(&argv, true)).is_err());
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
