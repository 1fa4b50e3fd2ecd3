use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{
    Request, Response,
    header::{self, HeaderName, HeaderValue},
};
use http_body::Body;
use hyper::{
    body::Incoming,
    service::{Service as HyperService, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest};
use tower_service::Service;

use super::{Client, Refused, client::Opened, limit::CallLimit, server::Server, stream::Stream};
use crate::{BoxError, protocol::ChannelProtocolConfig};

/// The default capacity of the in-memory stream in each direction. Like that of a socket, it is
/// larger than a typical message of a test.
const BUFFER: usize = 256 * 1024;

/// The host of every request. It does not matter, because the stream leads to the only server.
const HOST: &str = "localhost";

/// The server's configuration of the selected subprotocol, once the handshake is accepted.
type Selected = Arc<OnceLock<ChannelProtocolConfig>>;

/// A builder for the handshake of a [`Client`].
#[derive(Clone, Debug)]
#[must_use = "a handshake does nothing until `connect`"]
pub struct Connect {
    uri: String,
    offered: Vec<String>,
    headers: Vec<(HeaderName, String)>,
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
    /// Creates a handshake for this path and query.
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

    /// Offers a subprotocol, in addition to those offered before.
    pub fn offer(mut self, subprotocol: impl Into<String>) -> Self {
        self.offered.push(subprotocol.into());
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sets how many bytes the stream holds in each direction. Default 256 KiB.
    ///
    /// With a small buffer, both sides wait often, and the buffer is soon full if one of them does
    /// not read. Over HTTP/2, this is also the window of the stream.
    pub fn buffer(mut self, bytes: usize) -> Self {
        self.buffer = bytes;
        self
    }

    /// Sets how long this handshake, and each call of the client, may take. Default 24 h of tokio's
    /// time; `None` for no limit.
    ///
    /// Without a limit, a test with paused time that waits for something that never arrives would
    /// run forever, because the session's Pings keep the clock moving. With this limit, it fails
    /// after a moment. The default is longer than the idle timeouts that tests wait for. Set a
    /// shorter one if time is not paused.
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

    /// Uses HTTP/2, with an extended CONNECT (RFC 8441), instead of HTTP/1.1.
    ///
    /// Each client has its own connection.
    #[cfg(feature = "http2")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http2")))]
    pub fn http2(mut self) -> Self {
        self.http = Http::Two;
        self
    }

    /// Makes the handshake with a service, which hyper serves.
    ///
    /// # Errors
    /// Fails with [`Refused`] if the status of the answer is not 101, or not 200 over HTTP/2. Fails
    /// with another error if the path or a header cannot be sent, if the connection is lost, or if
    /// there is no answer within the [call timeout](Self::call_timeout).
    ///
    /// # Cancel safety
    /// If the future is dropped, the connection is lost, as with a client that gives up.
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
        let request = self.request()?;
        let selected = Selected::default();
        let service = watch(service, Arc::clone(&selected));
        let opening = async {
            match http {
                Http::One => http1(service, request, buffer).await,
                #[cfg(feature = "http2")]
                Http::Two => super::http2::connect(service, request, buffer).await,
            }
        };
        let opened = limit
            .of(opening, "no answer to the handshake arrived")
            .await??;
        Ok(Client::new(opened, selected.get(), limit))
    }

    fn request(self) -> Result<Request<()>, BoxError> {
        let path = self.uri;
        let mut request = format!("ws://{HOST}{path}")
            .into_client_request()
            .map_err(|error| format!("the path {path:?} cannot be requested: {error}"))?;
        if request.uri().host() != Some(HOST) {
            return Err(format!("the path {path:?} does not begin with a slash").into());
        }
        let headers = request.headers_mut();
        if !self.offered.is_empty() {
            let offered = value(header::SEC_WEBSOCKET_PROTOCOL, &self.offered.join(", "))?;
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
        }
        for (name, text) in self.headers {
            headers.append(name.clone(), value(name, &text)?);
        }
        Ok(request)
    }
}

/// Converts the value of a header. The error contains only the name, because the value may be a
/// credential.
fn value(name: HeaderName, text: &str) -> Result<HeaderValue, BoxError> {
    HeaderValue::from_str(text)
        .map_err(|error| format!("the value of the header {name} cannot be sent: {error}").into())
}

/// Wraps a service, and stores the subprotocol that an accepted handshake has selected.
fn watch<S, B>(
    service: S,
    selected: Selected,
) -> impl HyperService<
    Request<Incoming>,
    Response = Response<B>,
    Error = S::Error,
    Future: Send + 'static,
> + Send
+ 'static
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body,
{
    let service = TowerToHyperService::new(service);
    service_fn(move |request| {
        let answer = service.call(request);
        let selected = Arc::clone(&selected);
        async move {
            let answer = answer.await?;
            if let Some(config) = answer.extensions().get::<ChannelProtocolConfig>() {
                // Nothing was stored before, because a client sends only one request.
                let _ = selected.set(config.clone());
            }
            Ok(answer)
        }
    })
}

async fn http1<S, B>(service: S, request: Request<()>, buffer: usize) -> Result<Opened, BoxError>
where
    S: HyperService<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let (near, far) = tokio::io::duplex(buffer);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(far), service)
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
