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
    kept::Kept,
    progress::Progress,
};
use crate::{
    error::EndCause,
    frame::close_payload,
    wire::{Condition, Traffic, Wire},
};

/// A handle to one session. Cloning is cheap.
///
/// A handle does not keep the session open: the session ends when its service has returned and all
/// writers are gone, even while there are handles to it.
///
/// # Examples
///
/// A session that only writes, and stops by itself when the server is about to:
///
/// ```
/// use std::time::Duration;
///
/// use tokio::{io::AsyncWriteExt, time::interval};
/// use tower_wsstream::{BoxError, ChannelSet, Session, session::LastWords};
///
/// async fn clock(mut channels: ChannelSet) -> Result<(), BoxError> {
///     let session: Session = channels.session().clone();
///     session.ignore_receives();
///     session.say_last(|_| Some(LastWords::new(1, "goodbye")));
///     let mut out = channels.take_writer(1).ok_or("no channel 1")?;
///     let mut ticks = interval(Duration::from_secs(1));
///     let draining = session.draining();
///     tokio::pin!(draining);
///     loop {
///         tokio::select! {
///             () = &mut draining => break,
///             _ = ticks.tick() => out.write_all(b"tick\n").await?,
///         }
///     }
///     println!("session {} has made room, accepted: {}", session.id(), session.is_accepted());
///     Ok(())
/// }
/// # let _ = clock;
/// ```
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    id: u64,
    wire: Arc<Wire>,
    progress: Progress,
    inbox: Inbox,
    kept: Kept,
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
                kept: Kept::default(),
            }),
        }
    }

    /// Returns the session's number, which is unique in this process and appears in the logs.
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// Waits until the session ends, and returns the cause.
    ///
    /// From then on, the service has the grace period to finish. Its output still reaches the peer
    /// if the cause allows that. After the grace period, its future is dropped.
    ///
    /// A service that is reading does not need this: its reads return what arrived, then EOF or an
    /// error with the cause. This method is for services that wait for something else. If you select
    /// between it and a read, bias the selection towards the read, or the last bytes are lost. The
    /// result of the service still counts after the end: after an idle timeout, `Ok` closes with
    /// 1000, and an error with 1001.
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

    /// Accepts the upgrade, if the layer waits for that
    /// ([`AcceptMode::Explicit`](crate::AcceptMode::Explicit)), and waits until it has been accepted.
    ///
    /// From then on, an error of the service ends a session instead of answering a request. This
    /// returns at once if the upgrade has already been accepted.
    ///
    /// If the upgrade is refused in the meantime, the service's future is dropped. Another task that
    /// waits here continues: the session has then [ended](Self::ended) without being
    /// [accepted](Self::is_accepted).
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
        // Wakes the task that polls the service, which may be another one.
        self.inner.wire.turn.wake_service();
        progress
            .wait(|it| (it.is_accepted() || it.cause().is_some()).then_some(()))
            .await;
    }

    /// Ends the session with a Close frame of this code and reason, after all output that the
    /// writers have accepted. From the call on, writes fail.
    ///
    /// A reason longer than 123 bytes is truncated. To end a session that was successful, return
    /// from the service: 1000 means that the outcome was reported in full, which is known only once
    /// the service has returned.
    ///
    /// Like a write, this accepts the upgrade: the client gets a session that ends with this code,
    /// even if the service then fails, in its first poll or later. With
    /// [`AcceptMode::Explicit`](crate::AcceptMode), it does not accept. Until the service has
    /// accepted, an error is still a refusal, while `Ok` accepts, and the session ends with this
    /// code.
    ///
    /// # Examples
    ///
    /// To close a browser's session, use a code of your own from 4000 to 4999. A page cannot see why
    /// an upgrade was refused, but its `onclose` receives this code and reason:
    ///
    /// ```
    /// use tower::ServiceBuilder;
    /// use tower_wsstream::{BoxError, ChannelSet, WsStreamLayer};
    /// # use tower_wsstream::{ChannelProtocols, ChannelType};
    ///
    /// /// The user, whom an outer authentication layer inserts into the request's extensions.
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
    /// Fails for a code that must not be sent (RFC 6455, section 7.4), and for 1000. Only the first
    /// call counts, and a call after the end of the session has no effect.
    pub fn close(&self, code: u16, reason: &str) -> Result<(), CloseError> {
        let code = CloseError::check(code)?;
        // The service of a session that ends already may still write in its grace.
        if self.inner.progress.cause().is_some() {
            return Ok(());
        }
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
    /// Call this in the first poll of the service: output that was written earlier may already have
    /// left. While output is held, `write` fills its budget and then waits, `flush` and `shutdown`
    /// wait, and data that a dropped writer has accepted is kept. The end of the session waits too,
    /// because last words are output like any other. Only a fault of the peer ends the hold early.
    pub fn hold_output(&self, hold: Hold) {
        self.inner.wire.outbound.set_held(true);
        self.post(|commands| commands.hold = Some(hold));
    }

    /// Registers the closure that provides the last message of the session.
    ///
    /// The closure is called once with the [`Outcome`], when all writers are done, even if the
    /// service failed, panicked or was dropped. Its message is sent after all other output, right
    /// before the Close frame, and needs no room in a budget.
    ///
    /// If the closure returns `Some`, the outcome is reported in full, and the close code is 1000.
    /// If it returns `None`, the outcome is not reported. The same holds if there is no closure and
    /// the service did not return `Ok`. The code is then 1011, unless the cause of the end has
    /// another one, as a timeout or a drain does.
    ///
    /// A message on a channel that the session does not have is lost, and counts as `None`. Over
    /// SPDY, so does one on a channel whose stream has ended: dropping or shutting down a writer ends
    /// its stream, except for that of the error channel of a command. A stream that the client has
    /// reset, or has not opened, takes no message either.
    ///
    /// The closure is not called if nothing can be sent any more, because the connection is lost or
    /// the peer broke the protocol. A second call replaces the closure of the first.
    pub fn say_last<F>(&self, words: F)
    where
        F: FnOnce(&Outcome<'_>) -> Option<LastWords> + Send + 'static,
    {
        // Dropped without a lock, because the closure may own a handle to the session.
        drop(self.inner.inbox.set_last(Box::new(words)));
    }

    /// Discards all data that the peer sends from now on, as Go's `IgnoreReceives` does. The peer's
    /// Close still ends the session.
    ///
    /// This is for a session that only writes. Readers that still exist, even those with a pending
    /// read, get nothing more until the session ends, which ends them like any other reader.
    pub fn ignore_receives(&self) {
        self.inner.wire.inbound.ignore_all();
    }

    /// Keeps a value until the connection of the session is closed and the service has ended, and drops
    /// it then.
    ///
    /// This is for what has to be counted for as long as the session costs something. A permit of a
    /// layer, such as tower's `concurrency_limit` or a
    /// [`SessionLimitLayer`](crate::access::SessionLimitLayer), is released when the service has
    /// returned. The output of a session whose client does not read may stay in memory for minutes
    /// after that, and its connection open. A client can make many such sessions, one after the other.
    /// A permit that the session keeps bounds them as well.
    ///
    /// If the upgrade is refused, or the session's task is dropped, so is the value. It is dropped at
    /// once if all of that has already happened.
    ///
    /// # Examples
    ///
    /// Each user has at most four connections, including those that are being closed:
    ///
    /// ```
    /// use tower::ServiceBuilder;
    /// use tower_wsstream::{BoxError, ChannelSet, WsStreamLayer, access::SessionPermits};
    /// # use tower_wsstream::{ChannelProtocols, ChannelType};
    ///
    /// /// Inserted into the request's extensions by an authentication layer further out.
    /// #[derive(Clone, PartialEq, Eq, Hash)]
    /// struct User(String);
    ///
    /// async fn session(channels: ChannelSet) -> Result<(), BoxError> {
    ///     Ok(())
    /// }
    ///
    /// # fn main() -> Result<(), tower_wsstream::ConfigError> {
    /// # let protocols = ChannelProtocols::standard([ChannelType::Write])?;
    /// let permits = SessionPermits::new(4);
    /// let service = ServiceBuilder::new()
    ///     .layer(WsStreamLayer::new(protocols))
    ///     .service_fn(move |channels: ChannelSet| {
    ///         let user = channels.request().and_then(|head| head.extensions.get::<User>());
    ///         let user = user.cloned().ok_or(BoxError::from("no user"));
    ///         let permit = user.and_then(|user| Ok(permits.try_acquire(user)?));
    ///         async move {
    ///             // A refusal is the answer to the upgrade.
    ///             channels.session().keep_until_closed(permit?);
    ///             session(channels).await
    ///         }
    ///     });
    /// # let _ = service;
    /// # Ok(())
    /// # }
    /// ```
    pub fn keep_until_closed<T: Send + 'static>(&self, value: T) {
        self.inner.kept.keep(Box::new(value));
    }

    /// Waits until the server begins to shut down, that is, until its [`Sessions`] refuses new
    /// sessions.
    ///
    /// After [`Sessions::close`], the session may continue, and a service that can end by itself
    /// should do so. After [`Sessions::drain`], the session also [ends](Self::ended).
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

    /// Returns whether the upgrade has been accepted. Until then, an error of the service is the
    /// answer to the handshake.
    pub fn is_accepted(&self) -> bool {
        self.inner.progress.is_accepted()
    }

    fn post(&self, command: impl FnOnce(&mut Commands)) {
        self.inner.inbox.post(command);
        self.inner.wire.turn.wake_driver();
    }
}

