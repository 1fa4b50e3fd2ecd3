//! Sessions: their configuration, their handle, and what becomes of them.
//!
//! | type | role |
//! |---|---|
//! | [`SessionConfig`], [`AcceptMode`] | every setting of a layer's sessions |
//! | [`Session`] | the handle of one session: accept, close, wait for the end |
//! | [`Hold`] | keeps early output back until the peer is seen to read |
//! | [`LastWords`], [`Outcome`] | the message that goes last, and the outcome that it reports |
//! | [`Sessions`], [`Drained`], [`SessionInfo`] | all sessions of some layers: counted, listed, drained |
//! | [`SessionSummary`], [`ChannelSummary`], [`Traffic`] | the end of a session, for metrics and audits |
//! | [`Peer`] | a name for the client, for lists and logs |
//! | [`CloseError`], [`CloseReason`] | the code and the reason of a Close frame |
//!
//! The causes of an end are those of [`EndCause`]. The policies of a session are in
//! [`policy`](crate::policy).

mod config;
mod end;
mod hold;
mod registry;
mod summary;

pub use self::{
    config::{AcceptMode, SessionConfig},
    end::{CloseError, LastWords, Outcome},
    hold::Hold,
    registry::{Drained, Peer, SessionInfo, Sessions},
    summary::{ChannelSummary, SessionSummary},
};
pub(crate) use self::{
    registry::{Entry, Registered},
    summary::OnEnd,
};
pub use crate::{close_reason::CloseReason, wire::Traffic};

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    error::EndCause,
    frame::{ClosePayload, close_payload},
    wire::Wire,
};

/// One upgraded connection, as its service sees it: a cheap handle.
///
/// It keeps nothing open: a session ends when its service has returned and all
/// writers are gone, whoever still holds a `Session`.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    id: u64,
    wire: Arc<Wire>,
    cause: OnceLock<EndCause>,
    /// There is a cause, or the upgrade was accepted.
    changed: Notify,
    /// The service wants the upgrade to be accepted.
    accepting: AtomicBool,
    /// The upgrade was answered with success.
    accepted: AtomicBool,
    /// Its `Sessions` is closed.
    draining: AtomicBool,
    /// It had not ended at the deadline of a drain.
    cut: AtomicBool,
    /// Whether the driver has something to look at in `commands`.
    pending: AtomicBool,
    commands: Mutex<Commands>,
}

