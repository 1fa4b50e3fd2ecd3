//! Where a browser's token goes.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use base64::{
    Engine as _, alphabet,
    engine::general_purpose::{GeneralPurpose, NO_PAD},
};
use http::{
    Request, Response,
    header::{AUTHORIZATION, HeaderMap, HeaderValue, MaxSizeReached, SEC_WEBSOCKET_PROTOCOL},
};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    body::ResponseBody,
    handshake::{
        headers::{members, members_of},
        is_websocket_request,
        negotiate::is_like_a_credential,
    },
    protocol::table::CREDENTIAL_PREFIX,
    rejection::Rejection,
};

/// As Go's `RawURLEncoding`: no padding, and no look at the bits behind the last byte.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    NO_PAD.with_decode_allow_trailing_bits(true),
);

const TWO_ENTRIES: &str =
    "more than one of the offered WebSocket subprotocols is a bearer token: offer one";
const TWO_CREDENTIALS: &str = "a bearer token is among the offered WebSocket subprotocols and there is an Authorization header too: send one of the two";
const NOT_BASE64: &str = "the bearer token among the offered WebSocket subprotocols is not base64url: encode it so, and leave out the padding";
const NOT_UTF8: &str = "the bearer token among the offered WebSocket subprotocols is not UTF-8";
const EMPTY: &str =
    "the bearer token among the offered WebSocket subprotocols is empty: log in again";
const NO_HEADER_VALUE: &str = "the bearer token among the offered WebSocket subprotocols holds a space or a control character: take a token without";
const ALONE: &str = "only a bearer token is among the offered WebSocket subprotocols: offer the one to speak beside it";
const TOO_MANY_HEADERS: &str = "the request has too many headers: send fewer";

/// Turns the bearer token that a browser offers as a subprotocol into an
/// `Authorization` header.
///
/// A page cannot set headers on a WebSocket. Kubernetes lets it offer its token beside
/// the subprotocols, as an entry `base64url.bearer.authorization.k8s.io.` with the
/// token in base64url behind it, without padding:
///
/// ```js
/// new WebSocket(url, ["v5.channel.k8s.io", "base64url.bearer.authorization.k8s.io." + base64url(token)])
/// ```
///
/// This layer takes the entry out of the offer and puts `Authorization: Bearer <token>`
/// in, marked as sensitive: so a log of the headers shows neither. Whether the token is a
/// good one is for authentication to say, which sees nothing but that header.
///
/// **It belongs outside of everything that logs or authenticates**, and over a
/// `Service<http::Request<B>>`: what is further out still sees the token. Where that
/// cannot be, mark `Sec-WebSocket-Protocol` sensitive with tower-http's
/// `SetSensitiveRequestHeadersLayer` in front of it all, as one does for the
/// `Authorization` of other clients.
///
/// Only requests for a WebSocket are looked at, all lines of the header; the other
/// entries stay in their order and in their lines. A request without an entry passes as it
/// is. The prefix is compared with its case, as kube-apiserver does; a line in which
/// something begins like it, in any case and in any request, is marked sensitive and stays.
///
/// # Refusals
///
/// The rules are kube-apiserver's, and so is the code: 401, with a
/// [`Status`](crate::Status), for two entries, one that is no base64url or no UTF-8, and one
/// that is the whole offer, because then nothing would be left to select. Its text never
/// repeats the entry, and the inner service is not called. Stricter than kube-apiserver:
///
/// * An empty token is a 401; kube-apiserver takes it for none, and leaves the entry there.
/// * So is a token with a space or a control character, which a header cannot hold or
///   which would end the token there. Beyond ASCII it goes into the header as UTF-8, where
///   [`HeaderValue::to_str`] does not show it.
/// * With an `Authorization` header beside the entry it is a 400 (RFC 6750, 3.1):
///   else it would depend on the layers inside which of the two counts.
///
/// # Examples
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_http::trace::TraceLayer;
/// use tower_wsstream::{
///     BoxError, WsStreamLayer,
///     access::BearerSubprotocolLayer,
///     remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
/// };
///
/// // The path alone: the query of an exec holds its command.
/// let trace = TraceLayer::new_for_http().make_span_with(|request: &http::Request<_>| {
///     tracing::info_span!("request", method = %request.method(), path = request.uri().path())
/// });
/// let exec = ServiceBuilder::new()
///     .layer(BearerSubprotocolLayer::new())
///     .layer(trace)
///     // Here authentication, by the Authorization header alone.
///     .layer(WsStreamLayer::new(Protocols::default()))
///     .layer(RemoteCommandLayer::new())
///     .service_fn(async |_: RemoteCommand| Ok::<_, BoxError>(ExitStatus::success()));
/// # fn serves<S: tower::Service<http::Request<String>>>(_: S) {}
/// # serves(exec);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct BearerSubprotocolLayer {}

