//! The subprotocols of port-forward, and the channels that a request opens.

use std::sync::Arc;

use http::{HeaderMap, header::SEC_WEBSOCKET_PROTOCOL, request::Parts};

use super::ports::{MAX_PORTS, ports, too_many};
use crate::{
    ChannelProtocolConfig, ChannelProtocols, ChannelType, Encoding, ProtocolSource, Rejection,
    subprotocols::{V4, V4_BASE64},
};

/// The largest number of ports over base64, where a channel number is a character and a session
/// has at most 79 channels.
const MAX_BASE64_PORTS: usize = 39;

/// The subprotocols of port-forward.
///
/// | name | encoding | most ports |
/// |---|---|---|
/// | `v4.channel.k8s.io`, or none offered | binary | 127 |
/// | `v4.base64.channel.k8s.io` | text | 39 |
///
/// The ports are in the query, as `ports=80&ports=443` or `ports=80,443`, or in the dialect of
/// kubelets as `port=80,443`. Each is from 1 to 65535. Port `i` has channel `2i` for data in both
/// directions, and channel `2i + 1` for errors, which only the server writes. A request without
/// ports, with too many ports, or with an invalid one is refused with a 400.
///
/// `v5.channel.k8s.io` is not supported: some clients offer it, but none needs it here. Neither is
/// `SPDY/3.1+portforward.k8s.io`, which has no channels: a client that offers only that is refused
/// with a 403.
///
/// # Examples
///
/// ```
/// use tower_wsstream::{WsStreamLayer, portforward::Protocols};
///
/// let layer = WsStreamLayer::new(Protocols::default().max_ports(8));
/// # let _ = layer;
/// ```
#[derive(Clone, Debug)]
pub struct Protocols {
    max_ports: usize,
}

impl Default for Protocols {
    fn default() -> Self {
        Self {
            max_ports: MAX_PORTS,
        }
    }
}

impl Protocols {
    /// Sets how many ports one request may ask for. Default 127, which is also the maximum.
    ///
    /// Each port has its own receive window
    /// ([`Limits::receive_window`](crate::policy::Limits::receive_window)) and send budget, so this
    /// setting bounds the memory of a session.
    #[must_use]
    pub fn max_ports(mut self, most: usize) -> Self {
        self.max_ports = most.min(MAX_PORTS);
        self
    }
}

impl ProtocolSource for Protocols {
    fn protocols(&self, head: &Parts) -> Result<ChannelProtocols, Rejection> {
        let count = ports(head.uri.query().unwrap_or_default())?.len();
        if count > self.max_ports {
            return Err(too_many(self.max_ports, ""));
        }
        // Without this check, the handshake would refuse the request with a 403 that does not say
        // why.
        if count > MAX_BASE64_PORTS && needs_base64(&head.headers) {
            return Err(too_many(MAX_BASE64_PORTS, " for base64"));
        }
        Ok(table(count))
    }
}

/// Returns whether base64 is the only one of our subprotocols that the client offers.
fn needs_base64(headers: &HeaderMap) -> bool {
    let offers = |name| {
        let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
        lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .any(|offered| offered.trim() == name)
    };
    offers(V4_BASE64) && !offers(V4)
}

fn table(ports: usize) -> ChannelProtocols {
    let channels: Arc<[ChannelType]> = [ChannelType::ReadWrite, ChannelType::Write]
        .repeat(ports)
        .into();
    let raw = ChannelProtocolConfig::new(Encoding::Binary, channels.clone());
    let mut table = ChannelProtocols::builder().protocol(V4, raw.clone());
    if ports <= MAX_BASE64_PORTS {
        table = table.protocol(
            V4_BASE64,
            ChannelProtocolConfig::new(Encoding::Base64, channels),
        );
    }
    table
        .protocol("", raw)
        .build()
        .expect("three different names and no more channels than each can have")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn protocols(ports: usize, offers: &[&str]) -> Result<ChannelProtocols, Rejection> {
        let mut request = Request::get(format!("/?ports={}", vec!["80"; ports].join(",")));
        for offer in offers {
            request = request.header(SEC_WEBSOCKET_PROTOCOL, *offer);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        Protocols::default().protocols(&head)
    }

    #[test]
    fn two_channels_for_each_port_and_never_half_close() {
        use ChannelType::{ReadWrite, Write};
        let table = protocols(2, &[]).unwrap();
        let all: Vec<_> = table
            .iter()
            .map(|(name, config)| (name, config.encoding(), config.supports_half_close()))
            .collect();
        use Encoding::{Base64, Binary};
        assert_eq!(
            all,
            [
                ("v4.channel.k8s.io", Binary, false),
                ("v4.base64.channel.k8s.io", Base64, false),
                ("", Binary, false),
            ]
        );
        for (name, config) in table.iter() {
            let expected = [ReadWrite, Write, ReadWrite, Write];
            assert_eq!(config.channels(), expected, "{name}");
        }
    }

    #[test]
    fn every_number_of_ports_has_a_table() {
        for count in 1..=MAX_PORTS {
            let table = protocols(count, &[V4_BASE64, V4]).unwrap();
            assert_eq!(table.get(V4).unwrap().1.channels().len(), 2 * count);
            assert!(table.get("").is_some());
            let base64 = table.get(V4_BASE64).is_some();
            assert_eq!(base64, count <= MAX_BASE64_PORTS, "{count}");
        }
    }

    #[test]
    fn a_client_that_needs_base64_is_told_how_many_it_can_have() {
        assert!(protocols(MAX_BASE64_PORTS, &[V4_BASE64]).is_ok());
        for offers in [
            &[V4_BASE64][..],
            &["v5.channel.k8s.io , v4.base64.channel.k8s.io"],
        ] {
            let rejection = protocols(MAX_BASE64_PORTS + 1, offers).unwrap_err();
            assert_eq!(rejection.status(), 400);
            assert!(rejection.message().contains("39 at most"), "{rejection}");
        }
        // A client that also offers the binary subprotocol gets that one.
        for offers in [
            &[V4_BASE64, V4][..],
            &["v4.base64.channel.k8s.io,v4.channel.k8s.io"],
        ] {
            assert!(protocols(MAX_BASE64_PORTS + 1, offers).is_ok());
        }
    }

    #[test]
    fn the_most_that_was_set_and_one_more() {
        let protocols = |most: usize, ports: usize| {
            let uri = format!("/?ports={}", vec!["80"; ports].join(","));
            let (head, ()) = Request::get(uri).body(()).unwrap().into_parts();
            Protocols::default().max_ports(most).protocols(&head)
        };
        assert!(protocols(3, 3).is_ok());
        let rejection = protocols(3, 4).unwrap_err();
        assert!(rejection.message().contains("3 at most"), "{rejection}");
        assert!(protocols(1000, MAX_PORTS).is_ok());
        assert!(protocols(1000, MAX_PORTS + 1).is_err());
    }
}
