//! The window, over no connection.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_test::{assert_pending, assert_ready_ok, task::spawn};

use super::*;

/// An output that takes everything, its window, and the client's end of the acknowledgements.
fn paced() -> (Paced<tokio::io::Sink>, Window, DuplexStream) {
    let (client, server) = duplex(64);
    let window = Window::default();
    window.lock().acknowledgements = Some(Box::new(server));
    let output = Paced::new(tokio::io::sink(), Some(window.clone()));
    (output, window, client)
}

#[tokio::test]
async fn output_beyond_the_window_waits_for_acknowledgements() {
    let (mut output, _, mut client) = paced();
    let bytes = vec![b'y'; WINDOW + 1];
    assert_eq!(output.write(&bytes).await.unwrap(), WINDOW);
    {
        let mut more = spawn(output.write(&bytes));
        assert_pending!(more.poll());
        // In two halves, as a client may send them.
        client.write_all(&[0, 0]).await.unwrap();
        assert!(more.is_woken());
        assert_pending!(more.poll());
        client.write_all(&[1, 2]).await.unwrap();
        assert!(more.is_woken());
        assert_eq!(assert_ready_ok!(more.poll()), 258);
    }
    let mut more = spawn(output.write(&bytes));
    assert_pending!(more.poll());
}

/// A process has two outputs, and a client with one screen.
#[tokio::test]
async fn all_outputs_share_one_window() {
    let (mut stdout, window, _client) = paced();
    let mut stderr = Paced::new(tokio::io::sink(), Some(window));
    let bytes = vec![b'y'; WINDOW];
    assert_eq!(stdout.write(&bytes[1000..]).await.unwrap(), WINDOW - 1000);
    assert_eq!(stderr.write(&bytes).await.unwrap(), 1000);
    assert_pending!(spawn(stdout.write(&bytes)).poll());
    assert_pending!(spawn(stderr.write(&bytes)).poll());
}

#[tokio::test]
async fn a_count_that_cannot_be_right_is_an_error() {
    for (sent, count) in [(0, 1), (100, 0), (100, 101), (100, u32::MAX)] {
        let (mut output, window, mut client) = paced();
        output.write_all(&vec![b'y'; sent]).await.unwrap();
        client.write_all(&count.to_be_bytes()).await.unwrap();
        // For the session as well, and for good: output may be the first to find it.
        for _ in 0..2 {
            let error = output.write(b"y").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{sent}, {count}");
            assert_eq!(window.misused().await.kind(), error.kind());
        }
    }
}

/// A command may write nothing for hours while its client sends counts.
#[tokio::test]
async fn acknowledgements_are_taken_without_output() {
    let (mut output, window, mut client) = paced();
    output.write_all(&[b'y'; 40]).await.unwrap();
    let mut misused = spawn(window.misused());
    assert_pending!(misused.poll());
    // More than the stream between them holds.
    for _ in 0..40 {
        client.write_all(&1_u32.to_be_bytes()).await.unwrap();
        assert!(misused.is_woken());
        assert_pending!(misused.poll());
    }
    client.write_all(&1_u32.to_be_bytes()).await.unwrap();
    assert!(misused.is_woken());
    assert!(misused.poll().is_ready());
}

#[tokio::test]
async fn an_end_of_the_acknowledgements_is_no_misuse() {
    let (_output, window, client) = paced();
    drop(client);
    assert_pending!(spawn(window.misused()).poll());
}

/// Acknowledgements that are always there: one count, again and again.
struct Always(u32, Arc<Mutex<usize>>);

impl AsyncRead for Always {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        *self.1.lock().unwrap() += 1;
        bytes.put_slice(&self.0.to_be_bytes());
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_flood_of_acknowledgements_does_not_keep_the_thread() {
    let (mut output, window, _client) = paced();
    assert_eq!(output.write(&vec![b'y'; WINDOW]).await.unwrap(), WINDOW);
    let reads = Arc::<Mutex<usize>>::default();
    window.lock().acknowledgements = Some(Box::new(Always(1, reads.clone())));
    let mut misused = spawn(window.misused());
    assert_pending!(misused.poll());
    assert!(misused.is_woken());
    assert_eq!(*reads.lock().unwrap(), TURN);
    drop(misused);
    {
        let mut more = spawn(output.write(b"y"));
        assert_eq!(assert_ready_ok!(more.poll()), 1);
    }
    assert_eq!(*reads.lock().unwrap(), 2 * TURN);

    window.lock().acknowledgements = Some(Box::new(Always(0, reads.clone())));
    let error = output.write(b"y").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(*reads.lock().unwrap(), 2 * TURN + 1);
}

#[tokio::test]
async fn output_fails_when_no_acknowledgement_can_come() {
    let (mut output, _, client) = paced();
    drop(client);
    let error = output.write(b"y").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn output_without_a_window_passes() {
    let (mut client, server) = duplex(2 * WINDOW);
    let mut output = Paced::new(server, None);
    output.write_all(&vec![b'y'; WINDOW + 1]).await.unwrap();
    drop(output);
    let mut read = Vec::new();
    client.read_to_end(&mut read).await.unwrap();
    assert_eq!(read.len(), WINDOW + 1);
}

#[test]
fn only_a_client_that_asks_has_the_channel() {
    let channels = |query: &str| {
        let request = Request::get(format!("/?stdout=true&tty=true{query}"));
        let (head, ()) = request.body(()).unwrap().into_parts();
        let table = Protocols.protocols(&head).unwrap();
        let names: Vec<_> = table
            .iter()
            .map(|(name, config)| (name.to_owned(), config.channels().len()))
            .collect();
        names
    };
    let [plain, asked] = ["", "&acknowledge=true"].map(channels);
    assert!(plain.iter().all(|(_, length)| *length == 5), "{plain:?}");
    assert!(asked.iter().all(|(_, length)| *length == 6), "{asked:?}");
    assert_eq!(plain.len(), asked.len());
    assert_eq!(channels("&acknowledge=false"), plain);
}
