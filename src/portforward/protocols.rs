//! The subprotocols of port-forward, and the channels that a request opens.

use std::sync::Arc;

use http::{HeaderMap, header::SEC_WEBSOCKET_PROTOCOL, request::Parts};

use super::ports::{MAX_PORTS, ports, too_many};
#[cfg(feature = "spdy")]
use super::stall::Stall;
#[cfg(feature = "spdy")]
use crate::handshake::detect::asks_for_spdy;
use crate::{
    ChannelProtocolConfig, ChannelProtocols, ChannelType, Encoding, ProtocolSource, Rejection,
    handshake::headers::members,
    subprotocols::{V4, V4_BASE64},
};

/// The subprotocol that carries SPDY in the messages of a WebSocket.
#[cfg(feature = "spdy")]
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// The protocol of the same streams over SPDY without a WebSocket.
#[cfg(feature = "spdy")]
const STREAMS: &str = "portforward.k8s.io";

/// The largest number of ports over base64, where a channel number is a character and a session
/// has at most 79 channels.
const MAX_BASE64_PORTS: usize = 39;

/// The subprotocols of port-forward.
///
/// | name | encoding | most ports |
/// |---|---|---|
/// | `v4.channel.k8s.io`, or none offered | binary | 127 |
/// | `v4.base64.channel.k8s.io` | text | 39 |
/// | `SPDY/3.1+portforward.k8s.io`, with the feature `spdy` | a tunnel | 127 at once |
///
/// For channels, the ports are in the query, as `ports=80&ports=443` or `ports=80,443`, or in the dialect of
/// kubelets as `port=80,443`. Each is from 1 to 65535. Port `i` has channel `2i` for data in both
/// directions, and channel `2i + 1` for errors, which only the server writes. A request without
/// ports, with too many ports, or with an invalid one is refused with a 400.
///
/// The tunnel is the subprotocol of `kubectl port-forward` from 1.31 on. Its messages are pieces of a SPDY
/// session, in which the client opens a pair of streams for each connection and says to which port
/// it goes. There are no ports in the query then, so an authorization that depends on the port
/// belongs in the service of the ports.
///
/// Over SPDY without a WebSocket, which a `StreamingLayer` serves, the same streams have the name
/// `portforward.k8s.io`. kubectl up to 1.30 and `crictl` ask for them in this way, and so do API
/// servers, unless the node declares that it takes WebSockets (from 1.36 on).
///
/// `v5.channel.k8s.io` is not supported: some clients offer it, but none needs it here.
///
/// # Examples
///
/// ```
/// use tower_wsstream::{WsStreamLayer, portforward::Protocols};
///
/// let layer = WsStreamLayer::new(Protocols::default().max_ports(8));
/// # let _ = layer;
/// ```
///
/// With the feature `spdy`, for clients that do not trust each other; and without tunnels:
///
/// ```
/// # #[cfg(feature = "spdy")] {
/// use std::time::Duration;
/// use tower_wsstream::portforward::{Protocols, Stall};
///
/// let stall = Stall::ResetAfter(Duration::from_secs(20));
/// let shared = Protocols::default().on_stall(stall);
/// let channels_only = Protocols::default().tunnel(false);
/// # let _ = (shared, channels_only);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Protocols {
    max_ports: usize,
    #[cfg(feature = "spdy")]
    tunnel: bool,
    #[cfg(feature = "spdy")]
    stall: Stall,
}

impl Default for Protocols {
    fn default() -> Self {
        Self {
            max_ports: MAX_PORTS,
            #[cfg(feature = "spdy")]
            tunnel: true,
            #[cfg(feature = "spdy")]
            stall: Stall::Wait,
        }
    }
}

impl Protocols {
    /// Sets how many ports one request may ask for. Default 127, which is also the maximum.
    ///
    /// Each port has its own receive window
    /// ([`Limits::receive_window`](crate::policy::Limits::receive_window)) and send budget, so this
    /// setting bounds the memory of a session. It has no effect on a tunnel and over SPDY, where windows
    /// exist only for connections that are open, of which there are 127 at most.
    #[must_use]
    pub fn max_ports(mut self, most: usize) -> Self {
        self.max_ports = most.min(MAX_PORTS);
        self
    }

