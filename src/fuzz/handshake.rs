use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Response, Version, request::Parts};

use super::head::Head;
use crate::{
    ChannelProtocols, Rejection, Status,
    access::UpgradeIntent,
    body::{NoBody, ResponseBody},
    handshake::{
        accept::accept_response,
        detect::{Upgrade, detect_either},
        negotiate, spdy,
        validate::{Challenge, validate},
    },
    protocol::table::CREDENTIAL_PREFIX,
    remotecommand::{Options, Protocols},
};

/// The text that stands for a credential. No answer repeats it.
pub(super) const SECRET: &str = "aHVudGVyMg";

/// Answers the head of a request, which is a line `GET /exec?command=ls HTTP/1.1` and headers.
pub fn handshake(input: &[u8]) {
    let head = Head::read(input);
    let upgrade = detect_either(&head.request);
    assert_eq!(upgrade, expected_upgrade(&head));
    check_intent(&head, upgrade);
    let Some(upgrade) = upgrade else { return };

    let (parts, ()) = head.request.clone().into_parts();
    let table = table(parts.uri.query());
    let answer = answer(upgrade, &parts, &table);
    let (status, selected) = expected(upgrade, &head, &table);
    assert_eq!(answer.status(), status);
    match selected {
        Some(selected) => check_accepted(upgrade, answer, &selected),
        None => check_refused(&head, input, answer),
    }
}

/// Returns the subprotocols of exec, with the channels that the query asks for, or with output alone.
fn table(query: Option<&str>) -> ChannelProtocols {
    let options = Options::from_query(query.unwrap_or_default());
    let options = options.or_else(|_| Options::from_query("stdout=1"));
    Protocols::default().for_options(&options.expect("the second query is valid"))
}

/// Takes the steps of `opening`, in its order.
fn answer(
    upgrade: Upgrade,
    head: &Parts,
    table: &ChannelProtocols,
) -> Response<ResponseBody<NoBody>> {
    let accept = || -> Result<_, Rejection> {
        let challenge = validate(upgrade, head)?;
        let selected = match challenge {
            Challenge::Spdy => {
                let offered = spdy::offered(&head.headers)?;
                spdy::select(offered, table.over_spdy())?.0.to_owned()
            }
            Challenge::Http1(_) | Challenge::Http2 => {
                let offered = negotiate::offered(&head.headers)?;
                negotiate::select(offered, table)?.0.into_owned()
            }
        };
        Ok(accept_response(&challenge, &selected))
    };
    accept().unwrap_or_else(|rejection| rejection.into_answer(upgrade.version()))
}

fn expected_upgrade(head: &Head) -> Option<Upgrade> {
    let is_http1 = head.request.version() <= Version::HTTP_11;
    if head.asks_for_websocket() {
        return Some(if is_http1 {
            Upgrade::Http1
        } else {
            Upgrade::Http2
        });
    }
    let spdy = head.lists("upgrade", "SPDY/3.1") && head.lists("connection", "upgrade");
    (is_http1 && spdy).then_some(Upgrade::Spdy)
}

fn check_intent(head: &Head, upgrade: Option<Upgrade>) {
    let intent = UpgradeIntent::from_request(&head.request);
    let is_websocket = matches!(upgrade, Some(Upgrade::Http1 | Upgrade::Http2));
    let offers = head.list("sec-websocket-protocol");
    assert_eq!(intent.is_websocket(), is_websocket);
    assert_eq!(intent.is_spdy(), upgrade == Some(Upgrade::Spdy));
    let names_any = !head.list("upgrade").is_empty() && head.lists("connection", "upgrade");
    let is_connect = head.request.method() == "CONNECT";
    assert_eq!(intent.is_upgrade(), names_any || is_connect);
    let v5 = offers.contains(&&b"v5.channel.k8s.io"[..]);
    assert_eq!(intent.offers_stream_close(), is_websocket && v5);
    let is_tunnel = |offer: &&[u8]| offer.starts_with(b"SPDY/3.1+") && offer.ends_with(b".k8s.io");
    assert_eq!(
        intent.offers_tunnel(),
        is_websocket && offers.iter().any(is_tunnel)
    );
}

