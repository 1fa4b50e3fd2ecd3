//! The forms in which the bytes of a session travel.

use crate::{
    frames::{control, data, fin, go_away, headers, stored, syn},
    random::Random,
    raw::{BINARY, CLOSE, TEXT, base64, frame, on},
    spdy::TUNNEL,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// Channels in the messages of a WebSocket, with this subprotocol.
    Messages(&'static str),
    /// A command over SPDY, by POST.
    Command,
    /// Connections over SPDY, by POST.
    Post,
    /// Connections over SPDY, in the messages of a WebSocket.
    Tunnel,
}

const SUBPROTOCOLS: [&str; 3] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
];

/// The stream with the errors of a command or a connection, its input, and its output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streams {
    pub(crate) error: u32,
    pub(crate) input: u32,
    pub(crate) output: u32,
}

impl Carrier {
    /// Draws one for a WebSocket, which may be over HTTP/2.
    pub(crate) fn draw_websocket(random: &mut Random) -> Self {
        match random.next(4) {
            3 => Self::Tunnel,
            n => Self::Messages(SUBPROTOCOLS[n as usize]),
        }
    }

    /// Draws one over HTTP/1.1.
    pub(crate) fn draw(random: &mut Random) -> Self {
        match random.next(3) {
            0 => [Self::Command, Self::Post][random.next(2) as usize],
            _ => Self::draw_websocket(random),
        }
    }

    pub(crate) fn is_websocket(self) -> bool {
        matches!(self, Self::Messages(_) | Self::Tunnel)
    }

    /// Returns whether a session may have several lanes, and goes on after them.
    pub(crate) fn has_connections(self) -> bool {
        matches!(self, Self::Post | Self::Tunnel)
    }

    /// Returns whether a Close ends the input.
    pub(crate) fn ends_input_by_close(self) -> bool {
        matches!(self, Self::Messages(offer) if !offer.starts_with("v5"))
    }

    /// Returns the subprotocol, for either kind of upgrade.
    pub(crate) fn protocol(self) -> &'static str {
        match self {
            Self::Messages(offer) => offer,
            Self::Command => "v4.channel.k8s.io",
            Self::Post => "portforward.k8s.io",
            Self::Tunnel => TUNNEL,
        }
    }

    pub(crate) fn path(self, name: &str, lanes: &str) -> String {
        match self {
            Self::Messages(_) => format!("/plain/{name}/{lanes}"),
            Self::Command => format!("/exec/{name}/{lanes}?command=x&stdin=1&stdout=1"),
            Self::Post | Self::Tunnel => format!("/forward/{name}/{lanes}"),
        }
    }

    /// Returns the streams of a lane over SPDY.
    pub(crate) fn streams(self, lane: usize) -> Streams {
        let first = 4 * lane as u32 + 1;
        Streams {
            error: first,
            input: first + 2,
            output: match self {
                Self::Command => first + 4,
                _ => first + 2,
            },
        }
    }

    /// Returns the frame that opens the streams of this many lanes.
    pub(crate) fn open(self, lanes: usize) -> Vec<u8> {
        let mut frames = Vec::new();
        let mut open = |stream, fields: &[(&str, &str)]| {
            let first = frames.is_empty();
            frames.extend(syn(stream, &stored(&headers(fields), first)));
        };
        match self {
            Self::Messages(_) => {}
            Self::Command => {
                for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
                    open(stream, &[("streamtype", kind)]);
                }
            }
            Self::Post | Self::Tunnel => {
                for lane in 0..lanes {
                    let Streams { error, input, .. } = self.streams(lane);
                    let (port, id) = ((lane + 1).to_string(), lane.to_string());
                    for (stream, kind) in [(error, "error"), (input, "data")] {
                        let port = ("port", &*port);
                        open(stream, &[("streamtype", kind), port, ("requestid", &*id)]);
                    }
                }
            }
        }
        self.wrap(frames)
    }

    /// Puts frames of SPDY into a message where there are messages.
    fn wrap(self, frames: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Tunnel => frame(true, BINARY, &frames),
            _ => frames,
        }
    }

    /// Returns a frame of input.
    pub(crate) fn input(self, lane: usize, payload: &[u8]) -> Vec<u8> {
        match self {
            Self::Messages(offer) if offer.contains("base64") => {
                frame(true, TEXT, &base64(0, payload))
            }
            Self::Messages(_) => frame(true, BINARY, &on(0, payload)),
            _ => self.wrap(data(self.streams(lane).input, payload)),
        }
    }

    /// Returns the frame that ends the input.
    pub(crate) fn end_of_input(self, lane: usize) -> Vec<u8> {
        match self {
            Self::Messages(_) if self.ends_input_by_close() => self.close(1000),
            Self::Messages(_) => frame(true, BINARY, &[255, 0]),
            _ => self.wrap(fin(self.streams(lane).input)),
        }
    }

    /// Returns a Close frame of a WebSocket.
    pub(crate) fn close(self, code: u16) -> Vec<u8> {
        frame(true, CLOSE, &code.to_be_bytes())
    }

    /// Returns the frames with which a client of port-forward leaves.
    pub(crate) fn goodbye(self) -> Vec<u8> {
        let mut frames = self.wrap(go_away());
        if self == Self::Tunnel {
            frames.extend(self.close(1000));
        }
        frames
    }

    /// Returns the answer to a PING of SPDY.
    pub(crate) fn pong(self, id: u32) -> Vec<u8> {
        self.wrap(crate::frames::ping(id))
    }

    /// Returns a frame that breaks the protocol.
    pub(crate) fn breach(self) -> Vec<u8> {
        match self {
            // A reserved bit.
            Self::Messages(_) => vec![0xc2, 0x81, 0, 0, 0, 0, 0],
            // Another version.
            _ => {
                let mut ping = control(6, &[0, 0, 0, 1]);
                ping[1] = 2;
                self.wrap(ping)
            }
        }
    }

    /// Returns a short name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Messages("v5.channel.k8s.io") => "v5",
            Self::Messages("v4.channel.k8s.io") => "v4",
            Self::Messages(_) => "v4.base64",
            Self::Command => "SPDY, exec",
            Self::Post => "SPDY, port-forward",
            Self::Tunnel => "tunnel",
        }
    }
}
