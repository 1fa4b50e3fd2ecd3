//! Data frames, and what is sent and received in them.

use super::*;

/// RFC 6455, 5.6 and 8.1: the whole message must be UTF-8, and a frame may end inside a character.
#[tokio::test(start_paused = true)]
async fn text_that_is_not_utf_8_fails_the_connection() {
    for &http in EACH {
        for text in [
            &b"\0\xff"[..],
            b"\0\xc0\xaf",
            b"\0\xed\xa0\x80",
            b"\0\xf4\x90\x80\x80",
            b"\0\xe2\x82",
            b"\xff",
        ] {
            fails(http, &frame(true, TEXT, text), 1007).await;
        }
        // A character that the next fragment does not complete.
        for rest in [&b""[..], b"\x82", b"x", b"\x82x"] {
            let bytes = [
                frame(false, TEXT, b"\0\xe2"),
                frame(true, CONTINUATION, rest),
            ];
            let mut client = http.open(session(echo)).await;
            client.bytes(&bytes.concat()).await.unwrap();
            let told = within(SOON, client.read_to_end()).await;
            assert_eq!(told.close, Some(Some(1007)), "{http:?}: {rest:x?}");
        }
    }
}

/// RFC 6455, 5.6: the same bytes are allowed in binary messages.
#[tokio::test(start_paused = true)]
async fn a_binary_message_may_have_any_bytes() {
    let all: Vec<u8> = (0..=255).collect();
    for &http in EACH {
        let mut client = http.open(session(echo)).await;
        client
            .bytes(&frame(true, BINARY, &on(0, &all)))
            .await
            .unwrap();
        assert_eq!(echoed(settle(&mut client).await).0, all);
    }
}

/// RFC 6455, 6.1: the opcode says what the data is, the last frame has FIN set, and the form of each
/// length is the shortest.
#[tokio::test(start_paused = true)]
async fn what_the_server_sends_is_a_message_of_the_right_type() {
    for &http in EACH {
        for (offer, expected) in [
            (subprotocols::V5, BINARY),
            (subprotocols::V4, BINARY),
            (subprotocols::V4_BASE64, TEXT),
        ] {
            for len in [1, 123, 124, 125, 126, 1000, 32_768, 65_535, 70_000] {
                let service = session(move |mut set: ChannelSet| async move {
                    let mut writer = set.take_writer(1).ok_or("no channel 1")?;
                    writer.send(vec![b'x'; len]).await?;
                    Ok(())
                });
                let mut client = http.open_offering(service, offer).await;
                let (mut sum, mut opcode) = (0, expected);
                loop {
                    let bytes = within(SOON, client.next()).await.unwrap();
                    assert_eq!(bytes.opcode, opcode, "{http:?}: {offer}, {len}");
                    if opcode == TEXT || expected == TEXT {
                        assert!(std::str::from_utf8(&bytes.payload).is_ok());
                    }
                    sum += match opcode {
                        CONTINUATION if expected == TEXT => decoded(&bytes.payload),
                        CONTINUATION => bytes.payload.len(),
                        _ => client.split(&bytes.payload).1.len(),
                    };
                    opcode = CONTINUATION;
                    if bytes.fin {
                        break;
                    }
                }
                assert_eq!(sum, len, "{http:?}: {offer}");
                assert_eq!(within(SOON, client.next()).await.unwrap().opcode, CLOSE);
            }
        }
    }
}

fn decoded(payload: &[u8]) -> usize {
    use ::base64::Engine;
    let bytes = ::base64::engine::general_purpose::STANDARD.decode(payload);
    bytes.unwrap().len()
}

/// RFC 6455, 6.1: data is sent while the connection is open, and a write afterwards is an error.
#[tokio::test(start_paused = true)]
async fn a_write_behind_the_end_is_an_error() {
    for &http in EACH {
        let (tell, told) = oneshot::channel();
        let service = once(async move |mut set: ChannelSet| {
            let mut writer = set.take_writer(1).ok_or("no channel 1")?;
            writer.write_all(b"open").await?;
            set.session().clone().ended().await;
            // The service may write for a moment longer, and its task ends with that. Another task has
            // its writer for as long as it likes.
            tokio::spawn(async move {
                sleep(secs(10)).await;
                let _ = tell.send(writer.write_all(b"late").await);
            });
            Ok(())
        });
        let mut client = http.open(service).await;
        assert_eq!(echoed(settle(&mut client).await).0, b"open");
        client.close(Some(4000)).await.unwrap();
        let all = within(LONG, client.read_to_close()).await;
        assert_eq!(
            (all.close, all.messages),
            (Some(Some(4000)), vec![]),
            "{http:?}"
        );
        assert!(within(LONG, told).await.is_ok_and(|result| result.is_err()));
    }
}
