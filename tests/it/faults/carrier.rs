//! The carrier of a session: a kind of service, a subprotocol, and a transport.

use std::fmt;

use tower_wsstream::subprotocols::{BASE64_CHANNEL, CHANNEL, V2, V3, V4, V4_BASE64, V5};

use crate::support::spdy::TUNNEL;

/// The kind of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Under `RemoteCommandLayer`.
    Command,
    /// A `Service<ChannelSet>`.
    Plain,
    /// Under `PortForwardLayer`.
    Port,
    /// Inside `WsReaderLayer`.
    Reader,
}

pub(super) const KINDS: [Kind; 4] = [Kind::Command, Kind::Plain, Kind::Port, Kind::Reader];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Transport {
    /// A WebSocket over HTTP/1.1.
    Http1,
    /// A WebSocket over HTTP/2, by extended CONNECT (RFC 8441).
    Http2,
    /// SPDY by a POST over HTTP/1.1.
    Post,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Carrier {
    pub(super) kind: Kind,
    pub(super) protocol: &'static str,
    pub(super) transport: Transport,
}

const CHANNELS: [&str; 8] = ["", CHANNEL, BASE64_CHANNEL, V2, V3, V4, V4_BASE64, V5];
const POSTED: [&str; 4] = [CHANNEL, V2, V3, V4];
const PORTS: [&str; 4] = ["", V4, V4_BASE64, TUNNEL];
const READERS: [&str; 3] = ["", "binary.k8s.io", "base64.binary.k8s.io"];

impl Carrier {
    /// Returns all that exist. SPDY has no v5 and no base64, and carries no body of a reader.
    pub(super) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for kind in KINDS {
            let (upgraded, posted) = match kind {
                Kind::Command | Kind::Plain => (&CHANNELS[..], &POSTED[..]),
                Kind::Port => (&PORTS[..], &["portforward.k8s.io"][..]),
                Kind::Reader => (&READERS[..], &[][..]),
            };
            let mut add = |protocols: &[&'static str], transport| {
                all.extend(protocols.iter().map(|protocol| Self {
                    kind,
                    protocol,
                    transport,
                }));
            };
            add(upgraded, Transport::Http1);
            add(upgraded, Transport::Http2);
            add(posted, Transport::Post);
        }
        all
    }

    /// Returns whether SPDY's frames carry the channels.
    pub(super) fn is_spdy(self) -> bool {
        self.transport == Transport::Post || self.protocol == TUNNEL
    }

    /// Returns whether there are WebSocket frames, and so a Close.
    pub(super) fn is_websocket(self) -> bool {
        self.transport != Transport::Post
    }

    /// Returns whether a client can end one channel alone.
    pub(super) fn has_half_close(self) -> bool {
        self.is_spdy() || self.protocol == V5
    }

    /// Returns whether the error channel carries a JSON Status.
    pub(super) fn has_status(self) -> bool {
        self.kind == Kind::Command && [V4, V4_BASE64, V5].contains(&self.protocol)
    }

    /// Returns whether a session carries connections, and goes on after one.
    pub(super) fn has_connections(self) -> bool {
        self.kind == Kind::Port && self.is_spdy()
    }

    pub(super) fn is_base64(self) -> bool {
        self.protocol.contains("base64")
    }

    /// Returns the short name of the subprotocol.
    pub(super) fn short(self) -> &'static str {
        match self.protocol {
            "" => "none",
            TUNNEL => "tunnel",
            CHANNEL => "v1",
            BASE64_CHANNEL => "v1.base64",
            name => name
                .strip_suffix(".channel.k8s.io")
                .or(name.strip_suffix(".k8s.io"))
                .unwrap_or(name),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Command => "command",
            Self::Plain => "plain",
            Self::Port => "port",
            Self::Reader => "reader",
        })
    }
}