/// Returns the status that the rules lead to, and the selected name of an answer that accepts.
fn expected(upgrade: Upgrade, head: &Head, table: &ChannelProtocols) -> (u16, Option<String>) {
    let method = head.request.method();
    let only = |name: &str| {
        let mut values = head.lines.iter().filter(|(other, _)| other == name);
        let value = values.next().map(|(_, value)| value.trim_ascii());
        value.filter(|_| values.next().is_none())
    };
    let has_length = head.lines.iter().any(|(name, value)| {
        let value = value.trim_ascii();
        name == "content-length" && (value.is_empty() || value.iter().any(|&digit| digit != b'0'))
    });
    let has_body = has_length
        || head
            .lines
            .iter()
            .any(|(name, _)| name == "transfer-encoding");
    let is_old = head.request.version() < Version::HTTP_11;
    let wrong_version = only("sec-websocket-version") != Some(b"13");
    let closes = head.lists("connection", "close");
    let key = only("sec-websocket-key").filter(|key| is_key(key));
    let refused = match upgrade {
        Upgrade::Http1 if method != "GET" => 405,
        Upgrade::Http1 if is_old => 400,
        Upgrade::Http1 if wrong_version => 426,
        Upgrade::Http1 if closes || key.is_none() || has_body => 400,
        // A 426 has no meaning over HTTP/2 (RFC 9110, 15.5.22).
        Upgrade::Http2 if wrong_version || has_body => 400,
        Upgrade::Spdy if method != "POST" && method != "GET" => 405,
        Upgrade::Spdy if is_old || closes || has_body => 400,
        _ => 0,
    };
    if refused != 0 {
        return (refused, None);
    }
    let (header, is_spdy) = match upgrade {
        Upgrade::Spdy => ("x-stream-protocol-version", true),
        Upgrade::Http1 | Upgrade::Http2 => ("sec-websocket-protocol", false),
    };
    let offers = head.list(header);
    if !offers.iter().all(|offer| offer.is_ascii()) || is_spdy && offers.is_empty() {
        return (400, None);
    }
    let names: Vec<&str> = if is_spdy {
        vec![
            "v4.channel.k8s.io",
            "v3.channel.k8s.io",
            "v2.channel.k8s.io",
            "channel.k8s.io",
        ]
    } else {
        table.iter().map(|(name, _)| name).collect()
    };
    let mut offers = offers.iter().map(|offer| String::from_utf8_lossy(offer));
    let selected = match offers.len() {
        0 => Some(String::new()),
        _ => offers
            .find(|offer| names.contains(&&**offer))
            .map(|name| name.into_owned()),
    };
    match (upgrade, selected) {
        (_, None) => (403, None),
        (Upgrade::Http2, selected) => (200, selected),
        (_, selected) => (101, selected),
    }
}

/// Returns whether a key is the base64 of 16 bytes, whatever the bits are that it does not use.
fn is_key(key: &[u8]) -> bool {
    let is_symbol = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(is_symbol)
}

fn check_accepted(upgrade: Upgrade, answer: Response<ResponseBody<NoBody>>, selected: &str) {
    let headers = answer.headers();
    let name = match upgrade {
        Upgrade::Spdy => "x-stream-protocol-version",
        Upgrade::Http1 | Upgrade::Http2 => "sec-websocket-protocol",
    };
    let named = headers.get(name).map(|name| name.as_bytes());
    assert_eq!(
        named,
        Some(selected.as_bytes()).filter(|name| !name.is_empty())
    );
    let others = match upgrade {
        Upgrade::Http1 => {
            let accept = STANDARD.decode(&headers["sec-websocket-accept"]);
            assert_eq!(accept.map(|hash| hash.len()), Ok(20));
            assert_eq!(headers["upgrade"], "websocket");
            3
        }
        Upgrade::Http2 => 0,
        Upgrade::Spdy => {
            assert_eq!(headers["upgrade"], "SPDY/3.1");
            2
        }
    };
    assert_eq!(headers.len(), others + usize::from(named.is_some()));
    assert!(others == 0 || headers["connection"] == "Upgrade");
    assert_eq!(bytes_of(answer.into_body()), b"");
}

fn check_refused(head: &Head, input: &[u8], answer: Response<ResponseBody<NoBody>>) {
    let offers = head.list("sec-websocket-protocol");
    let is_secret = |text: &[u8]| text == SECRET.as_bytes();
    let holds_secret = offers.iter().any(|offer| {
        let lower = offer.to_ascii_lowercase();
        lower.starts_with(CREDENTIAL_PREFIX.as_bytes())
            && offer.windows(SECRET.len()).any(is_secret)
    });
    // Where else it stands, it is no secret: a refusal names the method.
    let is_secret_once = input
        .windows(SECRET.len())
        .filter(|text| is_secret(text))
        .count()
        == 1;
    let rejection = answer.extensions().get::<Rejection>();
    let shown = format!("{answer:?} {rejection:?}");
    let code = answer.status().as_u16();
    let length = answer.headers()["content-length"].clone();
    if head.request.version() > Version::HTTP_11 {
        let has = |name| answer.headers().contains_key(name);
        assert!(!has("connection") && !has("upgrade"));
    }
    let body = bytes_of(answer.into_body());
    assert_eq!(length, body.len().to_string());
    let text = String::from_utf8_lossy(&body);
    let is_shown = shown.contains(SECRET) || text.contains(SECRET);
    assert!(!(holds_secret && is_secret_once && is_shown));
    let status = Status::from_json(&body).expect("a refusal is a status");
    assert_eq!(status.code(), Some(code));
    assert!(status.message().is_some_and(|text| !text.is_empty()));
}

/// Returns the bytes of a body of this crate, which is ready at once.
pub(super) fn bytes_of(mut body: ResponseBody<NoBody>) -> Vec<u8> {
    use std::{
        pin::Pin,
        task::{Context, Poll, Waker},
    };

    use http_body::Body as _;

    let mut bytes = Vec::new();
    let cx = &mut Context::from_waker(Waker::noop());
    loop {
        match Pin::new(&mut body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => bytes.extend(frame.into_data().unwrap_or_default()),
            Poll::Ready(None) => return bytes,
            Poll::Ready(Some(Err(_))) | Poll::Pending => unreachable!("it is in memory"),
        }
    }
}
