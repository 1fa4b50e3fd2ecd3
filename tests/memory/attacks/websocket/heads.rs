//! Handshakes that fail, and heads that never end.

use std::io::{Read, Write};

use super::{
    super::{
        attacker::{Attacker, Carrier, connect},
        http2::{self, FAULT, Http2, OK, PREFACE},
        pipe::Pipe,
        run::Run,
    },
    target::NEVER_READS,
};
use crate::server::{Server, read_head};

/// The number of handshakes on one connection of HTTP/2: as many as there may be at once.
const STREAMS: u32 = 100;

/// A head over HTTP/1.1 that is accepted, in lines.
const GOOD: [&str; 7] = [
    "GET / HTTP/1.1",
    "Host: localhost",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol: v5.channel.k8s.io",
];

/// The entry of a token, which stands for `{token}` in what follows. No answer shows it.
const TOKEN: &str = "base64url.bearer.authorization.k8s.io.aHVudGVyMg";

/// Changes of that head, with the status of the answer: a line in the place of another, or more lines.
const REFUSED: [(usize, &str, u16); 30] = [
    (0, "POST / HTTP/1.1", 405),
    (0, "GET / HTTP/1.0", 400),
    (
        0,
        "GET http://evil.example/ HTTP/1.1\r\nOrigin: http://localhost",
        403,
    ),
    (1, "Host: evil.example\r\nOrigin: http://localhost", 403),
    (
        1,
        "Host: evil.example\r\nHost: localhost\r\nOrigin: http://evil.example",
        403,
    ),
    (1, "X: y\r\nOrigin: http://localhost", 403),
    (2, "Connection: close, Upgrade", 400),
    (3, "Upgrade: h2c", 426),
    (4, "Sec-WebSocket-Version: 8", 426),
    (4, "X: y", 426),
    (5, "Sec-WebSocket-Key: short", 400),
    (5, "X: y", 400),
    (6, "Sec-WebSocket-Protocol: v9.example", 403),
    (6, "Sec-WebSocket-Protocol: {token}", 401),
    (
        6,
        "Sec-WebSocket-Protocol: BASE64URL.bearer.authorization.k8s.io.aHVudGVyMg",
        403,
    ),
    (7, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400),
    (7, "Content-Length: 5", 400),
    (7, "Transfer-Encoding: chunked", 400),
    (7, "Origin: https://evil.example", 403),
    (7, "Origin: null", 403),
    (7, "Origin: http://localhost.evil.example", 403),
    (7, "Origin: http://localhost@evil.example", 403),
    (
        7,
        "Origin: http://localhost\r\nOrigin: http://evil.example",
        403,
    ),
    (
        7,
        "Origin: http://evil.example\r\nX-Forwarded-Host: evil.example",
        403,
    ),
    // Not base64, not UTF-8, and with a line break in it.
    (7, "Sec-WebSocket-Protocol: {token}!", 401),
    (7, "Sec-WebSocket-Protocol: {token}_w", 401),
    (7, "Sec-WebSocket-Protocol: {token}0K", 401),
    (7, "Sec-WebSocket-Protocol: {token}, {token}", 401),
    (
        7,
        "Sec-WebSocket-Protocol: {token}\r\nSec-WebSocket-Protocol: {token}",
        401,
    ),
    (
        7,
        "Sec-WebSocket-Protocol: {token}\r\nAuthorization: Basic YTpi",
        400,
    ),
];

/// Handshakes over HTTP/2 that are refused, as fields that are added or that take the place of others.
const REFUSED_OVER_HTTP2: [&[(&str, &str)]; 11] = [
    &[("sec-websocket-version", "8")],
    &[("sec-websocket-protocol", "v9.example")],
    &[("origin", "https://evil.example")],
    &[("origin", "null")],
    &[("origin", "http://localhost.evil.example")],
    &[("origin", "http://localhost@evil.example")],
    &[("origin", "http://evil.example"), ("host", "evil.example")],
    &[
        ("origin", "http://evil.example"),
        ("x-forwarded-host", "evil.example"),
    ],
    &[("sec-websocket-protocol", TOKEN)],
    &[(
        "sec-websocket-protocol",
        "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.!",
    )],
    &[
        ("sec-websocket-protocol", TOKEN),
        ("authorization", "Basic YTpi"),
    ],
];

