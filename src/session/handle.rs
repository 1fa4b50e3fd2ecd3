use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::time::Instant;

use super::{
    CloseError, Hold, LastWords, Outcome,
    inbox::{Commands, Inbox, LastWordsFn},
    progress::Progress,
};
use crate::{
    error::EndCause,
    frame::close_payload,
    wire::{Traffic, Wire},
};

/// A cheap handle to one upgraded connection.
///
/// It keeps nothing open: a session ends when its service has returned and all writers are
/// gone, even while handles to it are held.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    id: u64,
    wire: Arc<Wire>,
    progress: Progress,
    inbox: Inbox,
}

/// The number of the next session in this process.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Session {
    pub(crate) fn new(wire: Arc<Wire>) -> Self {
        Self {
            inner: Arc::new(Inner {
                // Relaxed: only uniqueness matters.
                id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
                wire,
                progress: Progress::default(),
                inbox: Inbox::default(),
            }),
        }
    }

    /// Returns the session's number, which is unique in this process and is shown in the logs.
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// Waits until the session is over for its service, and returns the cause.
    ///
    /// From then on the service has the grace period to finish. What it writes still reaches
    /// the peer if the cause allows that. After the grace period its future is dropped.
    ///
    /// A service that is reading does not need this: its reads return what arrived, then EOF or
    /// an error with the cause. It is for services that wait for something else. Next to a
    /// read, select with a bias towards the read, or the last bytes are lost. What the service
    /// returns then still counts: after an idle timeout `Ok` closes with 1000, and an error
    /// with 1001.
    ///
    /// ```
    /// use tower_wsstream::{BoxError, ChannelSet, EndCause};
    ///
    /// async fn watch(channels: ChannelSet) -> Result<(), BoxError> {
    ///     match channels.session().ended().await {
    ///         EndCause::PeerClosed { code, .. } => println!("closed with {code:?}"),
    ///         cause if cause.is_timeout() => println!("too long: {cause}"),
    ///         cause => println!("{cause}"),
    ///     }
    ///     Ok(())
    /// }
    /// # let _ = watch;
    /// ```
    ///
    /// # Cancel safety
    /// Cancel safe, and any number of callers may wait.
    pub fn ended(&self) -> impl Future<Output = EndCause> + Send + Sync + use<> {
        let inner = Arc::clone(&self.inner);
        async move { inner.progress.wait(|it| it.cause().cloned()).await }
    }

    /// Accepts the upgrade if the layer waits for that
    /// ([`AcceptMode::Explicit`](crate::AcceptMode)), and returns when it was accepted. From
    /// then on an error of the service ends a session instead of answering a request.
    ///
    /// If the upgrade was accepted before, this returns at once. If it is refused in the
    /// meantime, the service's future is dropped. Another task that waits here continues, and
    /// finds the session [ended](Self::ended) and not [accepted](Self::is_accepted).
    ///
    /// # Examples
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_wsstream::{
    ///     AcceptMode, BoxError, ChannelSet, Rejection, SessionConfig, WsStreamLayer,
    /// };
    /// # use tower_wsstream::{ChannelProtocols, ChannelType};
    /// # async fn find(container: &str) -> Option<()> { Some(()) }
    ///
    /// async fn logs(channels: ChannelSet) -> Result<(), BoxError> {
    ///     let Some(container) = find("web").await else {
    ///         return Err(Rejection::new(StatusCode::NOT_FOUND, "no container \"web\"").into());
    ///     };
    ///     channels.session().accept().await;
    ///     // ...
    ///     Ok(())
    /// }
    /// # fn main() -> Result<(), tower_wsstream::ConfigError> {
    /// # let protocols = ChannelProtocols::standard([ChannelType::Read])?;
    ///
    /// let explicit = SessionConfig::default().accept(AcceptMode::Explicit);
    /// let layer = WsStreamLayer::new(protocols).config(explicit);
    /// # let _ = (layer, logs);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// Cancel safe. The first poll of the future accepts, even if the future is dropped
    /// afterwards. A future that is never polled does nothing.
    pub async fn accept(&self) {
        let progress = &self.inner.progress;
        progress.set_accepting();
        // Wakes the task that polls the service, if that is not this one.
        self.inner.wire.turn.wake_service();
        progress
            .wait(|it| (it.is_accepted() || it.cause().is_some()).then_some(()))
            .await;
    }

    /// Ends the session with a Close frame of this code and reason, behind everything that the
    /// writers have accepted. Writers fail from the call on.
    ///
    /// Reasons longer than 123 bytes are cut. To end a session that went well, return from the
    /// service: 1000 says that the outcome was told in full, which only the end of the service
    /// can know.
    ///
    /// Like a write, this accepts the upgrade: the client gets a session that ends with this
    /// code, regardless of what the service returns, in its first poll or later. With
    /// [`AcceptMode::Explicit`](crate::AcceptMode) it does not: until the service has accepted,
    /// an error is still the refusal, while `Ok` accepts and the session ends with this code.
    ///
    /// # Examples
    ///
    /// Closing a browser's session with a code of your own, from 4000 to 4999. A page cannot
    /// see why an upgrade was refused, but its `onclose` gets this code and reason:
    ///
    /// ```
    /// use tower::ServiceBuilder;
    /// use tower_wsstream::{BoxError, ChannelSet, WsStreamLayer};
    /// # use tower_wsstream::{ChannelProtocols, ChannelType};
    ///
    /// /// What an authentication layer outside has put into the request's extensions.
    /// #[derive(Clone)]
    /// struct User(String);
    ///
    /// async fn terminal(channels: ChannelSet) -> Result<(), BoxError> {
    ///     let head = channels.request();
    ///     if head.is_none_or(|head| head.extensions.get::<User>().is_none()) {
    ///         channels.session().close(4001, "log in again")?;
    ///         return Ok(());
    ///     }
    ///     // ...
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// # let protocols = ChannelProtocols::standard([ChannelType::Write])?;
    /// let service = ServiceBuilder::new()
    ///     .layer(WsStreamLayer::new(protocols))
    ///     .service_fn(terminal);
    /// # #[cfg(feature = "testing")]
    /// # {
    /// #     let client = tower_wsstream::testing::Connect::to("/").connect(service).await?;
    /// #     assert_eq!(client.read_to_end().await.close_code, Some(4001));
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns an error for a code that must not be sent (RFC 6455, section 7.4), and for 1000.
    /// Only the first call counts, and a call after the end does nothing.
    pub fn close(&self, code: u16, reason: &str) -> Result<(), CloseError> {
        let code = CloseError::check(code)?;
        let cause = EndCause::Closed { code };
        self.inner.wire.outbound.refuse_writers(&cause);
        self.post(|commands| {
            commands
                .close
                .get_or_insert_with(|| (code, close_payload(Some(code), reason)));
        });
        Ok(())
    }

    /// Holds output until there is proof that the peer reads; see [`Hold`].
    ///
    /// Call this in the first poll of the service: anything written before that may have left.
    /// While output is held, `write` fills its budget and then waits, `flush` and `shutdown`
    /// wait, and a writer that is dropped keeps what it has accepted. The end of a session
    /// waits too, because last words are output like any other. Only a fault of the peer ends
    /// the hold early.
    pub fn hold_output(&self, hold: Hold) {
        self.inner.wire.outbound.set_held(true);
        self.post(|commands| commands.hold = Some(hold));
    }

    /// Registers the closure that says the last words, however the session ends.
    ///
    /// It is called once with the [`Outcome`], after all writers are done, even if the service
    /// failed, panicked, or was dropped. Its message is the last before the Close frame, behind
    /// all other output, and has room reserved for it. `Some` means that the outcome is told in
    /// full, which makes the Close code 1000. `None` means that it is not, and so does the lack
    /// of a closure if the service did not return `Ok`: the code is then 1011. The closure is
    /// not called if nothing can be said any more, because the connection is lost or the peer
    /// broke the protocol. A second call replaces the first.
    pub fn say_last<F>(&self, words: F)
    where
        F: FnOnce(&Outcome<'_>) -> Option<LastWords> + Send + 'static,
    {
        // Dropped without a lock: it may hold the session itself.
        drop(self.inner.inbox.set_last(Box::new(words)));
    }

    /// Discards from now on all data that the peer sends, as Go's `IgnoreReceives` does. The
    /// peer's Close is still seen.
    ///
    /// This is for a session that only writes. Readers that are still held, even those with a
    /// pending read, get nothing more until the end of the session, which ends them like any
    /// other reader.
    pub fn ignore_receives(&self) {
        for id in 0..=u8::MAX {
            self.inner.wire.inbound.ignore(id);
        }
    }

    /// Waits until the server has begun to shut down, that is until its [`Sessions`] refuses
    /// new sessions.
    ///
    /// After [`Sessions::close`] the session may continue, and a service that can end by itself
    /// should do so now. After [`Sessions::drain`] the session [has ended](Self::ended) as well.
    ///
    /// [`Sessions`]: super::Sessions
    /// [`Sessions::close`]: super::Sessions::close
    /// [`Sessions::drain`]: super::Sessions::drain
    ///
    /// # Cancel safety
    /// Cancel safe, and any number of callers may wait.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + Sync + use<> {
        let inner = Arc::clone(&self.inner);
        async move {
            inner
                .progress
                .wait(|it| it.is_draining().then_some(()))
                .await
        }
    }

    /// Returns whether the upgrade was accepted. Before that, an error of the service is the
    /// answer to the handshake.
    pub fn is_accepted(&self) -> bool {
        self.inner.progress.is_accepted()
    }

    fn post(&self, command: impl FnOnce(&mut Commands)) {
        self.inner.inbox.post(command);
        self.inner.wire.turn.wake_driver();
    }
}

