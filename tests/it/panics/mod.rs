//! Panics of the user's code are contained: of errors that cannot be shown, of values that panic
//! when they are dropped, cloned or compared. Each costs at most its own session, and the client is
//! told.
//!
//! Logs are captured, because logging formats the errors.

mod errors;
mod functions;
mod keys;
mod ports;
mod requests;

use std::{
    error::Error,
    fmt,
    future::{Future, pending, poll_fn},
    hash::{Hash, Hasher},
    io,
    panic::{AssertUnwindSafe, catch_unwind, panic_any},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::Empty;
use hyper::body::Incoming;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    time::{sleep, timeout},
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_wsstream::{
    AcceptMode, BoxError, ChannelProtocols, ChannelSet, Rejection, SessionConfig, Sessions, Status,
    WsStreamLayer,
    access::SessionLimitLayer,
    axum08::WsStreamUpgrade,
    portforward::{self, ForwardedPort, PortForwardLayer},
    reader::{WsReader, WsReaderLayer},
    remotecommand::{self, ExitStatus, RemoteCommand, RemoteCommandLayer},
    subprotocols,
    testing::{Connect, Refused, Transcript},
};

use crate::support::{Bomb, HttpService, SERVICE_FAILED, logs, standard};

const LONG: Duration = Duration::from_secs(600);
/// The use of an error at which it panics.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trap {
    Display,
    /// `Display` returns an error of its own.
    DisplayFails,
    DisplayOfItsSource,
    Source,
    Drop,
}

const TRAPS: [Trap; 5] = [
    Trap::Display,
    Trap::DisplayFails,
    Trap::DisplayOfItsSource,
    Trap::Source,
    Trap::Drop,
];

impl Trap {
    fn name(self) -> &'static str {
        match self {
            Self::Display => "Display",
            Self::DisplayFails => "Display that fails",
            Self::DisplayOfItsSource => "Display of the source",
            Self::Source => "source",
            Self::Drop => "Drop",
        }
    }
}

struct Trapped {
    trap: Trap,
    source: Option<Box<Trapped>>,
}

impl Trapped {
    fn new(trap: Trap) -> Self {
        let source = (trap == Trap::DisplayOfItsSource).then(|| {
            Box::new(Self {
                trap: Trap::Display,
                source: None,
            })
        });
        Self { trap, source }
    }
}

impl fmt::Display for Trapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.trap {
            Trap::Display => panic!("in Display, on purpose"),
            Trap::DisplayFails => Err(fmt::Error),
            _ => f.write_str("password=hunter2"),
        }
    }
}

impl fmt::Debug for Trapped {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("in Debug, on purpose")
    }
}

impl Error for Trapped {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        assert!(self.trap != Trap::Source, "in source, on purpose");
        self.source.as_deref().map(|source| source as _)
    }
}

impl Drop for Trapped {
    fn drop(&mut self) {
        assert!(self.trap != Trap::Drop, "in Drop, on purpose");
    }
}

/// The time of the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Ready,
    AtOnce,
    Later,
}

/// A service that ends with an error.
#[derive(Clone, Copy)]
struct Failing {
    trap: Trap,
    when: When,
}

impl Failing {
    async fn fail<T>(self) -> Result<T, BoxError> {
        if self.when == When::Later {
            sleep(Duration::from_secs(1)).await;
        }
        Err(Trapped::new(self.trap).into())
    }
}

impl<R: Send + 'static> Service<R> for Failing {
    type Response = ();
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(match self.when {
            When::Ready => Err(Trapped::new(self.trap).into()),
            _ => Ok(()),
        })
    }

    fn call(&mut self, request: R) -> Self::Future {
        let this = *self;
        Box::pin(async move {
            let _request = request;
            this.fail().await
        })
    }
}

fn all() -> impl Iterator<Item = (Trap, When)> {
    let of = |trap| [When::Ready, When::AtOnce, When::Later].map(|when| (trap, when));
    TRAPS.into_iter().flat_map(of)
}

/// The result, as the client sees it.
#[derive(Debug)]
enum Seen {
    Refused(StatusCode, Option<Status>),
    Session(Transcript),
    /// There was neither an answer nor a session.
    Nothing(#[allow(dead_code, reason = "shown")] String),
}

async fn see(connect: Connect, service: impl HttpService) -> Seen {
    // Every event is formatted.
    logs::capture();
    let connected = timeout(LONG, connect.connect(service)).await;
    match connected.expect("an answer, or none, but in time") {
        Ok(client) => {
            let read = timeout(LONG, client.read_to_end()).await;
            Seen::Session(read.expect("the session ends"))
        }
        Err(error) => match error.downcast::<Refused>() {
            Ok(refused) => Seen::Refused(refused.status(), refused.refusal()),
            Err(error) => Seen::Nothing(error.to_string()),
        },
    }
}

fn is_500(seen: &Seen) -> bool {
    matches!(seen, Seen::Refused(status, Some(text))
        if *status == 500 && text.message() == Some(SERVICE_FAILED))
}

fn is_1011(seen: &Seen) -> bool {
    matches!(seen, Seen::Session(transcript) if transcript.close_code == Some(1011))
}

/// All failures of a test, because each is of a different kind.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn check(&mut self, what: String, is_right: bool, seen: &Seen) {
        if !is_right {
            self.0.push(format!("{what}: {seen:?}"));
        }
    }
}

impl Drop for Wrong {
    fn drop(&mut self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

fn refused_with(seen: &Seen, status: u16) -> bool {
    matches!(seen, Seen::Refused(seen, Some(_)) if *seen == status)
}
