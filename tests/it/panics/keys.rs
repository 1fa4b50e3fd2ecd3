//! Keys of a limit that panic.

use super::*;

/// The use from which on a key panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Hash,
    Eq,
    Clone,
    Drop,
}

struct Key {
    uses: Arc<AtomicUsize>,
    trap: Use,
    after: usize,
}

impl Key {
    fn at(&self, at: Use) {
        if at == self.trap {
            let uses = self.uses.fetch_add(1, Ordering::Relaxed);
            assert!(uses < self.after, "in {at:?} of a key, on purpose");
        }
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        self.at(Use::Clone);
        Self {
            uses: Arc::clone(&self.uses),
            ..*self
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, _: &Self) -> bool {
        self.at(Use::Eq);
        true
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, _: &mut H) {
        self.at(Use::Hash);
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.at(Use::Drop);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_panics_costs_its_own_session_at_most() {
    let mut wrong = Wrong::default();
    for trap in [Use::Hash, Use::Eq, Use::Clone, Use::Drop] {
        for after in 0..6 {
            // The session panics as well, and its place is released while that unwinds.
            for panics in [false, true] {
                let uses = Arc::<AtomicUsize>::default();
                let sessions = Sessions::default();
                let service = ServiceBuilder::new()
                    .layer(standard().sessions(sessions.clone()))
                    .layer(SessionLimitLayer::new(2, move |_: &ChannelSet| {
                        Some(Key {
                            uses: Arc::clone(&uses),
                            trap,
                            after,
                        })
                    }))
                    .service_fn(move |channels: ChannelSet| {
                        assert!(!panics, "in the call, on purpose");
                        async move {
                            let _channels = channels;
                            sleep(Duration::from_secs(1)).await;
                            Ok::<_, BoxError>(())
                        }
                    });
                for _ in 0..3 {
                    let seen = see(Connect::to("/"), service.clone()).await;
                    let right = match &seen {
                        Seen::Session(it) => it.close_code == Some(1000),
                        // A place whose key cannot be found again is lost for ever.
                        _ => is_500(&seen) || refused_with(&seen, 429),
                    };
                    wrong.check(format!("{trap:?} {after} {panics}"), right, &seen);
                }
                sleep(LONG).await;
                assert!(sessions.is_empty());
            }
        }
    }
}
