//! The selection of one of the offered subprotocols.

use std::borrow::Cow;

use http::header::{HeaderMap, SEC_WEBSOCKET_PROTOCOL};

use super::headers::members;
use crate::{
    protocol::{ChannelProtocolConfig, ChannelProtocols, table::CREDENTIAL_PREFIX},
    rejection::Rejection,
};

/// Iterates over the subprotocols that a client offers, from all header lines and in its order.
///
/// They are not collected, because a list would take sixteen bytes for an entry that may have one.
/// An entry may hold a credential, so it must not be logged, shown or sent back.
pub(crate) fn offered(headers: &HeaderMap) -> Result<impl Iterator<Item = &str>, Rejection> {
    let entries = || members(headers, &SEC_WEBSOCKET_PROTOCOL);
    if !entries().all(<[u8]>::is_ascii) {
        return Err(Rejection::bad_request(
            "Sec-WebSocket-Protocol holds a byte that is not ASCII: offer plain names, separated by commas",
        ));
    }
    // ASCII is UTF-8, so every entry is there.
    Ok(entries().filter_map(|entry| std::str::from_utf8(entry).ok()))
}

/// Iterates over the offered subprotocols that may be shown to the service, which are all but those
/// that are or resemble a credential.
#[cfg(feature = "axum08")]
pub(crate) fn offered_openly(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    members(headers, &SEC_WEBSOCKET_PROTOCOL)
        .filter(|entry| !is_like_a_credential(entry))
        .filter_map(|entry| std::str::from_utf8(entry).ok())
}

/// Returns whether an offered entry begins like one that holds a credential. Case does not matter.
pub(crate) fn is_like_a_credential(entry: &[u8]) -> bool {
    let prefix = CREDENTIAL_PREFIX.as_bytes();
    let beginning = entry.get(..prefix.len());
    beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(prefix))
}

