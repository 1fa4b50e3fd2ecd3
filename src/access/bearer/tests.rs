use std::future::{Ready, ready};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL},
};
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

use super::{BearerSubprotocolLayer, token::*};
use crate::{
    protocol::table::CREDENTIAL_PREFIX,
    rejection::{Rejection, RejectionKind},
};

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

/// Returns the headers that reach the inner service, or the rejection.
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

/// Returns the offer that reaches the inner service, and the token.
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
    // Go accepts this too: there are bits after the last byte.
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
        // The prefix is case-sensitive, and nothing may come before it.
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

    // A line that a layer further out has marked stays marked.
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

    // The readiness that the refused request did not use is kept for the next one.
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