impl BearerSubprotocolLayer {
    /// The layer; it has no knobs.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S> Layer<S> for BearerSubprotocolLayer {
    type Service = BearerSubprotocol<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BearerSubprotocol { inner }
    }
}

/// The service that [`BearerSubprotocolLayer`] makes.
///
/// Its readiness is that of the inner service; a refusal is an answer, and no error.
#[derive(Clone, Copy)]
pub struct BearerSubprotocol<S> {
    inner: S,
}

impl<S> BearerSubprotocol<S> {
    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service, to be changed for the requests to come.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service again.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, FB> Service<Request<B>> for BearerSubprotocol<S>
where
    S: Service<Request<B>, Response = Response<FB>>,
{
    type Response = Response<ResponseBody<FB>>;
    type Error = S::Error;
    type Future = BearerSubprotocolFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let moved = if is_websocket_request(&request) {
            move_token(request.headers_mut())
        } else {
            Ok(())
        };
        hide_lookalikes(request.headers_mut());
        let kind = match moved {
            Ok(()) => Kind::Passed {
                future: self.inner.call(request),
            },
            Err(rejection) => Kind::Refused {
                rejection: Some(rejection),
            },
        };
        BearerSubprotocolFuture { kind }
    }
}

impl<S> fmt::Debug for BearerSubprotocol<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerSubprotocol").finish_non_exhaustive()
    }
}

pin_project! {
    /// The answer of the service inside of a [`BearerSubprotocol`], or a refusal.
    #[must_use = "futures do nothing unless polled"]
    pub struct BearerSubprotocolFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<F> {
        Passed { #[pin] future: F },
        Refused { rejection: Option<Rejection> },
    }
}

impl<F, B, E> Future for BearerSubprotocolFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Passed { future } => {
                let response = ready!(future.poll(cx))?;
                Poll::Ready(Ok(response.map(ResponseBody::inner)))
            }
            KindProj::Refused { rejection } => match rejection.take() {
                Some(rejection) => {
                    tracing::debug!(%rejection, "bearer token refused");
                    Poll::Ready(Ok(rejection.into_response()))
                }
                None => panic!("polled after it was ready"),
            },
        }
    }
}

impl<F> fmt::Debug for BearerSubprotocolFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerSubprotocolFuture")
            .finish_non_exhaustive()
    }
}

/// Takes the entry out of the offer, and puts the token where it is looked for.
fn move_token(headers: &mut HeaderMap) -> Result<(), Rejection> {
    let entry = {
        let offered = members(headers, &SEC_WEBSOCKET_PROTOCOL);
        let mut entries = offered.filter(|member| is_entry(member));
        match (entries.next(), entries.next()) {
            (None, _) => return Ok(()),
            (Some(entry), None) => entry,
            (Some(_), Some(_)) => return Err(Rejection::unauthorized(TWO_ENTRIES)),
        }
    };
    if headers.contains_key(AUTHORIZATION) {
        return Err(Rejection::bad_request(TWO_CREDENTIALS));
    }
    let authorization = authorization(&entry[CREDENTIAL_PREFIX.len()..])?;
    let rest = rest(headers);
    if rest.is_empty() {
        return Err(Rejection::unauthorized(ALONE));
    }
    put(headers, authorization, rest).map_err(|_| Rejection::bad_request(TOO_MANY_HEADERS))
}

fn is_entry(member: &[u8]) -> bool {
    member.starts_with(CREDENTIAL_PREFIX.as_bytes())
}

/// The header that says the same as the token of an entry.
fn authorization(encoded: &[u8]) -> Result<HeaderValue, Rejection> {
    let refused = Rejection::unauthorized;
    let token = BASE64URL.decode(encoded).map_err(|_| refused(NOT_BASE64))?;
    let token = String::from_utf8(token).map_err(|_| refused(NOT_UTF8))?;
    if token.is_empty() {
        return Err(refused(EMPTY));
    }
    // A header could hold a space, but the token would end there for who reads it.
    if token
        .bytes()
        .any(|byte| byte == b' ' || byte.is_ascii_control())
    {
        return Err(refused(NO_HEADER_VALUE));
    }
    let mut value =
        HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| refused(NO_HEADER_VALUE))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The lines of the offer without the entry; one that has nothing else is no more.
