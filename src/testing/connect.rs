use std::time::Duration;

use http::{Request, Response, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest};
use tower_layer::Layer as _;
use tower_service::Service;

use super::{Client, Refused, client::Opened, limit::CallLimit, server::Server, stream::Stream};
use crate::{BoxError, policy::PolicyLayer, told::Told};

/// What the in-memory stream holds in each direction, unless set: more than
/// any one message of a test, as a socket would.
const BUFFER: usize = 256 * 1024;

/// A handshake to be made.
#[derive(Clone, Debug)]
#[must_use = "a handshake does nothing until `connect`"]
pub struct Connect {
    uri: String,
    offered: Vec<String>,
    headers: Vec<(header::HeaderName, String)>,
    buffer: usize,
    http: Http,
    limit: CallLimit,
}

#[derive(Clone, Copy, Debug)]
enum Http {
    One,
    #[cfg(feature = "http2")]
    Two,
}

impl Connect {
    /// A handshake for this path and query.
    pub fn to(path: impl Into<String>) -> Self {
        Self {
            uri: path.into(),
            offered: Vec::new(),
            headers: Vec::new(),
            buffer: BUFFER,
            http: Http::One,
            limit: CallLimit::default(),
        }
    }

    /// Offers a subprotocol, after those offered before.
    pub fn offer(mut self, subprotocol: impl Into<String>) -> Self {
        self.offered.push(subprotocol.into());
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: header::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sets how many bytes the stream holds in each direction; default 256 KiB.
    ///
    /// A small one makes both sides wait often, and is soon full when one of them does
    /// not read. Over HTTP/2 it is the window of the stream as well.
    pub fn buffer(mut self, bytes: usize) -> Self {
        self.buffer = bytes;
        self
    }

    /// Sets how long one call may take, this handshake's and each of the client's; `None`
    /// for any time. Default 24 h of tokio's time.
    ///
    /// A test with paused time that waits for what never comes would run for ever: the
    /// session's Pings keep the clock moving, so that the runtime is never idle. With this
    /// it fails after a moment. The default is longer than the idle timeouts
    /// that tests wait for; where time is not paused, set less.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_wsstream::testing::Connect;
    ///
    /// let connect = Connect::to("/exec?command=id&stdout=1").call_timeout(Duration::from_secs(5));
    /// # let _ = connect;
    /// ```
    pub fn call_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.limit = CallLimit(timeout.into());
        self
    }

    /// Makes the handshake over HTTP/2, by extended CONNECT (RFC 8441); default HTTP/1.1.
    ///
    /// Each client has a connection of its own.
    #[cfg(feature = "http2")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http2")))]
    pub fn http2(mut self) -> Self {
        self.http = Http::Two;
        self
    }

    /// Makes the handshake with a service, served by hyper.
    ///
    /// # Errors
    /// [`Refused`] where the answer is no upgrade: not 101, or over HTTP/2 not 200. Else
    /// what went wrong, no answer within the [call timeout](Self::call_timeout) included.
    ///
    /// # Cancel safety
    /// Dropped before it is done it loses the connection, as a client that gives up.
    pub async fn connect<S, B>(self, service: S) -> Result<Client, BoxError>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let Self {
            http,
            buffer,
            limit,
            ..
        } = self;
        let told = Told::default();
        let service = PolicyLayer::new(told.clone()).layer(service);
        let request = self.request()?;
        let opening = async {
            match http {
                Http::One => http1(service, request, buffer).await,
                #[cfg(feature = "http2")]
                Http::Two => super::http2::connect(service, request, buffer).await,
            }
        };
        let opened = limit
            .of(opening, "no answer to the handshake came")
            .await??;
        Ok(Client::new(opened, &told, limit))
    }

    fn request(self) -> Result<Request<()>, BoxError> {
        let mut request = format!("ws://localhost{}", self.uri).into_client_request()?;
        let headers = request.headers_mut();
        if !self.offered.is_empty() {
            let offered = self.offered.join(", ").parse()?;
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
        }
        for (name, value) in self.headers {
            headers.append(name, value.parse()?);
        }
        Ok(request)
    }
}

async fn http1<S, B>(service: S, request: Request<()>, buffer: usize) -> Result<Opened, BoxError>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let (near, far) = tokio::io::duplex(buffer);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(far), TowerToHyperService::new(service))
        .with_upgrades();
    let server = Server::run(connection);
    match tokio_tungstenite::client_async(request, Stream::Http1(near)).await {
        Ok((socket, answer)) => Ok(Opened {
            socket,
            headers: answer.into_parts().0.headers,
            server,
        }),
        Err(tungstenite::Error::Http(answer)) => Err(Refused::new(*answer).into()),
        Err(error) => Err(error.into()),
    }
}
