use std::num::NonZeroU16;

use crate::{
    Rejection,
    protocol::MAX_PAIRS,
    query::{pairs, unescape},
};

/// The largest number of ports in one request.
pub(super) const MAX_PORTS: usize = MAX_PAIRS;

/// Parses the query of a request: at least one port and at most [`MAX_PORTS`], in the client's
/// order. A port that is listed twice counts twice.
///
/// Clients send `ports` to the API server, which sends `port` to kubelets. Either parameter may be
/// repeated, and may contain several ports separated by commas.
pub(crate) fn ports(query: &str) -> Result<Vec<NonZeroU16>, Rejection> {
    let mut ports = Vec::new();
    for (name, value) in pairs(query) {
        if !matches!(&*name, "ports" | "port") {
            continue;
        }
        let list = unescape(value).ok_or_else(bad_port)?;
        for port in list.split(',') {
            let port = number(port).ok_or_else(bad_port)?;
            if ports.len() == MAX_PORTS {
                return Err(too_many(MAX_PORTS, ""));
            }
            ports.push(port);
        }
    }
    if ports.is_empty() {
        return Err(Rejection::bad_request(
            "ask for at least one port, for example with ports=8080",
        ));
    }
    Ok(ports)
}

fn number(port: &str) -> Option<NonZeroU16> {
    // `parse` would accept a sign.
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|_| digits)
}

fn bad_port() -> Rejection {
    // The text does not repeat the value.
    Rejection::bad_request(
        "the query parameter \"ports\" takes numbers from 1 to 65535, repeated or separated by commas: ports=8080,8443",
    )
}

/// Returns the refusal of a request for more than `most` ports. `when` is empty or begins with a
/// space.
pub(super) fn too_many(most: usize, when: &str) -> Rejection {
    Rejection::bad_request(format!(
        "too many ports{when}: ask for {most} at most, and for the others in another request"
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(query: &str) -> Vec<u16> {
        let ports = ports(query).unwrap();
        ports.into_iter().map(NonZeroU16::get).collect()
    }

    fn refusal(query: &str) -> String {
        let rejection = ports(query).unwrap_err();
        assert_eq!(rejection.status(), 400, "{query:?}");
        rejection.message().to_owned()
    }

    #[test]
    fn repeated_and_with_commas_in_their_order() {
        assert_eq!(read("ports=80"), [80]);
        assert_eq!(read("ports=80&ports=443"), [80, 443]);
        assert_eq!(read("ports=443,80"), [443, 80]);
        assert_eq!(
            read("ports=1,2&x=y&ports=65535&ports=4,2"),
            [1, 2, 65535, 4, 2]
        );
    }

    #[test]
    fn real_clients() {
        // kube-rs begins with an ampersand and escapes the comma.
        assert_eq!(read("&ports=80%2C443"), [80, 443]);
        assert_eq!(read("port=80,443"), [80, 443]);
        assert_eq!(read("p%6frts=8%30"), [80]);
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for bad in [
            "0",
            "65536",
            "x",
            "",
            "80,",
            ",80",
            "80,,81",
            "-1",
            "%2B80",
            "+80",
            "80 ",
            "8.0",
            "%",
            "%ff",
            "99999999999999999999",
        ] {
            for query in [format!("ports={bad}"), format!("ports=80&ports={bad}")] {
                assert!(refusal(&query).contains("from 1 to 65535"), "{query:?}");
            }
        }
        assert!(refusal("ports").contains("from 1 to 65535"));
    }

    #[test]
    fn one_port_at_least() {
        for query in ["", "&", "x=80", "portss=80", "%zz=80"] {
            assert!(refusal(query).contains("ports=8080"), "{query:?}");
        }
    }

    #[test]
    fn as_many_as_channels_can_be_numbered() {
        let query = |count: usize| format!("ports={}", vec!["80"; count].join(","));
        assert_eq!(read(&query(MAX_PORTS)).len(), MAX_PORTS);
        assert!(refusal(&query(MAX_PORTS + 1)).contains("127 at most"));
    }

    proptest! {
        #[test]
        fn any_query_is_answered(query in "[a-z0-9=&%+,;]{0,64}|.{0,64}|(ports=[0-9,]{0,16}&){0,4}") {
            let _ = ports(&query);
        }
    }
}