fn rest(headers: &HeaderMap) -> Vec<HeaderValue> {
    let mut rest = Vec::new();
    for line in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        if !members_of(line).any(is_entry) {
            // Also one without any member: it stays as it came.
            rest.push(line.clone());
            continue;
        }
        let pieces = line.as_bytes().split(|byte| *byte == b',');
        let others: Vec<_> = pieces
            .filter(|piece| !is_entry(piece.trim_ascii()))
            .collect();
        // What was a header value is one in parts.
        if let Ok(mut others) = HeaderValue::from_bytes(others.join(&b',').trim_ascii())
            && members_of(&others).next().is_some()
        {
            others.set_sensitive(line.is_sensitive());
            rest.push(others);
        }
    }
    // An offer of nothing but commas is none.
    if rest.iter().all(|line| members_of(line).next().is_none()) {
        rest.clear();
    }
    rest
}

/// A map has a largest size, and panics beyond it if not asked.
fn put(
    headers: &mut HeaderMap,
    authorization: HeaderValue,
    offer: Vec<HeaderValue>,
) -> Result<(), MaxSizeReached> {
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    for line in offer {
        headers.try_append(SEC_WEBSOCKET_PROTOCOL, line)?;
    }
    headers.try_insert(AUTHORIZATION, authorization)?;
    Ok(())
}