/// The side of those that run the session.
impl Session {
    /// Returns whether [`accept`](Self::accept) was called.
    pub(crate) fn is_accepting(&self) -> bool {
        self.inner.progress.is_accepting()
    }

    /// Returns whether [`close`](Self::close) was called and not carried out yet. Before the
    /// acceptance no driver runs that could.
    pub(crate) fn is_closing(&self) -> bool {
        self.inner.inbox.has_close()
    }

    /// Records that the upgrade was answered with success, and lets output go.
    pub(crate) fn set_accepted(&self) {
        self.inner.progress.set_accepted();
        self.inner.wire.outbound.accept();
    }

    /// Tells the service why the session ends. The first cause stays.
    pub(crate) fn set_cause(&self, cause: &EndCause) {
        self.inner.progress.set_cause(cause);
    }

    /// Takes the commands for the driver, if there are any.
    pub(crate) fn take_commands(&self) -> Option<Commands> {
        self.inner.inbox.take()
    }

    /// Takes the closure for the last words. There is none afterwards.
    pub(crate) fn take_last_words(&self) -> Option<LastWordsFn> {
        self.inner.inbox.take_last()
    }

    pub(crate) fn set_draining(&self) {
        self.inner.progress.set_draining();
    }

    /// Ends the session, which is aborted if it is still there at the deadline.
    pub(crate) fn drain(&self, deadline: Instant) {
        self.post(|commands| commands.drain = Some(deadline));
    }

    /// Records that the session was aborted at the deadline of a drain.
    pub(crate) fn set_cut(&self) {
        self.inner.progress.set_cut();
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.inner.progress.is_cut()
    }

    /// Returns what each channel has carried so far: received, then sent.
    pub(crate) fn traffic(&self) -> Vec<(Traffic, Traffic)> {
        self.inner.wire.traffic()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.inner.id)
            .field("cause", &self.inner.progress.cause())
            .finish_non_exhaustive()
    }
}
