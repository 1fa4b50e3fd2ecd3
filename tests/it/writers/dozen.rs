//! A dozen writers at once.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_dozen_writers_over_a_transport_of_one_byte() {
    let _watchdog = Watchdog::bites_after(BITE);
    for subprotocol in [subprotocols::V4, subprotocols::V4_BASE64] {
        let service = dozen().layer(tower::service_fn(|set| dozen_writers(set, 100)));
        let mut client = open_with(service, subprotocol, 1).await;
        let told = within(LONG, client.read_to_end()).await;
        assert_dozen(&told, 100);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dozen_writers_with_room_for_one_message_at_a_time() {
    let _watchdog = Watchdog::bites_after(BITE);
    for limits in [
        Limits::default().send_budget(1),
        Limits::default().high_water(1),
        Limits::default().send_budget(200).high_water(500),
    ] {
        for capacity in [1, 63, 4096] {
            let service = tower::service_fn(|set| dozen_writers(set, 100));
            let service = dozen().limits(limits).layer(service);
            let mut client = open_with(service, subprotocols::V4, capacity).await;
            let told = within(LONG, client.read_to_end()).await;
            assert_dozen(&told, 100);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dozen_writers_on_two_threads() {
    let _watchdog = Watchdog::bites_after(BITE);
    for capacity in [1, 64, 1000, 100_000] {
        let messages = if capacity == 1 { 50 } else { 1000 };
        let service = dozen().layer(tower::service_fn(move |set| dozen_writers(set, messages)));
        let mut client = open_with(service, subprotocols::V4, capacity).await;
        let told = within(BITE, client.read_to_end()).await;
        assert_dozen(&told, messages);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dozen_writers_over_tcp_to_a_slow_reader() {
    let _watchdog = Watchdog::bites_after(BITE);
    for limits in [Limits::default(), Limits::default().send_budget(1000)] {
        let service = dozen().limits(limits);
        let service = service.layer(tower::service_fn(|set| dozen_writers(set, 2000)));
        let mut client = open_tcp(service, subprotocols::V4, true).await;
        let mut slow = [0; 1500];
        let slowly = async {
            // Up to the Close, because the server waits for its answer.
            while !client.buf.ends_with(&[0x88, 2, 0x03, 0xe8]) {
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
                let n = client.io.read(&mut slow).await.unwrap();
                assert!(n > 0, "an end without a Close");
                client.buf.extend_from_slice(&slow[..n]);
            }
        };
        within(BITE, slowly).await;
        let told = client.read_to_end().await;
        assert_dozen(&told, 2000);
    }
}

/// The client stops reading and goes on: a wake-up that was lost meanwhile shows.
#[tokio::test(start_paused = true)]
async fn a_dozen_writers_survive_a_client_that_stops_and_goes_on() {
    let _watchdog = Watchdog::bites_after(BITE);
    let service = dozen().layer(tower::service_fn(|set| dozen_writers(set, 3000)));
    let mut client = open_with(service, subprotocols::V4, 4096).await;
    let mut pieces = [1, 10, 5000, 200, 64].into_iter().cycle();
    for _ in 0..50 {
        sleep(Duration::from_secs(2)).await;
        let mut piece = vec![0; pieces.next().unwrap()];
        within(LONG, client.io.read_exact(&mut piece))
            .await
            .unwrap();
        client.buf.extend_from_slice(&piece);
    }
    let told = within(LONG, client.read_to_end()).await;
    assert_dozen(&told, 3000);
}
