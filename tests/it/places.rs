//! However look-ups, calls, polls and clients end, every place becomes free again.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    time::{sleep, timeout},
};
use tower::{Layer, Service};
use tower_wsstream::{
    AcceptMode, BoxError, ChannelSet, Rejection, SessionConfig, Sessions, WsStreamLayer,
    access::SessionPermits, subprotocols,
};

use crate::support::{Random, Raw, for_each_seed, protocols, serve};

type Dice = Arc<Mutex<Random>>;

fn roll(dice: &Dice, below: u64) -> u64 {
    dice.lock().unwrap().next(below)
}

/// Panics when it is dropped if it is told to, unless the thread unwinds already.
struct Nasty(bool);

impl Drop for Nasty {
    fn drop(&mut self) {
        assert!(!self.0 || std::thread::panicking(), "on purpose");
    }
}

#[derive(Clone)]
struct Service1(Dice);

impl Service<ChannelSet> for Service1 {
    type Response = ();
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match roll(&self.0, 20) {
            0 => panic!("on purpose"),
            1 => Poll::Ready(Err("no".into())),
            2 => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, mut set: ChannelSet) -> Self::Future {
        let dice = self.0.clone();
        if roll(&dice, 12) == 0 {
            panic!("on purpose");
        }
        let nasty = Nasty(roll(&dice, 6) == 0);
        Box::pin(async move {
            let _nasty = nasty;
            for _ in 0..6 {
                match roll(&dice, 14) {
                    0 => panic!("on purpose"),
                    1 => return Err("no".into()),
                    2 => return Ok(()),
                    3 => set.session().close(4000, "")?,
                    4 | 5 => set.session().accept().await,
                    6 => {
                        set.session().ended().await;
                    }
                    7 => {
                        if let Some(mut writer) = set.take_writer(1) {
                            let _ = writer.write_all(&[1; 100]).await;
                        }
                    }
                    _ => sleep(Duration::from_millis(roll(&dice, 3000))).await,
                }
            }
            Ok(())
        })
    }
}

async fn run(seed: u64) {
    let dice: Dice = Arc::new(Mutex::new(Random::of_seed(seed)));
    let permits = SessionPermits::new(3);
    let sessions = Sessions::default();
    let (for_key, for_look) = (dice.clone(), dice.clone());
    let layer = WsStreamLayer::from_async_fn(move |_| {
        let dice = for_look.clone();
        if roll(&dice, 20) == 0 {
            panic!("on purpose");
        }
        let nasty = Nasty(roll(&dice, 8) == 0);
        async move {
            let _nasty = nasty;
            match roll(&dice, 10) {
                0 => panic!("on purpose"),
                1 => return Err(Rejection::new(http::StatusCode::NOT_FOUND, "x")),
                2 => std::future::pending().await,
                3 | 4 => sleep(Duration::from_millis(roll(&dice, 12_000))).await,
                _ => {}
            }
            Ok(protocols())
        }
    });
    let mut config = SessionConfig::default().sessions(sessions.clone());
    if roll(&dice, 2) == 0 {
        config = config.accept(AcceptMode::Explicit);
    }
    let layer = layer.config(config);
    let limit = permits.layer(move |_: &ChannelSet| match roll(&for_key, 20) {
        0 => panic!("on purpose"),
        1 => None,
        _ => Some(roll(&for_key, 2)),
    });
    let service = layer.layer(limit.layer(Service1(dice.clone())));
    let mut clients = Vec::new();
    for _ in 0..10 {
        let (near, far) = tokio::io::duplex(4096);
        serve(far, service.clone());
        let pause = roll(&dice, 500);
        let dice = dice.clone();
        clients.push(tokio::spawn(async move {
            let wait = Duration::from_millis(roll(&dice, 14_000));
            let _ = timeout(wait, async {
                if let Ok(mut client) = Raw::handshake(near, subprotocols::V4).await {
                    match roll(&dice, 3) {
                        0 => {
                            client.read_to_end().await;
                        }
                        1 => {
                            let _ = client.close(Some(1000)).await;
                            std::future::pending().await
                        }
                        _ => std::future::pending().await,
                    }
                }
            })
            .await;
        }));
        sleep(Duration::from_millis(pause)).await;
    }
    if roll(&dice, 3) == 0 {
        let drained = timeout(
            Duration::from_secs(60),
            sessions.drain(Duration::from_secs(5)),
        )
        .await;
        assert!(drained.is_ok(), "{seed}: not drained");
    }
    for client in clients {
        client.await.unwrap();
    }
    sleep(Duration::from_secs(100)).await;
    assert_eq!(sessions.len(), 0, "{seed}");
    for key in 0..2 {
        let free: Vec<_> = std::iter::from_fn(|| permits.try_acquire(key).ok()).collect();
        assert_eq!(free.len(), 3, "{seed}: places of {key}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_place_is_free_in_the_end() {
    for_each_seed(500, run).await;
}