/// The methods for the code that runs the session.
impl Session {
    /// Returns whether [`accept`](Self::accept) was called.
    pub(crate) fn is_accepting(&self) -> bool {
        self.inner.progress.is_accepting()
    }

    /// Returns whether [`close`](Self::close) was called and has not been carried out. Before the
    /// acceptance, no driver is running that could carry it out.
    pub(crate) fn is_closing(&self) -> bool {
        self.inner.inbox.has_close()
    }

    /// Records that the upgrade was accepted, and releases output.
    pub(crate) fn set_accepted(&self) {
        self.inner.progress.set_accepted();
        self.inner.wire.outbound.accept(Condition::Upgrade);
    }

    /// Tells the service why the session ends. Only the first cause counts.
    pub(crate) fn set_cause(&self, cause: &EndCause) {
        self.inner.progress.set_cause(cause);
    }

    /// Takes the commands for the driver, if there are any.
    pub(crate) fn take_commands(&self) -> Option<Commands> {
        self.inner.inbox.take()
    }

    /// Takes the closure for the last words. None can be registered afterwards.
    pub(crate) fn take_last_words(&self) -> Option<LastWordsFn> {
        self.inner.inbox.take_last()
    }

    /// Drops the values that were kept until now.
    pub(crate) fn release_kept(&self) {
        self.inner.kept.release();
    }

    pub(crate) fn set_draining(&self) {
        self.inner.progress.set_draining();
    }

    /// Ends the session, and aborts it if it still exists at the deadline.
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

    /// Returns the amounts of data that each channel has received and sent so far.
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
