//! From a request to its answer: the guard, the documents, and the doors to the
//! log and to the stack of exec and attach.

use std::borrow::Cow;
use std::convert::Infallible;

use bytes::Bytes;
use http::header::{
    ALLOW, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_PROTOCOL, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use tower::{Service, ServiceExt};
use tower_wsstream::remotecommand::Options;
use tower_wsstream::{BoxError, Status};

use crate::discovery::{self, CONTAINER, Route, Subresource, Target};
use crate::forward;
use crate::guard::Guard;
use crate::pod::Pod;

/// One body for answers of ours and of the stack.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The whole server as a function of a request. `S` is the stack that upgrades
/// exec and attach requests, with the [`Subresource`] in their extensions, `F` is the
/// one of port-forwards, and `L` answers those for the log.
#[derive(Clone)]
pub(crate) struct Api<S, F, L> {
    guard: Guard,
    pod: Pod,
    stack: S,
    forward: F,
    logs: L,
}

impl<S, F, L> Api<S, F, L> {
    pub(crate) fn new(guard: Guard, pod: Pod, stack: S, forward: F, logs: L) -> Self {
        Self {
            guard,
            pod,
            stack,
            forward,
            logs,
        }
    }

    pub(crate) async fn answer<B, C, D>(self, request: Request<B>) -> Response<Body>
    where
        S: Service<Request<B>, Response = Response<C>, Error = Infallible>,
        F: Service<Request<B>, Response = Response<C>, Error = Infallible>,
        C: http_body::Body<Data = Bytes> + Send + 'static,
        C::Error: Into<BoxError>,
        L: Service<Request<B>, Response = Response<D>, Error = Infallible>,
        D: http_body::Body<Data = Bytes> + Send + 'static,
        D::Error: Into<BoxError>,
    {
        let (head, body) = request.into_parts();
        if let Err(status) = self.guard.check(&head) {
            tracing::info!(method = %head.method, path = head.uri.path(), "refused: {status}");
            return refusal(&status);
        }
        match discovery::route(head.uri.path(), self.pod.restarts()) {
            Ok(Route::Document(document)) => {
                read_only(&head.method, || document.to_string().into())
            }
            Ok(Route::Session {
                subresource,
                target,
            }) => {
                let options = match check_session(subresource, target, head.uri.query()) {
                    Ok(options) => options,
                    Err(status) => {
                        tracing::info!(
                            method = %head.method,
                            pod = target.pod,
                            // Escaped: it may say what the request does.
                            why = status.message(),
                            "{subresource} refused"
                        );
                        return refusal(&status);
                    }
                };
                if wants_spdy(&head) {
                    return refuse_spdy(&options);
                }
                let mut request = Request::from_parts(head, body);
                request.extensions_mut().insert(subresource);
                self.upgrade(request, subresource, &options).await
            }
            Ok(Route::Log { target }) => {
                if let Err(status) = target.check() {
                    return refusal(&status);
                }
                let Ok(response) = self.logs.oneshot(Request::from_parts(head, body)).await;
                response.map(boxed)
            }
            Ok(Route::Forward { target }) => {
                let checked = match target.check() {
                    Ok(()) if wants_spdy(&head) => Err(forward::no_spdy()),
                    checked => checked,
                };
                match checked {
                    Ok(()) => self.forward(Request::from_parts(head, body)).await,
                    Err(status) => {
                        tracing::info!(
                            method = %head.method,
                            pod = target.pod,
                            "portforward refused: {status}"
                        );
                        refusal(&status)
                    }
                }
            }
            Err(status) => {
                tracing::debug!(method = %head.method, path = head.uri.path(), "{status}");
                refusal(&status)
            }
        }
    }

    async fn forward<B, C>(self, request: Request<B>) -> Response<Body>
    where
        F: Service<Request<B>, Response = Response<C>, Error = Infallible>,
        C: http_body::Body<Data = Bytes> + Send + 'static,
        C::Error: Into<BoxError>,
    {
        let Ok(response) = self.forward.oneshot(request).await;
        tracing::info!(status = response.status().as_u16(), "portforward");
        response.map(|body| body.map_err(Into::into).boxed_unsync())
    }

    async fn upgrade<B, C>(
        self,
        request: Request<B>,
        subresource: Subresource,
        options: &Options,
    ) -> Response<Body>
    where
        S: Service<Request<B>, Response = Response<C>, Error = Infallible>,
        C: http_body::Body<Data = Bytes> + Send + 'static,
        C::Error: Into<BoxError>,
    {
        let upgraded = match *request.method() {
            // Over HTTP/2 the answer to an extended CONNECT has no code of its own.
            Method::CONNECT => StatusCode::OK,
            _ => StatusCode::SWITCHING_PROTOCOLS,
        };
        let Ok(response) = self.stack.oneshot(request).await;
        if response.status() == upgraded {
            // The one selected, not those offered: an offer can hold a credential.
            // Of the command only its name, for the same reason.
            let subprotocol = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
            tracing::info!(
                subprotocol = subprotocol
                    .and_then(|name| name.to_str().ok())
                    .unwrap_or_default(),
                program = &*program(options),
                tty = options.tty,
                "{subresource}"
            );
        } else {
            tracing::info!(
                status = response.status().as_u16(),
                "{subresource} not upgraded"
            );
        }
        response.map(boxed)
    }
}

fn boxed<C>(body: C) -> Body
where
    C: http_body::Body<Data = Bytes> + Send + 'static,
    C::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// What a real server checks before it asks a container for anything.
fn check_session(
    subresource: Subresource,
    target: Target<'_>,
    query: Option<&str>,
) -> Result<Options, Status> {
    target.check()?;
    let options = Options::from_query(query.unwrap_or_default())
        .map_err(|rejection| bad_request(rejection.to_string()))?;
    if let Some(container) = options
        .container
        .as_deref()
        .filter(|&name| !name.is_empty() && name != CONTAINER)
    {
        return Err(bad_request(format!(
            "container {container} is not valid for pod {}",
            target.pod
        )));
    }
    if subresource == Subresource::Exec && options.command.is_empty() {
        return Err(bad_request(
            "you must specify at least one command for the container".into(),
        ));
    }
    Ok(options)
}

/// kubectl's fallback when its WebSocket was refused. It prints the answer to
/// this request and not to the first one.
fn wants_spdy(head: &Parts) -> bool {
    head.method == Method::POST
        && head
            .headers
            .get_all(UPGRADE)
            .iter()
            .any(|line| line.as_bytes().eq_ignore_ascii_case(b"SPDY/3.1"))
}

fn refuse_spdy(options: &Options) -> Response<Body> {
    tracing::info!(program = &*program(options), "SPDY POST refused");
    refusal(&bad_request(
        "this server speaks WebSocket only: use kubectl 1.31 or later, or 1.29 or later with \
         KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true"
            .into(),
    ))
}

/// For the log.
fn program(options: &Options) -> Cow<'_, str> {
    let program = options.command.first();
    program
        .map(|name| name.to_string_lossy())
        .unwrap_or_default()
}

