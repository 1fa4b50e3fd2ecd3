//! Connections over in-memory streams, in paused time.

use std::future::pending;

use axum::{
    body::{Body, Bytes},
    http::{Method, Version},
    response::Response,
    routing::any,
};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
    ext::Protocol,
};
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_rustls::rustls::server::ResolvesServerCertUsingSni;
use tokio_rustls::rustls::{ServerConfig, crypto::ring};

use super::*;
use crate::limit::{PAUSED, within};

/// The time that the answer to `/slow` takes.
const SLOW: Duration = Duration::from_secs(3600);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

fn router() -> Router {
    let slow = async || {
        sleep(SLOW).await;
        "slow"
    };
    let unread = async |_body: Body| pending::<()>().await;
    let length = async |body: Body| {
        let body = body.collect().await.unwrap().to_bytes();
        body.len().to_string()
    };
    Router::new()
        .route("/slow", any(slow))
        .route("/unread", any(unread))
        .route("/length", any(length))
        .route("/", any(async |version: Version| format!("{version:?}")))
}

impl Connections {
    /// Creates connections of a server that is not stopped.
    pub(crate) fn unstopped(tls: Option<TlsAcceptor>, router: Router) -> Self {
        let running = Box::leak(Box::new(watch::Sender::new(())));
        Self::new(tls, router, running.subscribe())
    }

    /// Returns a client's end, and the task that serves the other.
    fn connect(self) -> (DuplexStream, JoinHandle<()>) {
        let (client, server) = duplex(64 * 1024);
        (client, tokio::spawn(self.serve(server, None)))
    }
}

fn connect(tls: Option<TlsAcceptor>) -> (DuplexStream, JoinHandle<()>) {
    Connections::unstopped(tls, router()).connect()
}

/// A server that has no certificate, so that no handshake with it gets anywhere.
fn tls() -> TlsAcceptor {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
    Arc::new(config).into()
}

