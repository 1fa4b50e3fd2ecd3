use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_sink::Sink;
use http::request::Parts;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    ExitStatus, Options, RemoteCommandFuture, TerminalSizes,
    channel::{ERROR, RESIZE, STDERR, STDIN, STDOUT},
    outcome,
    sizes::resizes,
    user_agent::hold_by_user_agent,
};
use crate::{
    BoxError, ChannelReader, ChannelSet, ChannelWriter, Session, Status, session::Hold,
    unwind::catch,
};

/// The outcome that the service has decided on, for the last words.
pub(super) type Decided = Arc<Mutex<Option<Status>>>;

pub(super) fn decide(decided: &Decided, status: Status) {
    *decided.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
}

/// One exec or attach: its options and its streams.
#[derive(Debug)]
#[non_exhaustive]
pub struct RemoteCommand {
    /// The parameters of the client's request.
    pub options: Options,
    /// The input, if the client asked for it.
    pub stdin: Option<ChannelReader>,
    /// The output, if the client asked for it.
    pub stdout: Option<ChannelWriter>,
    /// The error output, if the client asked for it; never with a terminal.
    pub stderr: Option<ChannelWriter>,
    /// The sizes of the client's terminal, if it has one.
    pub resize: Option<TerminalSizes>,
    /// The session: its end, and its number in the logs.
    pub session: Session,
    /// The head of the upgrade request, with the extensions that outer layers have inserted.
    /// Drop it early: it keeps a read buffer of the server alive, usually 8 KiB.
    pub request: Option<Box<Parts>>,
}

/// Hands the channels of exec and attach to a `Service<RemoteCommand>`, and its exit status to
/// the client.
///
/// Belongs inside of a [`WsStreamLayer`](crate::WsStreamLayer) with
/// [`Protocols`](super::Protocols), directly or with other layers in between. First it sends the
/// ready message, an empty one on the lowest channel that the client reads, as Kubernetes'
/// servers do. Some clients may lose early output, such as kubectl up to 1.33. For them all output
/// is held until the client is seen to read; see [`hold`](Self::hold).
///
/// kubectl prints only a Status, and tries SPDY if an upgrade is refused. So an error or a panic
/// of the service becomes a Status, at any time. A [`Rejection`](crate::Rejection) before the
/// upgrade is accepted is the HTTP answer; with [`AcceptMode::Explicit`](crate::AcceptMode) the
/// service has until `session.accept()` to find out that it has to refuse.
#[derive(Clone, Debug, Default)]
pub struct RemoteCommandLayer {
    hold: ChooseHold,
}

impl RemoteCommandLayer {
    /// Creates a layer that holds output for the clients that need it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how output is held back for each session; default:
    /// [`hold_by_user_agent`](super::hold_by_user_agent).
    ///
    /// The default [`Hold`] delays output by one round trip and 20 ms, and by 250 ms at most.
    /// Without it, a client that is not ready loses its first output, or an early exit code. The
    /// function is called once per session, before the service, and should be quick. If it
    /// panics, output is held.
    ///
    /// # Examples
    ///
    /// Never holding, for clients that are known to be ready:
    ///
    /// ```
    /// use tower_wsstream::remotecommand::RemoteCommandLayer;
    ///
    /// let layer = RemoteCommandLayer::new().hold(|_| None);
    /// # let _ = layer;
    /// ```
    ///
    /// Always holding, with a longer bound for clients that are far away:
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tower_wsstream::{remotecommand::RemoteCommandLayer, session::Hold};
    ///
    /// let hold = Hold::until_peer_reads(Duration::from_millis(20), Duration::from_secs(1));
    /// let layer = RemoteCommandLayer::new().hold(move |_| Some(hold));
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn hold<F>(mut self, choose: F) -> Self
    where
        F: Fn(&Parts) -> Option<Hold> + Send + Sync + 'static,
    {
        self.hold = ChooseHold(Arc::new(choose));
        self
    }
}