pub(crate) fn bad_request(message: String) -> Status {
    Status::failure("BadRequest", message, 400)
}

/// A document, for those who only want to read it.
fn read_only(method: &Method, document: impl FnOnce() -> Bytes) -> Response<Body> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return json(StatusCode::OK, HeaderMap::new(), document());
    }
    wrong_method()
}

pub(crate) fn wrong_method() -> Response<Body> {
    refusal(&Status::failure(
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
        405,
    ))
}

/// A failure as an answer, with the headers that its code asks for.
pub(crate) fn refusal(status: &Status) -> Response<Body> {
    let code = status
        .code()
        .and_then(|code| StatusCode::from_u16(code).ok());
    let code = code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut headers = HeaderMap::new();
    match code {
        StatusCode::UNAUTHORIZED => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        _ => {}
    }
    json(code, headers, status.to_response_json())
}

fn json(code: StatusCode, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let mut response = Response::new(
        Full::new(body)
            .map_err(|never| match never {})
            .boxed_unsync(),
    );
    *response.status_mut() = code;
    *response.headers_mut() = headers;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::ticker;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Whatever a request says, it is one line of the log.
    #[tokio::test]
    async fn a_refused_request_writes_one_line_of_the_log() {
        let (pod, _keeping) = Pod::start(ticker::argv()).await.unwrap();
        let never = tower::service_fn(|_: Request<()>| {
            std::future::ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
        });
        let api = Api::new(Guard::new(None), pod, never, never, never);
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let request = Request::get(
            "/api/v1/namespaces/default/pods/demo/exec?stdout=1&command=id&container=x%0a2026-01-01T00:00:00Z%20%20INFO%20forged",
        )
        .header("host", "localhost")
        .body(())
        .unwrap();
        assert_eq!(api.answer(request).await.status(), 400);
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.lines().count(), 1, "{log}");
    }
}