async fn http_2(io: DuplexStream) -> http2::SendRequest<Full<Bytes>> {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

fn request(path: &str, length: u32) -> Request<Full<Bytes>> {
    Request::post(format!("http://localhost{path}"))
        .body(Full::from(vec![b'x'; length as usize]))
        .unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_nothing_is_not_waited_for() {
    let settled = [PREFACE, EMPTY_SETTINGS].concat();
    let all: [&[u8]; 4] = [b"", &PREFACE[..10], b"GET / HT", &settled];
    for said in all {
        let (mut client, serving) = connect(None);
        let start = Instant::now();
        client.write_all(said).await.unwrap();
        within(PAUSED, serving).await.unwrap();
        let waited = start.elapsed();
        let more = waited.checked_sub(REQUEST_TIMEOUT);
        let text = String::from_utf8_lossy(said);
        assert!(
            more.is_some_and(|more| more < Duration::from_secs(1)),
            "{waited:?} for {text:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_of_tls_has_a_deadline() {
    let (mut client, serving) = connect(Some(tls()));
    let start = Instant::now();
    // The beginning of a ClientHello, and no more of it.
    client.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
    within(PAUSED, serving).await.unwrap();
    let waited = start.elapsed();
    assert!(
        waited >= HANDSHAKE_TIMEOUT && waited < HANDSHAKE_TIMEOUT + Duration::from_secs(1),
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn both_versions_of_http_are_answered_without_tls() {
    let (client, _serving) = connect(None);
    let (mut http_1, connection) = http1::handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    let asked = Request::get("/").header("host", "localhost");
    let response = http_1.send_request(asked.body(Full::<Bytes>::default()).unwrap());
    assert_eq!(
        text(within(PAUSED, response).await.unwrap()).await,
        "HTTP/1.1"
    );

    let (client, _serving) = connect(None);
    let mut http_2 = http_2(client).await;
    let response = within(PAUSED, http_2.send_request(request("/", 0)))
        .await
        .unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    assert_eq!(text(response).await, "HTTP/2.0");
}

#[tokio::test(start_paused = true)]
async fn extended_connect_is_offered_over_http_2() {
    let (client, _serving) = connect(None);
    let mut http_2 = http_2(client).await;
    // The settings come with the first answer; without them this client would not send the
    // second request.
    within(PAUSED, http_2.send_request(request("/", 0)))
        .await
        .unwrap();
    let mut connect = request("/", 0);
    *connect.method_mut() = Method::CONNECT;
    let protocol = Protocol::from_static("websocket");
    connect.extensions_mut().insert(protocol);
    let response = within(PAUSED, http_2.send_request(connect)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

/// GET / of the host "a", on stream 1 of HTTP/2, with nothing behind its headers.
const REQUEST: &[u8] = &[0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 1, b'a'];

/// It has its answer, and acknowledges nothing, not even the GOAWAY.
#[tokio::test(start_paused = true)]
async fn a_client_that_has_fallen_silent_is_not_waited_for() {
    let http_2 = [PREFACE, EMPTY_SETTINGS, REQUEST].concat();
    let http_1 = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec();
    for said in [http_1, http_2] {
        let (mut client, serving) = connect(None);
        let start = Instant::now();
        client.write_all(&said).await.unwrap();
        within(PAUSED, serving).await.unwrap();
        let waited = start.elapsed();
        assert!(waited <= REQUEST_TIMEOUT * 3, "{waited:?}");
        // It was a request, which has an answer.
        assert!(waited >= REQUEST_TIMEOUT, "{waited:?}");
    }
}

/// A session that lasts for hours is one long answer.
#[tokio::test(start_paused = true)]
async fn an_answer_takes_as_long_as_it_takes_and_nothing_new_begins() {
    let (client, serving) = connect(None);
    let mut http_2 = http_2(client).await;
    let slow = tokio::spawn(http_2.send_request(request("/slow", 0)));
    sleep(REQUEST_TIMEOUT / 2).await;
    // In time, which then begins anew.
    within(PAUSED, http_2.send_request(request("/", 0)))
        .await
        .unwrap();
    sleep(REQUEST_TIMEOUT * 3 / 4).await;
    within(PAUSED, http_2.send_request(request("/", 0)))
        .await
        .unwrap();
    sleep(REQUEST_TIMEOUT * 2).await;
    assert!(
        within(PAUSED, http_2.send_request(request("/", 0)))
            .await
            .is_err()
    );
    let response = within(PAUSED, slow).await.unwrap().unwrap();
    assert_eq!(text(response).await, "slow");
    within(PAUSED, serving).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_answers_and_for_nothing_else() {
    let start = Instant::now();
    let (stopping, stop) = watch::channel(());
    let connect = |tls| Connections::new(tls, router(), stop.clone()).connect();
    let slow = Request::get("/slow").header("host", "localhost");
    let slow = slow.body(Full::<Bytes>::default()).unwrap();

    let (client, slow_1) = connect(None);
    let (mut http_1, connection) = http1::handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    let answer_1 = tokio::spawn(http_1.send_request(slow));
    let (client, slow_2) = connect(None);
    let mut http_2 = http_2(client).await;
    let answer_2 = tokio::spawn(http_2.send_request(request("/slow", 0)));

    let (mut idle, idling) = connect(None);
    idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    // It has its answer, and will not acknowledge the shutdown.
    let (mut deaf, deafness) = connect(None);
    let said = [PREFACE, EMPTY_SETTINGS, REQUEST].concat();
    deaf.write_all(&said).await.unwrap();
    let (mut silent, begun) = connect(None);
    silent.write_all(b"GET / HT").await.unwrap();
    let (_client, silence) = connect(None);
    let (_client, handshake) = connect(Some(tls()));
    // Time moves when nothing else does: all of them wait now.
    sleep(Duration::from_secs(1)).await;

    stopping.send_replace(());
    for serving in [idling, begun, silence, handshake] {
        within(PAUSED, serving).await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }
    within(PAUSED, deafness).await.unwrap();
    assert!(start.elapsed() <= Duration::from_secs(1) + 2 * STOP_GRACE);
    for (answer, serving) in [(answer_1, slow_1), (answer_2, slow_2)] {
        let response = within(PAUSED, answer).await.unwrap().unwrap();
        assert_eq!(text(response).await, "slow");
        within(PAUSED, serving).await.unwrap();
        assert!(start.elapsed() < SLOW + Duration::from_secs(1));
    }
    assert!(
        within(PAUSED, http_2.send_request(request("/", 0)))
            .await
            .is_err()
    );
    drop(stop);
    within(PAUSED, stopping.closed()).await;
}

#[tokio::test(start_paused = true)]
async fn stalled_streams_leave_the_connection_to_others() {
    let (client, _serving) = connect(None);
    let mut http_2 = http_2(client).await;
    // A first answer, so that the client knows our windows.
    within(PAUSED, http_2.send_request(request("/", 0)))
        .await
        .unwrap();
    for _ in 1..MAX_STREAMS {
        tokio::spawn(http_2.send_request(request("/unread", 2 * STREAM_WINDOW)));
    }
    // Time moves when nothing else does, so everything that could be sent has been.
    sleep(Duration::from_secs(1)).await;
    let response = within(
        PAUSED,
        http_2.send_request(request("/length", 4 * STREAM_WINDOW)),
    );
    let response = response.await.unwrap();
    assert_eq!(text(response).await, (4 * STREAM_WINDOW).to_string());
}

/// The library needs this for its fast path.
#[tokio::test]
async fn an_upgraded_tcp_stream_can_be_taken_out() {
    let (found, taken) = oneshot::channel();
    let found = Arc::new(std::sync::Mutex::new(Some(found)));
    let router = Router::new().fallback(async move |request: Request| {
        let found = found.lock().unwrap().take().unwrap();
        tokio::spawn(async move {
            let upgraded = hyper::upgrade::on(request).await.unwrap();
            let parts = auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded);
            found.send(parts.map(drop).is_ok()).unwrap();
        });
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "upgrade")
            .header("upgrade", "test");
        response.body(Body::empty()).unwrap()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (server, _) = listener.accept().await.unwrap();
    tokio::spawn(Connections::unstopped(None, router).serve(server, None));
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n")
        .await
        .unwrap();
    let mut head = Vec::new();
    client.read_to_end(&mut head).await.unwrap();
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    assert!(taken.await.unwrap());
}