/// The function of [`RemoteCommandLayer::hold`].
#[derive(Clone)]
struct ChooseHold(Arc<Choose>);

type Choose = dyn Fn(&Parts) -> Option<Hold> + Send + Sync;

impl ChooseHold {
    fn ask(&self, head: &Parts) -> Option<Hold> {
        catch(|| (self.0)(head)).unwrap_or_else(|_| {
            tracing::error!("the function of RemoteCommandLayer::hold panicked: output is held");
            Some(Hold::default())
        })
    }
}

impl Default for ChooseHold {
    fn default() -> Self {
        Self(Arc::new(hold_by_user_agent))
    }
}

impl fmt::Debug for ChooseHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

impl<S> Layer<S> for RemoteCommandLayer {
    type Service = RemoteCommandService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RemoteCommandService {
            inner,
            hold: self.hold.clone(),
        }
    }
}

/// The service of a [`RemoteCommandLayer`].
#[derive(Clone)]
pub struct RemoteCommandService<S> {
    inner: S,
    hold: ChooseHold,
}

impl<S> RemoteCommandService<S> {
    /// Returns the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns the inner service, to change it for the sessions to come.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service, and discards the layer.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S> Service<ChannelSet> for RemoteCommandService<S>
where
    S: Service<RemoteCommand, Response = ExitStatus>,
    S::Error: Into<BoxError>,
{
    type Response = ();
    type Error = BoxError;
    type Future = RemoteCommandFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut channels: ChannelSet) -> Self::Future {
        let request = channels.take_request();
        let query = request.as_ref().and_then(|head| head.uri.query());
        let options = match Options::from_query(query.unwrap_or_default()) {
            Ok(options) => options,
            Err(rejection) => return RemoteCommandFuture::refused(rejection),
        };
        let session = channels.session().clone();
        if let Some(hold) = request.as_ref().and_then(|head| self.hold.ask(head)) {
            session.hold_output(hold);
        }
        let decided = Decided::default();
        register_last_words(&session, channels.subprotocol().to_owned(), &decided);

        let stdin = channels.take_reader(STDIN);
        let mut stdout = channels.take_writer(STDOUT);
        let mut stderr = channels.take_writer(STDERR);
        let mut error = channels.take_writer(ERROR);
        for writer in [&mut stdout, &mut stderr, &mut error] {
            if writer.is_some() {
                *writer = writer.take().map(say_ready);
                break;
            }
        }
        // The last words do not need the writer.
        drop(error);
        // The error channel has a reader on v3 only.
        let sizes = [RESIZE, ERROR].map(|channel| channels.take_reader(channel));
        let (resizes, resize) = resizes(sizes);
        let command = RemoteCommand {
            options,
            stdin,
            stdout,
            stderr,
            resize,
            session: session.clone(),
            request,
        };
        match catch(|| self.inner.call(command)) {
            Ok(future) => RemoteCommandFuture::running(future, resizes, decided, session),
            Err(_) => {
                tracing::error!("the command's service panicked when it was called");
                decide(&decided, outcome::panicked());
                RemoteCommandFuture::decided()
            }
        }
    }
}

fn register_last_words(session: &Session, subprotocol: String, decided: &Decided) {
    let decided = Arc::clone(decided);
    session.say_last(move |outcome| {
        let decided = decided
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let status = outcome::status(decided, outcome);
        Some(outcome::last_words(&subprotocol, status))
    });
}

/// Sends the ready message: an empty one on the lowest channel that the client
/// reads, as Go's servers do.
fn say_ready(writer: ChannelWriter) -> ChannelWriter {
    let mut sink = writer.into_sink();
    // Without `poll_ready`: an empty message needs no room, and with `AcceptMode::Explicit` there
    // is none yet. If the session is over already, the next write fails.
    let _ = std::pin::Pin::new(&mut sink).start_send(Bytes::new());
    sink.into_inner()
}

impl<S> fmt::Debug for RemoteCommandService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteCommandService")
            .finish_non_exhaustive()
    }
}
