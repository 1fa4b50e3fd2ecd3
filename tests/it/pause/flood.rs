//! Floods of Pings.

use super::*;

/// More Pings than can be answered to a peer that does not read: they are still read, and the
/// answers that are kept are bounded.
#[tokio::test(start_paused = true)]
async fn a_flood_of_pings_that_nobody_reads_the_answers_of() {
    let _watchdog = Watchdog::bites_after(BITE);
    const CAPACITY: usize = 4096;
    let (lines, mut line) = mpsc::unbounded_channel();
    let service = once(move |mut set: ChannelSet| async move {
        let mut stdin = set.take_reader(0).unwrap();
        let _open = set.take_writer(1);
        let mut buf = [0; 16];
        loop {
            let n = stdin.read(&mut buf).await?;
            if n == 0 {
                return Ok(());
            }
            lines.send(buf[..n].to_vec())?;
        }
    });
    let mut client = open_with(service, subprotocols::V5, CAPACITY).await;
    let mut payload = [b'p'; 125];
    for n in 0..20_000_u32 {
        payload[..4].copy_from_slice(&n.to_be_bytes());
        within(LONG, client.bytes(&frame(true, PING, &payload)))
            .await
            .unwrap();
        if n % 1000 == 0 {
            client.send(0, b"data").await.unwrap();
            assert_eq!(within(LONG, line.recv()).await.unwrap(), b"data");
            // The answers wait for room without spinning.
            sleep(Duration::from_secs(5)).await;
        }
    }
    // The Pongs that the transport held, one that was partly written, and sixteen that waited.
    client.close_channel(0).await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    let pongs: Vec<u32> = (told.controls.iter())
        .map(|pong| u32::from_be_bytes(pong.payload[..4].try_into().unwrap()))
        .collect();
    let most = CAPACITY / 127 + 1 + 2 * 16;
    assert!(pongs.len() <= most, "{} Pongs were kept", pongs.len());
    assert!(pongs.is_sorted(), "in order");
    let newest: Vec<u32> = (20_000 - 16..20_000).collect();
    assert_eq!(
        pongs[pongs.len() - 16..],
        newest,
        "the newest ones are answered"
    );
    assert_eq!(told.close, Some(Some(1000)));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_pings_does_not_hold_up_output() {
    let _watchdog = Watchdog::bites_after(BITE);
    let service = once(|mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(1).unwrap();
        drop(set);
        stdout.write_all(&[7; 300_000]).await?;
        Ok(())
    });
    let client = open_with(service, subprotocols::V5, 4096).await;
    let (mut read, mut write) = client.into_halves();
    let flood = tokio::spawn(async move {
        let ping = frame(true, PING, b"");
        while write.write_all(&ping).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    let told = within(LONG, read.read_to_close()).await;
    assert_eq!(told.channel(1).len(), 300_000);
    assert_eq!(told.close, Some(Some(1000)));
    flood.abort();
}