/// What was meant as an entry and is none may hold a token all the same.
fn hide_lookalikes(headers: &mut HeaderMap) {
    for (name, line) in headers.iter_mut() {
        if *name == SEC_WEBSOCKET_PROTOCOL && members_of(line).any(is_like_a_credential) {
            line.set_sensitive(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};

    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use tokio_test::{assert_pending, assert_ready_ok, task};
    use tower::{BoxError, ServiceExt, service_fn};

    use super::*;
    use crate::rejection::RejectionKind;

    fn entry(token: impl AsRef<[u8]>) -> String {
        format!("{CREDENTIAL_PREFIX}{}", URL_SAFE_NO_PAD.encode(token))
    }

    fn request(lines: &[&str]) -> Request<()> {
        let upgrade = Request::get("/")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket");
        lines
            .iter()
            .fold(upgrade, |request, line| {
                request.header(SEC_WEBSOCKET_PROTOCOL, line.as_bytes())
            })
            .body(())
            .unwrap()
    }

    /// The head that came through, or the refusal.
    async fn passed(request: Request<()>) -> Result<HeaderMap, Rejection> {
        fn echo(request: Request<()>) -> Ready<Result<Response<()>, BoxError>> {
            let mut response = Response::new(());
            *response.headers_mut() = request.into_parts().0.headers;
            ready(Ok(response))
        }
        let service = BearerSubprotocolLayer::new().layer(service_fn(echo));
        let answer = service.oneshot(request).await.unwrap();
        match answer.extensions().get::<Rejection>() {
            Some(rejection) => {
                assert_eq!(answer.status(), rejection.status());
                Err(rejection.clone())
            }
            None => Ok(answer.into_parts().0.headers),
        }
    }

    fn lines<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
        let lines = headers.get_all(name).into_iter();
        lines.map(HeaderValue::as_bytes).collect()
    }

    /// What is offered of these lines to the inner service, and the token.
    async fn offered(offer: &[&str]) -> (Vec<String>, String) {
        let headers = passed(request(offer)).await.unwrap();
        let text = |line: &[u8]| String::from_utf8(line.to_vec()).unwrap();
        let offered = lines(&headers, "sec-websocket-protocol");
        let [authorization] = lines(&headers, "authorization")[..] else {
            panic!("{offer:?}: one header");
        };
        assert!(headers[AUTHORIZATION].is_sensitive());
        let authorization = text(authorization);
        let token = authorization.strip_prefix("Bearer ").unwrap();
        (offered.into_iter().map(text).collect(), token.to_owned())
    }

    async fn refused(request: Request<()>, code: u16, message: &str) {
        let rejection = passed(request).await.unwrap_err();
        assert_eq!(rejection.status(), code, "{rejection}");
        assert_eq!(rejection.message(), message);
        let kind = match code {
            400 => RejectionKind::BadRequest,
            _ => RejectionKind::Unauthorized,
        };
        assert_eq!(rejection.kind(), kind);
    }

    #[tokio::test]
    async fn an_entry_becomes_a_sensitive_header_and_the_others_stay() {
        let token = &*entry("token");
        let with = |offer: &str| offer.replace('T', token);
        for (offer, expected) in [
            (&["T, a"][..], &["a"][..]),
            (&["a, T"], &["a"]),
            (&["a,T,b"], &["a,b"]),
            (&["a ,\tT , b, c"], &["a , b, c"]),
            (&["T", "a, b"], &["a, b"]),
            (&["a, b", "T"], &["a, b"]),
            (&["b", "T,a", "c"], &["b", "a", "c"]),
            (&["b, a", "  T  ", "d, c"], &["b, a", "d, c"]),
            (&["T,,", "a"], &["a"]),
            (&["", "T, a", "b,"], &["", "a", "b,"]),
        ] {
            let offer: Vec<_> = offer.iter().map(|line| with(line)).collect();
            let offer: Vec<_> = offer.iter().map(|line| &**line).collect();
            let (rest, token) = offered(&offer).await;
            assert_eq!((rest, &*token), (owned(expected), "token"), "{offer:?}");
        }
    }

    fn owned(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[tokio::test]
    async fn tokens_arrive_as_they_were() {
        let long = "x".repeat(8 * 1024);
        for token in ["t", "to", "tok", "a.b-c_d~e+f/g==", "\u{fc}\u{4e16}", &long] {
            let (rest, arrived) = offered(&[&entry(token), "a"]).await;
            assert_eq!((rest, &*arrived), (owned(&["a"]), token));
        }
        // What Go decodes too: bits behind the last byte.
        let (_, arrived) = offered(&[&format!("{CREDENTIAL_PREFIX}YR"), "a"]).await;
        assert_eq!(arrived, "a");
    }

    #[tokio::test]
    async fn what_has_no_entry_is_untouched() {
        let token = &*entry("token");
        let upper = token.replace("k8s", "K8S");
        let inside = format!("x{token}");
        for offer in [
            &[][..],
            &[""],
            &["a"],
            &["undefined", " ,, "],
            &["base64url.bearer.authorization.k8s.io", "a"],
            // Case counts, and nothing may stand before it.
            &[&*upper, "a"],
            &[&*inside, "a"],
        ] {
            let mut request = request(offer);
            request
                .headers_mut()
                .insert(AUTHORIZATION, HeaderValue::from_static("Basic x"));
            let before = request.headers().clone();
            assert_eq!(passed(request).await.unwrap(), before, "{offer:?}");
        }
        let mut alone = request(&[token]);
        alone.headers_mut().remove("upgrade");
        let before = alone.headers().clone();
        assert_eq!(passed(alone).await.unwrap(), before);
    }

    #[tokio::test]
    async fn what_stays_and_may_be_a_token_is_not_shown() {
        let token = entry("token");
        let upper = token.to_ascii_uppercase();
        let headers = passed(request(&["a", &format!("b, {upper}")]))
            .await
            .unwrap();
        let sensitive: Vec<_> = headers
            .get_all(SEC_WEBSOCKET_PROTOCOL)
            .into_iter()
            .map(HeaderValue::is_sensitive)
            .collect();
        assert_eq!(sensitive, [false, true]);

        let mut no_upgrade = request(&[&token]);
        no_upgrade.headers_mut().remove("upgrade");
        let headers = passed(no_upgrade).await.unwrap();
        assert!(headers[SEC_WEBSOCKET_PROTOCOL].is_sensitive());

        // And what somebody further out has hidden stays hidden.
        let mut hidden = request(&[&format!("{token}, a")]);
        let line = hidden.headers_mut().get_mut(SEC_WEBSOCKET_PROTOCOL);
        line.unwrap().set_sensitive(true);
        let headers = passed(hidden).await.unwrap();
        assert_eq!(headers[SEC_WEBSOCKET_PROTOCOL], "a");
        assert!(headers[SEC_WEBSOCKET_PROTOCOL].is_sensitive());
    }

    #[tokio::test]
    async fn two_entries_are_refused() {
        let (one, other) = (&*entry("token"), &*entry("other"));
        for offer in [
            &[&*format!("{one}, {other}, a")][..],
            &[one, "a", other],
            &[one, one, "a"],
            &[one, CREDENTIAL_PREFIX, "a"],
        ] {
            refused(request(offer), 401, TWO_ENTRIES).await;
        }
    }

    #[tokio::test]
    async fn a_bad_encoding_is_refused() {
        for encoded in ["YQ==", "YQ=", "Y", "YQ+/", "Y!Q", "YQ Q", "\u{e9}", "YQ.YQ"] {
            let offer = format!("{CREDENTIAL_PREFIX}{encoded}, a");
            refused(request(&[&offer]), 401, NOT_BASE64).await;
        }
    }

    #[tokio::test]
    async fn what_is_not_utf8_is_refused() {
        for token in [&b"\xff"[..], b"a\xc3", b"\xed\xa0\x80"] {
            refused(request(&[&entry(token), "a"]), 401, NOT_UTF8).await;
        }
    }

    #[tokio::test]
    async fn an_empty_token_is_refused() {
        refused(request(&[CREDENTIAL_PREFIX, "a"]), 401, EMPTY).await;
        refused(request(&[CREDENTIAL_PREFIX]), 401, EMPTY).await;
    }

    #[tokio::test]
    async fn a_token_that_no_header_holds_is_refused() {
        for token in [
            "a\nb",
            "a\r\nX-Admin: 1",
            "\0",
            "a\x7f",
            "a\tb",
            "a b",
            " a",
            "a ",
        ] {
            refused(request(&[&entry(token), "a"]), 401, NO_HEADER_VALUE).await;
        }
    }

    #[tokio::test]
    async fn another_entry_must_remain() {
        let token = &*entry("token");
        for offer in [&[token][..], &[&*format!(" , {token},")], &["", token, ","]] {
            refused(request(offer), 401, ALONE).await;
        }
    }

    #[tokio::test]
    async fn an_authorization_header_beside_the_entry_is_refused() {
        for header in ["Bearer token", "Basic x", ""] {
            let mut request = request(&[&entry("token"), "a"]);
            let header = HeaderValue::from_static(header);
            request.headers_mut().insert(AUTHORIZATION, header);
            refused(request, 400, TWO_CREDENTIALS).await;
        }
    }

    #[tokio::test]
    async fn a_full_header_map_is_refused_and_no_panic() {
        let mut request = request(&[&format!("{}, a", entry("token"))]);
        let headers = request.headers_mut();
        for n in 0.. {
            let name: http::HeaderName = format!("x-{n}").parse().unwrap();
            if headers.try_append(name, HeaderValue::from(n)).is_err() {
                break;
            }
        }
        refused(request, 400, TOO_MANY_HEADERS).await;
    }

    #[tokio::test]
    async fn readiness_is_the_inner_services_and_a_refusal_does_not_call_it() {
        let (mock, mut handle) = tower_test::mock::pair::<Request<()>, Response<()>>();
        let mut service = task::spawn(BearerSubprotocolLayer::new().layer(mock));
        handle.allow(0);
        assert_pending!(service.enter(|cx, mut service| service.poll_ready(cx)));
        handle.allow(1);
        assert!(service.is_woken());
        assert_ready_ok!(service.enter(|cx, mut service| service.poll_ready(cx)));
        let bad = request(&[&entry("token")]);
        let mut refused = task::spawn(service.enter(|_, mut service| service.call(bad)));
        assert_eq!(assert_ready_ok!(refused.poll()).status(), 401);
        assert_pending!(task::spawn(handle.next_request()).poll());

        // What was ready for it is still there for the next.
        let good = request(&[&entry("token"), "a"]);
        let mut passed = task::spawn(service.enter(|_, mut service| service.call(good)));
        assert_pending!(passed.poll());
        let (request, respond) = handle.next_request().await.unwrap();
        assert_eq!(request.headers()[AUTHORIZATION], "Bearer token");
        respond.send_response(Response::new(()));
        assert!(passed.is_woken());
        assert_eq!(assert_ready_ok!(passed.poll()).status(), 200);
    }

    #[tokio::test]
    async fn errors_of_the_inner_service_pass() {
        fn failing(_: Request<()>) -> Ready<Result<Response<()>, std::io::Error>> {
            ready(Err(std::io::ErrorKind::NotFound.into()))
        }
        let service = BearerSubprotocolLayer::new().layer(service_fn(failing));
        let error = service.oneshot(request(&["a"])).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }
}