    /// Sets whether clients may open connections over SPDY, in a tunnel as `kubectl port-forward`
    /// does or without a WebSocket. On by default.
    #[cfg(feature = "spdy")]
    #[cfg_attr(docsrs, doc(cfg(feature = "spdy")))]
    #[must_use]
    pub fn tunnel(mut self, on: bool) -> Self {
        self.tunnel = on;
        self
    }

    /// Sets what happens to a connection over SPDY that has data beyond its window, because the service
    /// does not read it. Default [`Stall::Wait`].
    #[cfg(feature = "spdy")]
    #[cfg_attr(docsrs, doc(cfg(feature = "spdy")))]
    #[must_use]
    pub fn on_stall(mut self, stall: Stall) -> Self {
        self.stall = stall;
        self
    }
}

impl ProtocolSource for Protocols {
    fn protocols(&self, head: &Parts) -> Result<ChannelProtocols, Rejection> {
        let channels = self.channels(head);
        #[cfg(feature = "spdy")]
        if self.tunnel {
            return self.with_tunnel(channels, head);
        }
        channels
    }
}

#[cfg(feature = "spdy")]
impl Protocols {
    /// Adds the tunnel. A client that asks for one needs no ports in its query.
    fn with_tunnel(
        &self,
        channels: Result<ChannelProtocols, Rejection>,
        head: &Parts,
    ) -> Result<ChannelProtocols, Rejection> {
        let needs_no_ports =
            offers(&head.headers, TUNNEL) || asks_for_spdy(head.version, &head.headers);
        let others = match channels {
            Err(rejection) if !needs_no_ports => return Err(rejection),
            others => others.ok(),
        };
        let mut table = ChannelProtocols::builder();
        for (name, config) in others.iter().flat_map(|table| table.iter()) {
            table = table.protocol(name.to_owned(), config.clone());
        }
        let tunnel = ChannelProtocolConfig::new(Encoding::Binary, []);
        let tunnel = tunnel.half_close(true).tunnel(self.stall.reset_after());
        let table = table
            .protocol(STREAMS, tunnel.clone().over_spdy())
            .protocol(TUNNEL, tunnel)
            .build();
        Ok(table.expect("the names differ, and a tunnel has no channels"))
    }
}

impl Protocols {
    /// Returns the subprotocols with channels for the ports of the query.
    fn channels(&self, head: &Parts) -> Result<ChannelProtocols, Rejection> {
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
    offers(headers, V4_BASE64) && !offers(headers, V4)
}

fn offers(headers: &HeaderMap, name: &str) -> bool {
    members(headers, &SEC_WEBSOCKET_PROTOCOL).any(|offered| offered == name.as_bytes())
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
            .filter(|(name, _)| !name.starts_with("SPDY"))
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
        for (name, config) in table
            .iter()
            .filter(|(_, config)| !config.channels().is_empty())
        {
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

    #[cfg(feature = "spdy")]
    #[test]
    fn a_tunnel_needs_no_ports() {
        let names = |protocols: &Protocols, query: &str, name: &str, value: &str| {
            let request = Request::get(format!("/?{query}"))
                .header("connection", "upgrade")
                .header(name, value);
            let (head, ()) = request.body(()).unwrap().into_parts();
            let table = protocols.protocols(&head);
            table.map(|table| {
                table
                    .iter()
                    .map(|(name, _)| name.to_owned())
                    .collect::<Vec<_>>()
            })
        };
        let (offer, on) = ("sec-websocket-protocol", &Protocols::default());
        let off = &Protocols::default().tunnel(false);
        for (name, value) in [
            (offer, TUNNEL),
            (offer, "v4.channel.k8s.io, SPDY/3.1+portforward.k8s.io"),
            ("upgrade", "spdy/3.1"),
        ] {
            for query in ["", "ports=0", "x=y"] {
                assert_eq!(names(on, query, name, value).unwrap(), [TUNNEL]);
                assert_eq!(names(off, query, name, value).unwrap_err().status(), 400);
            }
            let all = [V4, V4_BASE64, "", TUNNEL];
            assert_eq!(names(on, "ports=80", name, value).unwrap(), all);
            assert_eq!(names(off, "ports=80", name, value).unwrap(), all[..3]);
        }
        for (name, value) in [(offer, V4), (offer, "SPDY/3.1+x.k8s.io"), ("upgrade", "x")] {
            assert_eq!(names(on, "", name, value).unwrap_err().status(), 400);
        }
    }
}
