use base64::{
    Engine as _, alphabet,
    engine::general_purpose::{GeneralPurpose, NO_PAD},
};
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, MaxSizeReached, SEC_WEBSOCKET_PROTOCOL};

use crate::{
    handshake::{
        headers::{members, members_of},
        negotiate::is_like_a_credential,
    },
    protocol::table::CREDENTIAL_PREFIX,
    rejection::Rejection,
};

/// Decodes as Go's `RawURLEncoding` does: without padding, and ignoring the bits after the last
/// byte.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    NO_PAD.with_decode_allow_trailing_bits(true),
);

pub(super) const TWO_ENTRIES: &str =
    "more than one of the offered WebSocket subprotocols is a bearer token: offer one";
pub(super) const TWO_CREDENTIALS: &str = "a bearer token is among the offered WebSocket subprotocols and there is an Authorization header too: send only one of them";
pub(super) const NOT_BASE64: &str = "the bearer token among the offered WebSocket subprotocols is not base64url: encode it as base64url without padding";
pub(super) const NOT_UTF8: &str =
    "the bearer token among the offered WebSocket subprotocols is not UTF-8";
pub(super) const EMPTY: &str =
    "the bearer token among the offered WebSocket subprotocols is empty: log in again";
pub(super) const NO_HEADER_VALUE: &str = "the bearer token among the offered WebSocket subprotocols holds a space or a control character: use a token without them";
pub(super) const ALONE: &str =
    "a bearer token is the only offered WebSocket subprotocol: offer the one to speak as well";
pub(super) const TOO_MANY_HEADERS: &str = "the request has too many headers: send fewer";

/// Moves the token from its entry in the offer to the `Authorization` header.
pub(super) fn move_token(headers: &mut HeaderMap) -> Result<(), Rejection> {
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

/// Returns whether an offered subprotocol is the entry of a token.
fn is_entry(member: &[u8]) -> bool {
    member.starts_with(CREDENTIAL_PREFIX.as_bytes())
}

/// Returns the `Authorization` header for the encoded token of an entry.
fn authorization(encoded: &[u8]) -> Result<HeaderValue, Rejection> {
    let refused = Rejection::unauthorized;
    let token = BASE64URL.decode(encoded).map_err(|_| refused(NOT_BASE64))?;
    let token = String::from_utf8(token).map_err(|_| refused(NOT_UTF8))?;
    if token.is_empty() {
        return Err(refused(EMPTY));
    }
    // A header can hold a space, but the token would end there.
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

/// Returns the lines of the offer without the entry. A line that holds nothing else is dropped.
fn rest(headers: &HeaderMap) -> Vec<HeaderValue> {
    let mut rest = Vec::new();
    for line in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        if !members_of(line).any(is_entry) {
            // This includes lines without any member.
            rest.push(line.clone());
            continue;
        }
        let pieces = line.as_bytes().split(|byte| *byte == b',');
        let mut others = Vec::new();
        for piece in pieces.filter(|piece| !is_entry(piece.trim_ascii())) {
            others.extend_from_slice(piece);
            others.push(b',');
        }
        // The last comma has no piece behind it.
        others.pop();
        // Parts of a valid header value are valid.
        if let Ok(mut others) = HeaderValue::from_bytes(others.trim_ascii())
            && members_of(&others).next().is_some()
        {
            others.set_sensitive(line.is_sensitive());
            rest.push(others);
        }
    }
    // An offer of nothing but commas is empty.
    if rest.iter().all(|line| members_of(line).next().is_none()) {
        rest.clear();
    }
    rest
}

/// Replaces the offer and inserts the authorization.
///
/// A map has a maximum size, beyond which all methods but the fallible ones panic.
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

/// Marks lines as sensitive that hold something like an entry, because it may contain a token.
pub(super) fn hide_lookalikes(headers: &mut HeaderMap) {
    for (name, line) in headers.iter_mut() {
        if *name == SEC_WEBSOCKET_PROTOCOL && members_of(line).any(is_like_a_credential) {
            line.set_sensitive(true);
        }
    }
}