/// Selects the first offered name that is in the table. The order of the client decides.
///
/// A client that offers no subprotocol gets the `""` entry of the table. A client that offers only
/// unknown names is refused, because it would not understand an answer without a subprotocol (RFC
/// 6455, 4.1).
pub(crate) fn select<'a>(
    offered: impl Iterator<Item = &'a str>,
    protocols: &ChannelProtocols,
) -> Result<(Cow<'static, str>, ChannelProtocolConfig), Rejection> {
    let mut offered = offered.peekable();
    let offers_any = offered.peek().is_some();
    let selected = if offers_any {
        // A table cannot hold a name with this prefix. Such a name is skipped nevertheless, so that
        // the promise does not depend on another file.
        offered
            .filter(|name| !name.starts_with(CREDENTIAL_PREFIX))
            .find_map(|name| protocols.select(name))
    } else {
        protocols.select("")
    };
    selected.ok_or_else(|| Rejection::no_common_subprotocol(protocols, offers_any))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::{protocol::Encoding, rejection::RejectionKind};

    fn table(names: &[&'static str]) -> ChannelProtocols {
        names
            .iter()
            .fold(ChannelProtocols::builder(), |builder, name| {
                let encoding = match name.ends_with("base64") {
                    true => Encoding::Base64,
                    false => Encoding::Binary,
                };
                builder.protocol(*name, ChannelProtocolConfig::new(encoding, []))
            })
            .build()
            .unwrap()
    }

    fn headers(lines: &[&str]) -> HeaderMap {
        lines
            .iter()
            .map(|line| {
                (
                    SEC_WEBSOCKET_PROTOCOL,
                    HeaderValue::from_bytes(line.as_bytes()).unwrap(),
                )
            })
            .collect()
    }

    fn negotiate(supported: &[&'static str], lines: &[&str]) -> Result<String, Rejection> {
        let headers = headers(lines);
        select(offered(&headers)?, &table(supported)).map(|(name, _)| name.into_owned())
    }

    #[test]
    fn the_cases_of_the_go_package() {
        let all = ["", "v1.raw", "v1.base64", "v2.raw", "v2.base64"];
        let small = ["", "raw", "base64"];
        let cases: [(&[&'static str], &[&str], Option<&str>); 7] = [
            (&[], &["raw"], None),
            (&small, &[], Some("")),
            (&small, &["v1.raw"], None),
            (&small, &["v1.raw, v1.base64"], None),
            (&small, &["v1.raw, raw"], Some("raw")),
            (&all, &["v1.raw"], Some("v1.raw")),
            (&all, &["v2.base64"], Some("v2.base64")),
        ];
        for (supported, lines, expected) in cases {
            match (negotiate(supported, lines), expected) {
                (Ok(selected), Some(expected)) => assert_eq!(selected, expected, "{lines:?}"),
                (Err(rejection), None) => {
                    assert_eq!(rejection.kind(), RejectionKind::NoCommonSubprotocol);
                    assert_eq!(rejection.status(), 403);
                }
                (result, _) => panic!("{supported:?} {lines:?}: {result:?}"),
            }
        }
    }

    #[test]
    fn the_selected_configuration_goes_with_the_name() {
        let table = table(&["raw", "base64"]);
        let (name, config) = select(["base64", "raw"].into_iter(), &table).unwrap();
        assert_eq!((&*name, config.encoding()), ("base64", Encoding::Base64));
    }

    #[test]
    fn the_clients_order_wins_over_all_lines() {
        let table = ["a", "b", "c"];
        assert_eq!(negotiate(&table, &["c, a"]).unwrap(), "c");
        assert_eq!(negotiate(&table, &["x", "c", "a"]).unwrap(), "c");
        assert_eq!(negotiate(&table, &["x ,\tb ", "a"]).unwrap(), "b");
    }

    #[test]
    fn case_matters_and_substrings_do_not_match() {
        for line in [
            "V5.channel.k8s.io",
            "v5.channel.k8s.iox",
            "v5.channel",
            "v5.channel.k8s.io v",
        ] {
            assert!(
                negotiate(&["v5.channel.k8s.io"], &[line]).is_err(),
                "{line}"
            );
        }
    }

    #[test]
    fn empty_entries_are_no_offer() {
        let empty = headers(&["", " , ,\t"]);
        assert_eq!(offered(&empty).unwrap().next(), None);
        assert_eq!(negotiate(&["", "a"], &["", ","]).unwrap(), "");
        assert_eq!(negotiate(&["", "a"], &[", ,a,"]).unwrap(), "a");
        assert_eq!(negotiate(&["a"], &[]).unwrap_err().status(), 403);
    }

    #[test]
    fn an_offer_of_the_unknown_does_not_fall_back_to_none() {
        assert!(negotiate(&["", "a"], &["b"]).is_err());
    }

    #[test]
    fn other_bytes_than_ascii_are_400() {
        let rejection = negotiate(&["a"], &["a, \u{e9}"]).unwrap_err();
        assert_eq!(rejection.status(), 400);
        let mut raw = HeaderMap::new();
        raw.insert(
            SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_bytes(b"a,\xff").unwrap(),
        );
        assert_eq!(offered(&raw).err().unwrap().status(), 400);
    }

    #[test]
    fn a_credential_is_never_selected_and_never_repeated() {
        const TOKEN: &str = "base64url.bearer.authorization.k8s.io.aHVudGVyMg";
        assert_eq!(negotiate(&["a"], &[&format!("{TOKEN}, a")]).unwrap(), "a");
        assert_eq!(negotiate(&["a"], &["a", TOKEN]).unwrap(), "a");
        // A token alone is still an offer, so the `""` entry does not apply.
        let rejection = negotiate(&["", "a"], &[TOKEN]).unwrap_err();
        let answer = rejection.clone().into_response::<crate::body::NoBody>();
        let shown = format!("{rejection} {rejection:?} {answer:?}");
        assert!(!shown.contains("aHVudGVyMg"), "{shown}");
    }
}