type LastWordsFn = Box<dyn FnOnce(&Outcome<'_>) -> Option<LastWords> + Send>;

/// What the service asked the driver for.
#[derive(Default)]
pub(crate) struct Commands {
    pub(crate) close: Option<(u16, ClosePayload)>,
    pub(crate) hold: Option<Hold>,
    /// To end, and to be gone by then.
    pub(crate) drain: Option<Instant>,
    last_words: Option<LastWordsFn>,
    /// The last words were said, or never will be.
    over: bool,
}

/// Identifies a session within its process.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Session {
    pub(crate) fn new(wire: Arc<Wire>) -> Self {
        Self {
            inner: Arc::new(Inner {
                // Relaxed: only uniqueness matters.
                id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
                wire,
                cause: OnceLock::new(),
                changed: Notify::new(),
                accepting: AtomicBool::new(false),
                accepted: AtomicBool::new(false),
                draining: AtomicBool::new(false),
                cut: AtomicBool::new(false),
                pending: AtomicBool::new(false),
                commands: Mutex::default(),
            }),
        }
    }

    /// The session's number, unique in this process, as the logs show it.
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// Waits until the session is over for its service, and tells why.
    ///
    /// From then on the service has the grace period to finish; what it writes
    /// still reaches the peer where the cause lets it. After that its future is
    /// dropped.
    ///
    /// A service that is reading does not need this: its reads return what arrived, then EOF or an
    /// error with the cause. It is for services that wait for something else; beside a
    /// read, select with a bias to the read, or what came last is lost. What the
    /// service returns then counts: after an idle timeout `Ok` closes with 1000, an
    /// error with 1001.
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
        async move { inner.change(|inner| inner.cause.get().cloned()).await }
    }

    /// Accepts the upgrade, where the layer waits for that
    /// ([`AcceptMode::Explicit`](crate::AcceptMode)), and waits until it was: from then on
    /// an error of the service is the end of a session, and no HTTP answer.
    ///
    /// Where the upgrade was accepted already it returns at once. Where it is refused
    /// meanwhile the service's future is dropped; another task that waits here goes on,
    /// and finds the session [ended](Self::ended) and not [accepted](Self::is_accepted).
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
    /// Cancel safe. The first poll of the future accepts, whatever becomes of it
    /// afterwards; one that is never polled does nothing.
    pub async fn accept(&self) {
        // Relaxed: read by the task that polls the service, which is this one,
        // or is woken for it below.
        self.inner.accepting.store(true, Ordering::Relaxed);
        self.inner.wire.turn.wake_service();
        self.inner
            .change(|inner| (inner.accepted() || inner.cause.get().is_some()).then_some(()))
            .await;
    }

    /// Whether [`accept`](Self::accept) was called.
    pub(crate) fn is_accepting(&self) -> bool {
        self.inner.accepting.load(Ordering::Relaxed)
    }

    /// Ends the session with a Close frame of this code and reason, after what
    /// the writers have accepted. Writers fail from the call on.
    ///
    /// Reasons longer than 123 bytes are cut. To end a session that went well,
    /// return from the service: 1000 says that the outcome was told in full,
    /// which only the end of the service can know.
    ///
    /// Like a write, this accepts the upgrade: the client gets a session that ends with this
    /// code, whatever the service returns, in its first poll or later. With
    /// [`AcceptMode::Explicit`](crate::AcceptMode) it does not: until the service has accepted, an
    /// error is still the refusal, while `Ok` accepts and the session ends with this code.
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
    /// A code that must not be sent (RFC 6455, section 7.4), and 1000. Of several
    /// calls the first counts; one after the end does nothing.
    pub fn close(&self, code: u16, reason: &str) -> Result<(), CloseError> {
        let code = CloseError::check(code)?;
        let cause = EndCause::Closed { code };
        self.inner.wire.outbound.refuse_writers(&cause);
        let mut commands = self.commands();
        commands
            .close
            .get_or_insert_with(|| (code, close_payload(Some(code), reason)));
        drop(commands);
        self.tell_driver();
        Ok(())
    }

    /// Returns whether [`close`](Self::close) was called and not carried out yet. Before the
    /// acceptance no driver runs that could.
    pub(crate) fn is_closing(&self) -> bool {
        self.commands().close.is_some()
    }

    /// Keeps output back until the peer is seen to read; see [`Hold`].
    ///
    /// To be called in the first poll of the service, or it comes too late for
    /// what was written before. While output is held, `write` fills its budget
    /// and then waits, `flush` and `shutdown` wait, and dropping a writer keeps
    /// what it accepted. The end of a session waits too: what is said last is
    /// output like any other. Only a fault of the peer ends the hold.
    pub fn hold_output(&self, hold: Hold) {
        self.inner.wire.outbound.set_held(true);
        self.commands().hold = Some(hold);
        self.tell_driver();
    }

    /// Registers what is to be said last, however the session ends.
    ///
    /// The closure is called once, after all writers are done, with the
    /// [`Outcome`]: also when the service failed, panicked, or was dropped. Its
    /// message goes out behind everything else, with room reserved for it, and
    /// is the last before the Close frame. `Some` means that the outcome is told
    /// in full, which makes the Close code 1000; `None`, or no closure where the
    /// service did not return `Ok`, means it is not, and the code is 1011. It is not called where
    /// nothing can be said any more: when the connection is lost, or the peer
    /// broke the protocol. A second call replaces the first.
    pub fn say_last<F>(&self, words: F)
    where
        F: FnOnce(&Outcome<'_>) -> Option<LastWords> + Send + 'static,
    {
        let mut commands = self.commands();
        let unused: Option<LastWordsFn> = if commands.over {
            Some(Box::new(words))
        } else {
            commands.last_words.replace(Box::new(words))
        };
        drop(commands);
        // Not under the lock: it may hold the session itself.
        drop(unused);
    }

    /// Discards from now on whatever the peer sends on any channel, as Go's
    /// `IgnoreReceives` does; its Close is still seen.
    ///
    /// For a session that only writes. Readers that are still held, a pending read
    /// included, get nothing more until the end of the session, which ends them as it ends
    /// any other.
    pub fn ignore_receives(&self) {
        for id in 0..=u8::MAX {
            self.inner.wire.inbound.ignore(id);
        }
    }

    /// Waits until the server has begun to shut down: until its
    /// [`Sessions`] refuses new ones.
    ///
    /// After [`Sessions::close`] the session may go on; a service that can end of itself
    /// had better do so now. After [`Sessions::drain`] it [has ended](Self::ended) as well.
    ///
    /// # Cancel safety
    /// Cancel safe, and any number of callers may wait.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + Sync + use<> {
        let inner = Arc::clone(&self.inner);
        async move {
            // Relaxed: it tells nothing about other memory.
            let draining = |inner: &Inner| inner.draining.load(Ordering::Relaxed);
            inner.change(|inner| draining(inner).then_some(())).await;
        }
    }

    pub(crate) fn set_draining(&self) {
        self.inner.draining.store(true, Ordering::Relaxed);
        self.inner.changed.notify_waiters();
    }

    /// Ends the session, which must be gone by then.
    pub(crate) fn drain(&self, deadline: Instant) {
        self.commands().drain = Some(deadline);
        self.tell_driver();
    }

    /// It was aborted, because it was not gone by then.
    pub(crate) fn set_cut(&self) {
        self.inner.cut.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.inner.cut.load(Ordering::Relaxed)
    }

    /// What came and went so far on each channel: received, then sent.
    pub(crate) fn traffic(&self) -> Vec<(Traffic, Traffic)> {
        self.inner.wire.traffic()
    }

    /// Whether the upgrade was accepted. Before that, an error of the service is
    /// the answer to the handshake.
    pub fn is_accepted(&self) -> bool {
        self.inner.accepted()
    }

    pub(crate) fn set_accepted(&self) {
        self.inner.accepted.store(true, Ordering::Relaxed);
        self.inner.changed.notify_waiters();
        self.inner.wire.outbound.accept();
    }

    fn commands(&self) -> MutexGuard<'_, Commands> {
        self.inner
            .commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_driver(&self) {
        // Release: the driver that sees the flag sees the command.
        self.inner.pending.store(true, Ordering::Release);
        self.inner.wire.turn.wake_driver();
    }

    /// New commands, if there are any.
    pub(crate) fn take_commands(&self) -> Option<Commands> {
        // Acquire: see `tell_driver`.
        if !self.inner.pending.swap(false, Ordering::Acquire) {
            return None;
        }
        let mut commands = self.commands();
        Some(Commands {
            close: commands.close.take(),
            hold: commands.hold.take(),
            drain: commands.drain.take(),
            ..Commands::default()
        })
    }

    /// The last words, once. What is registered later is dropped: it may hold
    /// the session, which would then hold itself.
    pub(crate) fn take_last_words(&self) -> Option<LastWordsFn> {
        let mut commands = self.commands();
        commands.over = true;
        commands.last_words.take()
    }

    /// Tells the service. The first cause stays.
    pub(crate) fn set_cause(&self, cause: &EndCause) {
        if self.inner.cause.set(cause.clone()).is_ok() {
            self.inner.changed.notify_waiters();
        }
    }
}

impl Inner {
    fn accepted(&self) -> bool {
        // Relaxed: it tells nothing about other memory.
        self.accepted.load(Ordering::Relaxed)
    }

    /// Waits until there is something to find.
    async fn change<T>(&self, find: impl Fn(&Self) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Registered before the look, so that no change falls between.
            changed.as_mut().enable();
            if let Some(found) = find(self) {
                return found;
            }
            changed.await;
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.inner.id)
            .field("cause", &self.inner.cause.get())
            .finish_non_exhaustive()
    }
}
