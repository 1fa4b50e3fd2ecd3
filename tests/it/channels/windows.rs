//! The window of a channel, and the siblings that a full one blocks.

use super::*;

#[tokio::test(start_paused = true)]
async fn reader_drop_does_not_block_siblings() {
    let _watchdog = Watchdog::bites_after(BITE);
    for subprotocol in ALL {
        for full in [false, true] {
            let (mut client, mut readers) = readers(subprotocol).await;
            if full {
                // Reading is waiting for this channel when its reader is dropped.
                client.send(0, &[7; WINDOW]).await.unwrap();
                client.send(0, &[7; WINDOW]).await.unwrap();
                client.send(4, b"behind").await.unwrap();
                expect_nothing(&mut readers.resize).await;
            }
            // The reader may hold a piece when it is dropped.
            if full {
                readers.stdin.fill_buf().await.unwrap();
            }
            drop(readers.stdin);
            if full {
                expect(&mut readers.resize, b"behind").await;
            }
            for n in 0..20_u8 {
                client.send(0, &[7; 100_000]).await.unwrap();
                client.send(4, &[n]).await.unwrap();
                expect(&mut readers.resize, &[n]).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_was_not_taken_blocks_nobody() {
    let service = once(|mut set: ChannelSet| async move {
        let mut resize = set.take_reader(4).unwrap();
        drop(set);
        let mut one = [0];
        resize.read_exact(&mut one).await?;
        Ok(())
    });
    let mut client = open(service, subprotocols::V5).await;
    for _ in 0..20 {
        within(LONG, client.send(0, &[7; 100_000])).await.unwrap();
    }
    client.send(4, b"x").await.unwrap();
    assert_eq!(
        within(LONG, client.read_to_end()).await.close,
        Some(Some(1000))
    );
}

/// Fills channel 0 with binary messages of `size` bytes.
async fn fill(client: &mut Raw<DuplexStream>, readers: &mut Readers, bytes: usize, size: usize) {
    let binary = |data: &[u8]| frame(true, BINARY, &on(0, data));
    fill_with(binary, client, readers, bytes, size).await;
}

/// Fills channel 0 with messages of `size` bytes. A message of the sibling behind them proves that
/// all of it was taken.
async fn fill_with(
    message: impl Fn(&[u8]) -> Vec<u8>,
    client: &mut Raw<DuplexStream>,
    readers: &mut Readers,
    bytes: usize,
    size: usize,
) {
    let mut left = bytes;
    let mut batch = Vec::new();
    while left > 0 {
        let now = left.min(size);
        batch.extend(message(&vec![7; now]));
        left -= now;
        if batch.len() > 100_000 || left == 0 {
            client.bytes(&std::mem::take(&mut batch)).await.unwrap();
            // Not more than the transport can hold.
            sleep(Duration::from_millis(1)).await;
        }
    }
    client.send(4, b"sibling").await.unwrap();
    expect(&mut readers.resize, b"sibling").await;
}

/// Checks that one more byte stalls the sibling.
async fn assert_full(client: &mut Raw<DuplexStream>, readers: &mut Readers) {
    client.send(0, b"!").await.unwrap();
    client.send(4, b"behind").await.unwrap();
    expect_nothing(&mut readers.resize).await;
}

#[tokio::test(start_paused = true)]
async fn exactly_the_window_fits_whatever_the_size_of_the_messages() {
    let _watchdog = Watchdog::bites_after(BITE);
    for size in [
        1,
        3,
        64,
        124,
        125,
        1000,
        CHUNK - 1,
        CHUNK,
        CHUNK + 1,
        100_000,
        WINDOW,
    ] {
        let (mut client, mut readers) = readers(subprotocols::V5).await;
        fill(&mut client, &mut readers, WINDOW, size).await;
        assert_full(&mut client, &mut readers).await;
        // Reading goes on once one chunk has been read to its last byte.
        expect(&mut readers.stdin, &[7; CHUNK - 1]).await;
        expect_nothing(&mut readers.resize).await;
        expect(&mut readers.stdin, &[7; 1]).await;
        expect(&mut readers.resize, b"behind").await;
        expect(&mut readers.stdin, &[7; WINDOW - CHUNK]).await;
        expect(&mut readers.stdin, b"!").await;
    }
}

/// Quads are never split, so up to two bytes may stay unused.
#[tokio::test(start_paused = true)]
async fn the_window_fits_in_base64_but_for_a_part_of_a_quad() {
    for size in [1, 2, 3, 1000, CHUNK, CHUNK + 1, 100_000] {
        let (mut client, mut readers) = readers(subprotocols::V4_BASE64).await;
        let text = |data: &[u8]| frame(true, TEXT, &base64(0, data));
        fill_with(text, &mut client, &mut readers, WINDOW - 2, size).await;
        client.send(0, b"!!!").await.unwrap();
        client.send(4, b"behind").await.unwrap();
        expect_nothing(&mut readers.resize).await;
        expect(&mut readers.stdin, &[7; WINDOW - 2]).await;
        expect(&mut readers.stdin, b"!!!").await;
        expect(&mut readers.resize, b"behind").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_is_what_was_configured_in_whole_chunks() {
    for (configured, window) in [(1, CHUNK), (CHUNK, CHUNK), (CHUNK + 1, 2 * CHUNK)] {
        let layer = layer().limits(
            Limits::default()
                .receive_window(configured)
                .stall_reserve(0),
        );
        let (mut client, mut readers) = readers_in(layer, subprotocols::V5).await;
        fill(&mut client, &mut readers, window, 1000).await;
        assert_full(&mut client, &mut readers).await;
        expect(&mut readers.stdin, &vec![7; window]).await;
        expect(&mut readers.stdin, b"!").await;
        expect(&mut readers.resize, b"behind").await;
    }
}

/// A chunk counts until its last byte is handed out, however few bytes it has.
#[tokio::test(start_paused = true)]
async fn a_window_counts_capacity_and_not_bytes() {
    let (mut client, mut readers) = readers(subprotocols::V5).await;
    client.send(0, b"x").await.unwrap();
    assert_eq!(within(LONG, readers.stdin.fill_buf()).await.unwrap(), b"x");
    // The reader has the first chunk. Data that arrives now goes to others.
    fill(&mut client, &mut readers, WINDOW - CHUNK, 1000).await;
    assert_full(&mut client, &mut readers).await;
    readers.stdin.consume(1);
    expect(&mut readers.resize, b"behind").await;
    expect(&mut readers.stdin, &[7; WINDOW - CHUNK]).await;
    expect(&mut readers.stdin, b"!").await;
}
