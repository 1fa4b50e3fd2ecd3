//! The heads of frames, and masking.

use super::*;

/// RFC 6455, 5.1.
#[tokio::test(start_paused = true)]
async fn an_unmasked_frame_fails_the_connection() {
    for &http in EACH {
        for payload in [&b""[..], b"\0data", &[0; 125]] {
            for first in [0x81, 0x82, 0x88, 0x89, 0x8a] {
                let bytes = raw_frame(first, &[payload.len() as u8], None, payload);
                fails(http, &bytes, 1002).await;
            }
        }
    }
}

/// RFC 6455, 5.1. The client of these tests panics at a frame that is masked, or that has a reserved
/// bit set (5.2).
#[tokio::test(start_paused = true)]
async fn no_frame_of_the_server_is_masked() {
    for &http in EACH {
        let mut client = http.open(session(echo)).await;
        client.bytes(&frame(true, PING, b"there?")).await.unwrap();
        client.send(0, &[7; 100_000]).await.unwrap();
        client.close_channel(0).await.unwrap();
        let told = within(SOON, client.read_to_end()).await;
        assert_eq!(told.channel(1).len(), 100_000);
        assert_eq!(told.controls.len(), 1);
        assert_eq!(told.close, Some(Some(1000)));
    }
}

/// RFC 6455, 5.2 and 5.8: no extension is negotiated, so no reserved bit has a meaning.
#[tokio::test(start_paused = true)]
async fn a_reserved_bit_fails_the_connection() {
    for &http in EACH {
        for bits in 1..8 {
            for first in [0x82, 0x01, 0x89, 0x88] {
                let bytes = raw_frame(first | bits << 4, &[1], Some([1; 4]), b"x");
                fails(http, &bytes, 1002).await;
            }
        }
    }
}

/// RFC 6455, 5.2.
#[tokio::test(start_paused = true)]
async fn an_unknown_opcode_fails_the_connection() {
    for &http in EACH {
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            for fin in [0, 0x80] {
                let bytes = raw_frame(fin | opcode, &[0], Some([1; 4]), b"");
                fails(http, &bytes, 1002).await;
            }
        }
    }
}

/// RFC 6455, 5.2: "the minimal number of bytes MUST be used to encode the length".
#[tokio::test(start_paused = true)]
async fn a_length_in_a_longer_form_fails_the_connection() {
    let short = |len: u16| [&[126][..], &len.to_be_bytes()].concat();
    let long = |len: u64| [&[127][..], &len.to_be_bytes()].concat();
    for &http in EACH {
        for (length, len) in [
            (short(0), 0),
            (short(125), 125),
            (long(0), 0),
            (long(125), 125),
            (long(126), 126),
            (long(65_535), 65_535),
        ] {
            let bytes = raw_frame(0x82, &length, Some([9; 4]), &vec![0; len]);
            fails(http, &bytes, 1002).await;
        }
    }
}

/// RFC 6455, 5.2: "the most significant bit MUST be 0".
#[tokio::test(start_paused = true)]
async fn the_highest_bit_of_a_length_fails_the_connection() {
    for &http in EACH {
        for len in [1 << 63, u64::MAX] {
            let length = [&[127][..], &len.to_be_bytes()].concat();
            let bytes = raw_frame(0x82, &length, Some([9; 4]), b"\0x");
            fails(http, &bytes, 1002).await;
        }
    }
}

/// RFC 6455, 5.3 and 6.2.
#[tokio::test(start_paused = true)]
async fn the_mask_is_removed_whatever_its_key() {
    let message: Vec<u8> = (0..200).collect();
    for &http in EACH {
        let mut client = http.open(session(echo)).await;
        for key in [[0; 4], [0xff; 4], [0, 0, 0, 1], *b"\x37\xfa\x21\x3d"] {
            // Each length leaves another part of the key unused.
            for len in 2..40 {
                let bytes = raw_frame(0x82, &[len as u8], Some(key), &message[..len]);
                client.bytes(&bytes).await.unwrap();
                let (got, _) = echoed(settle(&mut client).await);
                assert_eq!(got, message[1..len], "{key:?}");
            }
            let bytes = raw_frame(0x89, &[5], Some(key), b"there");
            client.bytes(&bytes).await.unwrap();
            assert_eq!(settle(&mut client).await[0].payload, "there");
        }
    }
}
