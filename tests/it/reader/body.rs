//! A body becomes messages.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_text_arrives_whole() {
    for (offer, opcode) in [
        ("", BINARY),
        ("binary.k8s.io", BINARY),
        ("base64.binary.k8s.io", TEXT),
    ] {
        let body = || Full::new(Bytes::from(TEXT_OF_30));
        let mut client = open(WsReaderLayer::new(), offer, body).await.unwrap();
        let (frames, close) = read_out(&mut client).await;
        assert!(frames.iter().all(|frame| frame.opcode == opcode), "{offer}");
        let got = match opcode {
            TEXT => decode(&joined(&frames)),
            _ => joined(&frames),
        };
        assert_eq!(got, TEXT_OF_30.as_bytes());
        assert_eq!(close, Some(Some(1000)));
    }
}

fn decode(text: &[u8]) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn with_ping_the_first_message_is_empty() {
    for (offer, opcode) in [("", BINARY), ("base64.binary.k8s.io", TEXT)] {
        let body = || Full::new(Bytes::from(TEXT_OF_30));
        let layer = WsReaderLayer::new().ping(true);
        let mut client = open(layer, offer, body).await.unwrap();
        let (frames, _) = read_out(&mut client).await;
        assert_eq!((frames[0].opcode, frames[0].payload.len()), (opcode, 0));
        assert_eq!(frames.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_of_ones_own_is_spoken_and_nothing_else() {
    let protocols = || {
        ReaderProtocols::new([
            ("v1.raw", Encoding::Binary),
            ("v1.base64", Encoding::Base64),
        ])
        .unwrap()
    };
    let body = || Full::new(Bytes::from(TEXT_OF_30));
    let layer = || WsReaderLayer::new().protocols(protocols());
    let mut client = open(layer(), "v1.base64", body).await.unwrap();
    let (frames, _) = read_out(&mut client).await;
    assert_eq!(decode(&joined(&frames)), TEXT_OF_30.as_bytes());
    for offer in ["", "binary.k8s.io", "channel.k8s.io"] {
        let refused = open(layer(), offer, body).await.unwrap_err();
        assert!(refused.starts_with("HTTP/1.1 403 "), "{offer}: {refused}");
    }
    let refused = open(WsReaderLayer::new(), "channel.k8s.io", body).await;
    assert!(refused.unwrap_err().starts_with("HTTP/1.1 403 "));
}

#[tokio::test(start_paused = true)]
async fn an_error_after_two_reads_delivers_both_and_is_no_clean_end() {
    let body = || pieces(vec![Ok(b"one"), Ok(b"two"), Err(io::Error::other("disk"))]);
    let mut client = open(WsReaderLayer::new(), "", body).await.unwrap();
    let (frames, close) = read_out(&mut client).await;
    assert_eq!(joined(&frames), b"onetwo");
    assert_eq!(close, Some(Some(1011)));
}

#[tokio::test(start_paused = true)]
async fn an_error_before_anything_is_an_http_answer() {
    let body = || pieces(vec![Err(io::Error::other("disk"))]);
    let refused = open(WsReaderLayer::new(), "", body).await.unwrap_err();
    assert!(refused.starts_with("HTTP/1.1 500 "), "{refused}");
}

/// A body of two pieces, which then panics.
struct Panics(usize);

impl Body for Panics {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0 += 1;
        assert!(self.0 <= 2, "the source panics");
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"piece")))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_delivers_what_was_read_and_takes_nothing_down() {
    for _ in 0..2 {
        let mut client = open(WsReaderLayer::new(), "", || Panics(0)).await.unwrap();
        let (frames, close) = read_out(&mut client).await;
        assert_eq!(joined(&frames), b"piecepiece");
        assert_eq!(close, Some(Some(1011)));
    }
}
