//! Tests that spring each trap of an exec.

use std::{fs, path::PathBuf};

use tokio::time::{sleep, timeout};
use tower_wsstream::{
    remotecommand::channel::{STDIN, STDOUT},
    subprotocols,
    testing::{Client, Connect, Received},
};

use super::*;

/// A timeout that is long enough for any machine, so that only a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

async fn sh(script: &str) -> Client {
    let script: String = script.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let target = format!(
        "/api/v1/namespaces/default/pods/demo/exec?stdin=1&stdout=1&command=sh&command=-c&command={script}"
    );
    let connect = Connect::to(target).offer(subprotocols::V5);
    connect.connect(app(Sessions::default())).await.unwrap()
}

async fn line(client: &mut Client) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        match timeout(PATIENCE, client.receive()).await.unwrap() {
            Received::Message(STDOUT, bytes) => line.extend(bytes),
            other => panic!("{other:?}"),
        }
    }
    String::from_utf8(line).unwrap().trim_end().to_owned()
}

async fn gone(process: &str) {
    let state = || {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    };
    let dead = async {
        while !matches!(state(), None | Some('Z')) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, dead).await.expect("it is killed");
}

#[tokio::test]
async fn an_open_stdin_does_not_keep_the_session() {
    let client = sh("echo out; exit 3").await;
    let transcript = timeout(PATIENCE, client.read_to_end()).await.unwrap();
    assert_eq!(transcript.channel(STDOUT), b"out\n");
    assert_eq!(transcript.exit_code(), Some(3));
}

#[tokio::test]
async fn a_command_may_close_its_stdin() {
    let mut client = sh("exec <&-; echo closed; read go </dev/null; sleep 0.3; echo out").await;
    assert_eq!(line(&mut client).await, "closed");
    for _ in 0..100 {
        client.send(STDIN, &[b'x'; 32 * 1024]).await.unwrap();
    }
    let transcript = timeout(PATIENCE, client.read_to_end()).await.unwrap();
    assert_eq!(transcript.channel(STDOUT), b"out\n");
    assert_eq!(transcript.exit_code(), Some(0));
}

#[tokio::test]
async fn the_end_of_stdin_reaches_the_command() {
    let mut client = sh("cat; echo end").await;
    client.send(STDIN, b"in\n").await.unwrap();
    client.close_channel(STDIN).await.unwrap();
    let transcript = timeout(PATIENCE, client.read_to_end()).await.unwrap();
    assert_eq!(transcript.channel(STDOUT), b"in\nend\n");
}

#[tokio::test]
async fn processes_of_the_command_die_with_the_session() {
    let mut client = sh("sleep 4711 & echo $!; wait").await;
    let grandchild = line(&mut client).await;
    client.lose();
    gone(&grandchild).await;
}

#[tokio::test]
async fn an_upload_that_is_cut_off_does_not_look_complete() {
    let file = |name| -> PathBuf {
        let name = format!("wsstream-exec-{}-{name}", std::process::id());
        std::env::temp_dir().join(name)
    };
    let (upload, complete) = (file("upload"), file("complete"));
    let script = format!(
        "echo $$; cat >{}; echo yes >{}",
        upload.display(),
        complete.display()
    );
    let mut client = sh(&script).await;
    let shell = line(&mut client).await;
    client.send(STDIN, b"half of it").await.unwrap();
    client.lose();
    gone(&shell).await;
    let _ = fs::remove_file(upload);
    assert!(!complete.exists());
}

/// When the client is lost, the shell has exited, but a process that it started still
/// holds its output open.
#[tokio::test]
async fn processes_of_an_exited_command_die_with_the_session() {
    let mut client = sh("sleep 40 & echo $!").await;
    let grandchild = line(&mut client).await;
    // The shell exits, and the server waits for it.
    sleep(Duration::from_millis(500)).await;
    client.lose();
    timeout(Duration::from_secs(5), gone(&grandchild))
        .await
        .expect("it is killed");
}
