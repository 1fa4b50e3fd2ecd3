//! Services of forwarded ports that panic while they are cloned.

use super::*;

/// A service that panics in the clone for the second port, and must not be dropped while that
/// unwinds: a second panic, in a drop, would abort the process.
struct Fragile {
    /// Clones that are left, from readiness on.
    clones: Option<Arc<AtomicUsize>>,
}

impl Clone for Fragile {
    fn clone(&self) -> Self {
        if let Some(clones) = &self.clones {
            let left = clones.load(Ordering::Relaxed);
            assert!(left > 0, "in a clone, on purpose");
            clones.store(left - 1, Ordering::Relaxed);
        }
        Self {
            clones: self.clones.clone(),
        }
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(!std::thread::panicking(), "in a drop, on purpose");
    }
}

impl Service<ForwardedPort> for Fragile {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // The one that is called is replaced by a clone, so the next one is for a port.
        self.clones = Some(Arc::new(AtomicUsize::new(1)));
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: ForwardedPort) -> Self::Future {
        std::future::ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_port_that_panics_in_its_clone_drops_the_others_quietly() {
    let service = WsStreamLayer::new(portforward::Protocols::default())
        .layer(PortForwardLayer::new().layer(Fragile { clones: None }));
    let connect = Connect::to("/?ports=80,81,82").offer(subprotocols::V4);
    let seen = see(connect, service).await;
    assert!(is_500(&seen), "{seen:?}");
}