/// Makes one handshake over HTTP/1.1 on a connection of its own, and returns the head of the answer.
fn ask(server: &Server, carrier: Carrier, request: &str) -> String {
    let tcp = connect(&server.addresses[carrier.address()]);
    match carrier {
        Carrier::Tls => Pipe::over_tls(tcp, |tls| on(tls, request)).1,
        _ => on(&mut { tcp }, request),
    }
}

fn on(stream: &mut (impl Read + Write), request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    String::from_utf8(read_head(stream)).unwrap()
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Makes handshakes that fail in every way, and leaves after each.
pub(super) fn refused(run: &mut Run<'_>) -> Vec<Attacker> {
    if run.carrier == Carrier::Http2 {
        refused_over_http2(run);
        return Vec::new();
    }
    for n in 0..run.sessions as usize {
        let (line, text, expected) = REFUSED[n % REFUSED.len()];
        let text = text.replace("{token}", TOKEN);
        let mut head = GOOD.to_vec();
        match head.get_mut(line) {
            Some(line) => *line = &text,
            None => head.push(&text),
        }
        let answer = ask(run.server, run.carrier, &(head.join("\r\n") + "\r\n\r\n"));
        assert_eq!(status(&answer), expected, "{text}: {answer}");
        assert!(!answer.contains("aHVudGVyMg"), "{text}: {answer}");
        run.gauge.look();
    }
    Vec::new()
}

fn refused_over_http2(run: &mut Run<'_>) {
    for first in (0..run.sessions).step_by(STREAMS as usize) {
        let mut connection = Http2::new(connect(&run.server.addresses[Carrier::Http2.address()]));
        let streams = first..run.sessions.min(first + STREAMS);
        for n in streams.clone() {
            let mut fields = vec![
                ("sec-websocket-version", "13"),
                ("sec-websocket-protocol", "v5.channel.k8s.io"),
            ];
            for &(name, value) in REFUSED_OVER_HTTP2[n as usize % REFUSED_OVER_HTTP2.len()] {
                match fields.iter_mut().find(|(there, _)| *there == name) {
                    Some(field) => field.1 = value,
                    None => fields.push((name, value)),
                }
            }
            let block = http2::handshake("/", &fields);
            connection.put(&http2::headers(2 * (n - first) + 1, &block));
            connection.hear();
            run.gauge.look();
        }
        let most = streams.len();
        connection.until(|one| one.answers.len() >= most);
        let is_refusal = |(_, status): &(u32, u8)| ![OK, FAULT].contains(status);
        assert!(connection.answers.iter().all(is_refusal));
    }
}

/// Offers 65,535 subprotocols in one line, with a token behind them or not, or in more lines than
/// there may be. What is allocated for it is the head, in a buffer that grows, and copies of the line:
/// a list of so many entries would take eight times as much as they.
pub(super) fn many_subprotocols(run: &mut Run<'_>) -> Vec<Attacker> {
    let offered = vec!["a"; 65_535].join(",");
    for n in 0..run.sessions {
        let before = run.gauge.allocated;
        if run.carrier == Carrier::Http2 {
            let mut connection = Http2::new(connect(&run.server.addresses[run.carrier.address()]));
            let fields = [
                ("sec-websocket-version", "13"),
                ("sec-websocket-protocol", &*offered),
            ];
            connection.put(&http2::headers(1, &http2::handshake("/", &fields)));
            connection.until(|one| one.is_over || one.resets > 0 || !one.answers.is_empty());
            assert!(connection.answers.iter().all(|(_, status)| *status != OK));
        } else {
            let mut head = GOOD.map(str::to_owned).to_vec();
            let expected = match n % 3 {
                0 => {
                    head[6] = format!("Sec-WebSocket-Protocol: {offered}");
                    403
                }
                1 => {
                    head[6] = format!("Sec-WebSocket-Protocol: {offered}, {TOKEN}");
                    403
                }
                _ => {
                    head.extend(vec![GOOD[6].to_owned(); 100]);
                    431
                }
            };
            let answer = ask(run.server, run.carrier, &(head.join("\r\n") + "\r\n\r\n"));
            assert_eq!(status(&answer), expected, "{answer}");
        }
        run.gauge.look();
        let allocated = run.gauge.allocated - before;
        assert!(allocated <= 9 * offered.len() as u64, "{allocated} bytes");
    }
    Vec::new()
}

/// Leaves before the answer.
pub(super) fn abandoned(run: &mut Run<'_>) -> Vec<Attacker> {
    let request = GOOD.join("\r\n") + "\r\n\r\n";
    for _ in 0..run.sessions {
        let mut tcp = connect(&run.server.addresses[run.carrier.address()]);
        match run.carrier {
            Carrier::Tls => {
                Pipe::over_tls(tcp, |tls| tls.write_all(request.as_bytes()).unwrap());
            }
            Carrier::Http2 => {
                let fields = [
                    ("sec-websocket-version", "13"),
                    ("sec-websocket-protocol", "v5.channel.k8s.io"),
                ];
                let block = http2::handshake(NEVER_READS, &fields);
                let bytes = [PREFACE, &http2::headers(1, &block)].concat();
                tcp.write_all(&bytes).unwrap();
            }
            _ => tcp.write_all(request.as_bytes()).unwrap(),
        }
        run.gauge.look();
    }
    Vec::new()
}

/// Sends all of a head but its end, byte by byte, over HTTP/1.1 also under TLS.
pub(super) fn slow_heads(run: &mut Run<'_>) -> Vec<Attacker> {
    let tcp = |_| connect(&run.server.addresses[run.carrier.address()]);
    let mut attackers: Vec<_> = (0..run.sessions)
        .map(tcp)
        .map(|tcp| match run.carrier {
            Carrier::Tls => Pipe::over_tls(tcp, |_| ()).0,
            _ => Pipe::Plain(tcp),
        })
        .map(|pipe| Attacker::over(pipe, run.carrier))
        .collect();
    let head = match run.carrier {
        Carrier::Http2 => {
            let block = http2::handshake("/", &[("x", &*"y".repeat(4_000))]);
            // It has no END_HEADERS, and no CONTINUATION follows.
            [PREFACE, &http2::frame(1, 0, 1, &block)].concat()
        }
        _ => (GOOD.join("\r\n") + "\r\nX: " + &"y".repeat(4_000)).into_bytes(),
    };
    for piece in head.chunks(64) {
        for attacker in &mut attackers {
            attacker.send_raw(piece);
        }
        run.drive(&mut attackers, false);
        run.exchange(&mut attackers, false);
    }
    attackers
}

/// Connects, and sends nothing, or half of a handshake of TLS.
pub(super) fn silent(run: &mut Run<'_>) -> Vec<Attacker> {
    let tcp = |_| connect(&run.server.addresses[run.carrier.address()]);
    let mut attackers: Vec<_> = (0..run.sessions)
        .map(tcp)
        .map(|tcp| Attacker::over(Pipe::Plain(tcp), run.carrier))
        .collect();
    if run.carrier == Carrier::Tls {
        let mut hello = Vec::new();
        super::super::tls::connect().write_tls(&mut hello).unwrap();
        for attacker in &mut attackers {
            attacker.send_raw(&hello[..hello.len() / 2]);
        }
    }
    attackers
}
