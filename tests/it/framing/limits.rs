//! Limits just below, at and above, for each form of a length.

use tower_wsstream::policy::Limits;

use super::*;

/// The lengths at which the form of a head changes, and a limit that no form begins at.
const LIMITS: [usize; 6] = [2, 125, 126, 1000, 65_535, 65_536];

/// Returns a service that echoes, with these limits.
fn limited(limits: Limits) -> impl HttpService {
    once_in(layer().limits(limits.stall_reserve(0)), echo)
}

/// Sends a message in fragments of these lengths, with a Ping behind each but the last. If it does not
/// fit, the head of the last one must be refused.
async fn send(http: Http, limits: Limits, opcode: u8, lens: &[usize], fits: bool) {
    let what = format!("{http:?}: {lens:?} of {limits:?}");
    let mut client = http.open(limited(limits)).await;
    let mut message = vec![b'x'; lens.iter().sum()];
    message[0] = 0;
    let mut rest = &message[..];
    for (at, &len) in lens[..lens.len() - 1].iter().enumerate() {
        let opcode = if at == 0 { opcode } else { CONTINUATION };
        let (part, later) = rest.split_at(len);
        client.bytes(&frame(false, opcode, part)).await.unwrap();
        // A control frame does not count.
        client.bytes(&frame(true, PING, &[7; 125])).await.unwrap();
        rest = later;
    }
    let (first, pongs) = echoed(settle(&mut client).await);
    assert_eq!(pongs.len(), lens.len() - 1, "{what}");
    let begun = message.len() - rest.len();
    assert!(first == message[1.min(begun)..begun], "{what}");

    let opcode = if begun == 0 { opcode } else { CONTINUATION };
    let bytes = frame(true, opcode, rest);
    if fits {
        client.bytes(&bytes).await.unwrap();
        let (last, _) = echoed(settle(&mut client).await);
        assert!([first, last].concat() == message[1..], "{what}");
        // The next message has the limit to itself.
        client.send(0, b"x").await.unwrap();
        let (next, _) = echoed(settle(&mut client).await);
        assert_eq!(next, b"x", "{what}");
    } else {
        let head = bytes.len() - rest.len();
        client.bytes(&bytes[..head - 1]).await.unwrap();
        assert_eq!(settle(&mut client).await, [], "{what}");
        client.bytes(&bytes[head - 1..head]).await.unwrap();
        let told = within(SOON, client.read_to_end()).await;
        assert_eq!(
            (told.close, told.messages),
            (Some(Some(1009)), vec![]),
            "{what}"
        );
    }
}

/// RFC 6455, 7.4.1: 1009.
#[tokio::test(start_paused = true)]
async fn a_frame_above_the_limit_is_refused_at_its_head() {
    for &http in EACH {
        for limit in LIMITS {
            for len in limit - 1..=limit + 1 {
                for opcode in [TEXT, BINARY] {
                    let limits = Limits::default().max_frame(limit as u64);
                    send(http, limits, opcode, &[len], len <= limit).await;
                }
            }
        }
    }
}

/// RFC 6455, 7.4.1: 1009.
#[tokio::test(start_paused = true)]
async fn a_message_above_the_limit_is_refused_at_the_head_that_passes_it() {
    for &http in EACH {
        for limit in LIMITS {
            for len in limit - 1..=limit + 1 {
                let limits = Limits::default().max_message(limit as u64);
                send(http, limits, BINARY, &[len], len <= limit).await;
                let first = len / 2;
                if first > 0 {
                    send(http, limits, BINARY, &[first, len - first], len <= limit).await;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_within_its_limit_may_pass_that_of_its_message() {
    for &http in EACH {
        let limits = Limits::default().max_frame(126).max_message(252);
        send(http, limits, BINARY, &[126, 126], true).await;
        send(http, limits, BINARY, &[126, 127], false).await;
        send(http, limits, BINARY, &[126, 125, 2], false).await;
    }
}

/// RFC 6455, 5.5.
#[tokio::test(start_paused = true)]
async fn a_limit_for_data_is_none_for_control_frames() {
    for &http in EACH {
        let limits = Limits::default().max_frame(1).max_message(1);
        let mut client = http.open(limited(limits)).await;
        client.bytes(&frame(true, PING, &[7; 125])).await.unwrap();
        let pong = within(SOON, client.next()).await.unwrap();
        assert_eq!((pong.opcode, pong.payload.len()), (PONG, 125));
        let long = [&4000_u16.to_be_bytes()[..], &[b'x'; 123]].concat();
        client.bytes(&frame(true, CLOSE, &long)).await.unwrap();
        assert_eq!(
            within(SOON, client.next()).await.unwrap().close_code(),
            Some(4000)
        );
    }
}

/// RFC 6455, 5.2: "the most significant bit MUST be 0" leaves lengths of 2^63 - 1.
#[tokio::test(start_paused = true)]
async fn the_largest_length_is_refused_or_costs_nothing() {
    for &http in EACH {
        let length = [&[127][..], &(u64::MAX >> 1).to_be_bytes()].concat();
        let head = raw_frame(0x82, &length, Some([7; 4]), b"");
        let mut client = http.open(session(echo)).await;
        client.bytes(&head).await.unwrap();
        let told = within(SOON, client.read_to_end()).await;
        assert_eq!(told.close, Some(Some(1009)), "4 GiB by default");

        let mut client = http
            .open(limited(Limits::default().max_frame(u64::MAX)))
            .await;
        client.bytes(&head).await.unwrap();
        client.bytes(&[7; 1]).await.unwrap();
        for _ in 0..3 {
            client.bytes(&[7; 1000]).await.unwrap();
            let (echo, _) = echoed(settle(&mut client).await);
            assert_eq!(echo.len(), 1000);
        }
    }
}
