//! Testing a service: an upload over `exec` that stores a whole file or nothing, and the
//! tests that prove it.
//!
//!     cargo test --all-features --example testing
//!
//! This prints `6 passed` at once, because the minute of the idle timeout is paused time.
//! The service is one function, and half of this file is its tests. To try it by hand:
//!
//!     cargo run --example testing
//!     npx wscat -s v4.base64.channel.k8s.io \
//!         -c 'ws://127.0.0.1:8005/upload?command=notes.txt&stdin=true'
//!
//! Type `0aGVsbG8=` ("hello" on channel 0). When wscat ends, the upload is complete.

#[path = "support/serve.rs"]
mod serve;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::Router;
use tokio::{io::AsyncReadExt, net::TcpListener, signal::ctrl_c};
use tower::ServiceBuilder;
use tower_wsstream::{
    BoxError, Sessions, Status, WsStreamLayer,
    remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
};

/// The idle timeout of an upload.
const IDLE: Duration = Duration::from_secs(60);

/// The size of the largest file, in bytes.
const LARGEST: usize = 1024 * 1024;

/// The files by name.
type Files = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// Stores its input. The command is the name of the file.
async fn upload(mut command: RemoteCommand, files: Files) -> Result<ExitStatus, BoxError> {
    let name = command.options.command_str()?.join(" ");
    let Some(stdin) = command.stdin.take() else {
        return Err(Status::failure("BadRequest", "an upload needs stdin=true", 400).into());
    };
    let mut file = Vec::new();
    // An error is not the end of the input: an upload that lost its client is not stored.
    stdin
        .take(LARGEST as u64 + 1)
        .read_to_end(&mut file)
        .await?;
    if file.len() > LARGEST {
        return Ok(ExitStatus::from_code(27)); // EFBIG
    }
    let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
    files.insert(name, file);
    Ok(ExitStatus::success())
}

fn app(files: Files, sessions: &Sessions) -> Router {
    let layer = WsStreamLayer::new(Protocols::default())
        .idle_timeout(IDLE)
        .sessions(sessions.clone());
    let uploads = ServiceBuilder::new()
        .layer(layer)
        .layer(RemoteCommandLayer::new())
        .service_fn(move |command| upload(command, Arc::clone(&files)));
    Router::new().route_service("/upload", uploads)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:8005").await?;
    println!("listening on ws://{}", listener.local_addr()?);
    let sessions = Sessions::default();
    let app = app(Files::default(), &sessions);
    serve::serve(listener, app, sessions, ctrl_c()).await;
    Ok(())
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use tower_wsstream::{
        protocol::subprotocols::{V4, V5},
        remotecommand::channel::STDIN,
        testing::{Client, Connect, Refused},
    };

    use super::*;

    const UPLOAD: &str = "/upload?command=notes.txt&stdin=true";

    /// Connects a client, and returns it with the stored files.
    async fn uploading(connect: Connect) -> Result<(Client, Files), BoxError> {
        let files = Files::default();
        let app = app(Arc::clone(&files), &Sessions::default());
        let client = connect.connect(app).await?;
        Ok((client, files))
    }

    fn stored(files: &Files) -> Vec<(String, Vec<u8>)> {
        files.lock().unwrap().clone().into_iter().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_complete_upload_is_stored() -> Result<(), BoxError> {
        for offer in [V5, V4] {
            let (mut client, files) = uploading(Connect::to(UPLOAD).offer(offer)).await?;
            client.send(STDIN, b"to ").await?;
            client.send(STDIN, b"be done").await?;
            assert_eq!(stored(&files), []);
            match offer {
                V5 => client.close_channel(STDIN).await?,
                _ => client.close(Some(1000)).await?,
            }
            let transcript = client.read_to_end().await;
            assert_eq!(transcript.exit_code(), Some(0), "{offer}");
            let file = ("notes.txt".to_owned(), b"to be done".to_vec());
            assert_eq!(stored(&files), [file]);
        }
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_was_cut_off_is_not_stored() -> Result<(), BoxError> {
        let (mut client, files) = uploading(Connect::to(UPLOAD).offer(V5)).await?;
        client.send(STDIN, b"to be ").await?;
        client.lose();
        let (client, others) = uploading(Connect::to(UPLOAD).offer(V5)).await?;
        client.cut_off(STDIN, b"to be d").await?;
        // This is longer than the grace of a service that has lost its client.
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(stored(&files), []);
        assert_eq!(stored(&others), []);
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_told_of_the_timeout() -> Result<(), BoxError> {
        let (mut client, files) = uploading(Connect::to(UPLOAD).offer(V5)).await?;
        client.send(STDIN, b"to be ").await?;
        client.stall(IDLE / 2).await;
        client.send(STDIN, b"continued").await?;
        let start = tokio::time::Instant::now();
        let transcript = client.read_to_end().await;
        assert_eq!(start.elapsed().as_secs(), IDLE.as_secs());
        let status = transcript.status().ok_or("no Status")?;
        assert_eq!(status.reason(), Some("Timeout"));
        assert_eq!(stored(&files), []);
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_too_large_is_refused() -> Result<(), BoxError> {
        for (extra, exit_code) in [(0, 0), (1, 27)] {
            let (mut client, _files) = uploading(Connect::to(UPLOAD).offer(V5)).await?;
            client.send(STDIN, &vec![7; LARGEST + extra]).await?;
            client.close_channel(STDIN).await?;
            let transcript = client.read_to_end().await;
            assert_eq!(transcript.exit_code(), Some(exit_code));
        }
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_without_input_is_a_mistake() -> Result<(), BoxError> {
        let connect = Connect::to("/upload?command=notes.txt&stdout=true").offer(V5);
        let (client, _files) = uploading(connect).await?;
        let status = client.read_to_end().await.status().ok_or("no Status")?;
        assert_eq!(status.message(), Some("an upload needs stdin=true"));

        // Without any stream, the rule of the protocol refuses it before the upgrade.
        let error = uploading(Connect::to("/upload?command=notes.txt").offer(V5)).await;
        let error = error.unwrap_err();
        let refused = error.downcast_ref::<Refused>().ok_or("no answer")?;
        assert_eq!(refused.status(), 400);
        Ok(())
    }

    #[cfg(feature = "http2")]
    #[tokio::test(start_paused = true)]
    async fn http2_makes_no_difference() -> Result<(), BoxError> {
        let (mut client, files) = uploading(Connect::to(UPLOAD).offer(V5).http2()).await?;
        client.send(STDIN, b"to be done").await?;
        client.close_channel(STDIN).await?;
        assert_eq!(client.read_to_end().await.exit_code(), Some(0));
        assert_eq!(stored(&files).len(), 1);
        Ok(())
    }
}
