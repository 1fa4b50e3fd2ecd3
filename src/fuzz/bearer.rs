use std::{
    future::{Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
};

use http::{HeaderMap, Request, Response};
use tower_layer::Layer as _;
use tower_service::Service;

use super::{
    handshake::{SECRET, bytes_of},
    head::Head,
};
use crate::{
    BoxError, Rejection, access::BearerSubprotocolLayer, body::NoBody,
    protocol::table::CREDENTIAL_PREFIX,
};

const OFFER: &str = "sec-websocket-protocol";

/// Passes a head, which is a request line and headers, through the layer that moves a token.
pub fn bearer(input: &[u8]) {
    let head = Head::read(input);
    match (passed(head.request.clone()), expected(&head)) {
        (Ok(headers), Ok(expected)) => check(&head, &headers, expected),
        (Err((code, text)), Err(expected)) => {
            assert_eq!(code, expected);
            let holds_secret = head.list(OFFER).iter().any(|offer| {
                offer.starts_with(CREDENTIAL_PREFIX.as_bytes())
                    && String::from_utf8_lossy(offer).contains(SECRET)
            });
            assert!(!holds_secret || !text.contains(SECRET) && !text.contains("hunter2"));
        }
        (passed, expected) => panic!("{passed:?}, but expected {expected:?}"),
    }
}

/// An inner service that keeps the headers of its request.
struct Inner(Option<HeaderMap>);

impl Service<Request<()>> for Inner {
    type Response = Response<NoBody>;
    type Error = BoxError;
    type Future = Ready<Result<Response<NoBody>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        self.0 = Some(request.into_parts().0.headers);
        ready(Err("passed".into()))
    }
}

/// Returns the headers that reach the inner service, or the code and the text of the refusal.
fn passed(request: Request<()>) -> Result<HeaderMap, (u16, String)> {
    let mut service = BearerSubprotocolLayer::new().layer(Inner(None));
    let answer = pin!(service.call(request));
    let Poll::Ready(answer) = answer.poll(&mut Context::from_waker(Waker::noop())) else {
        unreachable!("neither a refusal nor the inner service waits");
    };
    match (answer, service.into_inner().0) {
        (Err(_), Some(headers)) => Ok(headers),
        (Ok(answer), None) => {
            let rejection = answer.extensions().get::<Rejection>();
            assert_eq!(rejection.map(Rejection::status), Some(answer.status()));
            let text = format!("{answer:?} {rejection:?}");
            let code = answer.status().as_u16();
            let body = bytes_of(answer.into_body());
            Err((code, text + &String::from_utf8_lossy(&body)))
        }
        (answer, headers) => panic!("refused and passed: {answer:?} {headers:?}"),
    }
}

/// Returns the token and the offers that remain, or the code of the refusal. There is no token if
/// nothing is to be changed.
fn expected(head: &Head) -> Result<(Option<String>, Vec<&[u8]>), u16> {
    let offers = head.list(OFFER);
    let is_entry = |offer: &&[u8]| offer.starts_with(CREDENTIAL_PREFIX.as_bytes());
    let (entries, others): (Vec<_>, Vec<_>) = offers.iter().copied().partition(is_entry);
    if !head.asks_for_websocket() || entries.is_empty() {
        return Ok((None, offers));
    }
    let [entry] = entries[..] else {
        return Err(401);
    };
    if head.lines.iter().any(|(name, _)| name == "authorization") {
        return Err(400);
    }
    let token = base64url(&entry[CREDENTIAL_PREFIX.len()..]).ok_or(401_u16)?;
    let token = String::from_utf8(token).map_err(|_| 401_u16)?;
    let splits = |char: char| char.is_ascii_control() || char == ' ';
    if token.is_empty() || token.contains(splits) || others.is_empty() {
        return Err(401);
    }
    Ok((Some(token), others))
}

/// Decodes base64url without padding (RFC 4648, 5). The bits behind the last byte do not matter.
fn base64url(text: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for symbol in text {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            plain.push((bits >> count) as u8);
        }
    }
    (text.len() % 4 != 1).then_some(plain)
}

fn check(head: &Head, headers: &HeaderMap, (token, offers): (Option<String>, Vec<&[u8]>)) {
    let has_token = token.is_some();
    if let Some(token) = token {
        let [value] = headers.get_all("authorization").iter().collect::<Vec<_>>()[..] else {
            panic!("there is one header for the token");
        };
        assert_eq!(value.as_bytes(), format!("Bearer {token}").as_bytes());
        assert!(value.is_sensitive());
    }
    let mut passed = Vec::new();
    for line in headers.get_all(OFFER) {
        for member in line
            .as_bytes()
            .split(|&byte| byte == b',')
            .map(<[u8]>::trim_ascii)
        {
            let lower = String::from_utf8_lossy(member).to_ascii_lowercase();
            assert!(line.is_sensitive() || !lower.starts_with(CREDENTIAL_PREFIX));
            passed.extend(Some(member).filter(|member| !member.is_empty()));
        }
    }
    assert_eq!(passed, offers);
    // All other headers are as they were, each in its order.
    let is_other = |name: &str| !(name == OFFER || has_token && name == "authorization");
    let other =
        |(name, value): &(String, Vec<u8>)| is_other(name).then(|| (name.clone(), value.clone()));
    let mut before: Vec<_> = head.lines.iter().filter_map(other).collect();
    let after = headers.iter().filter(|(name, _)| is_other(name.as_str()));
    let mut after: Vec<_> = after
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect();
    before.sort_by(|(a, _), (b, _)| a.cmp(b));
    after.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert_eq!(after, before);
    if !has_token {
        let lines = |value: &http::HeaderValue| value.as_bytes().to_vec();
        let before: Vec<_> = head
            .request
            .headers()
            .get_all(OFFER)
            .iter()
            .map(lines)
            .collect();
        let after: Vec<_> = headers.get_all(OFFER).iter().map(lines).collect();
        assert_eq!(
            after, before,
            "a line is changed only if it holds the entry"
        );
    }
}
