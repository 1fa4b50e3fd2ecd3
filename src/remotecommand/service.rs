use std::{
    fmt,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_sink::Sink;
use tower_service::Service;

use super::{
    ExitStatus, Options, RemoteCommand, RemoteCommandFuture,
    channel::{ERROR, RESIZE, STDERR, STDIN, STDOUT},
    layer::ChooseHold,
    outcome::{self, Decided, decide},
    sizes::resizes,
};
use crate::{BoxError, ChannelSet, ChannelWriter, Session, unwind::catch};

/// The service of a [`RemoteCommandLayer`](super::RemoteCommandLayer).
#[derive(Clone)]
pub struct RemoteCommandService<S> {
    inner: S,
    hold: ChooseHold,
}

impl<S> RemoteCommandService<S> {
    pub(super) fn new(inner: S, hold: ChooseHold) -> Self {
        Self { inner, hold }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service. Changes apply to later sessions.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Consumes the service, and returns the inner one.
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
        // Over SPDY, the client opens the streams, so it reads by the time they exist.
        let may_lose_output = !channels.config().format().has_streams();
        if may_lose_output && let Some(hold) = request.as_ref().and_then(|head| self.hold.ask(head))
        {
            session.hold_output(hold);
        }
        let decided = Decided::default();
        register_last_words(&session, channels.subprotocol().to_owned(), &decided);

        let stdin = channels.take_reader(STDIN);
        let mut stdout = channels.take_writer(STDOUT);
        let mut stderr = channels.take_writer(STDERR);
        let mut error = channels.take_writer(ERROR);
        for writer in [&mut stdout, &mut stderr, &mut error] {
            if may_lose_output && writer.is_some() {
                *writer = writer.take().map(say_ready);
                break;
            }
        }
        // The last words do not need the writer.
        drop(error);
        // Only on v3 does the error channel have a reader.
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

/// Sends the ready message, which is empty, as Go's servers do.
fn say_ready(writer: ChannelWriter) -> ChannelWriter {
    let mut sink = writer.into_sink();
    // This does not wait for `poll_ready`: an empty message needs no room, and with
    // `AcceptMode::Explicit` there is no room yet. If the session has ended, the next write fails.
    let _ = Pin::new(&mut sink).start_send(Bytes::new());
    sink.into_inner()
}

impl<S> fmt::Debug for RemoteCommandService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteCommandService")
            .finish_non_exhaustive()
    }
}
