//! The plan of connections to ports.

use super::Draw;
use crate::{
    plan::{Act, CHANNELS, End, Halves, Kind, Plan, Step, Transport},
    random::Random,
};

/// Returns the plan of a seed, for connections to ports.
pub(crate) fn ports(seed: u64) -> Plan {
    let mut random = Draw(Random::of_seed(seed).split().split());
    let mut setup = random.setup(1);
    setup.kind = Kind::Ports;
    setup.subprotocol = port_subprotocol(setup.transport);
    setup.max_frame = None;
    setup.max_message = None;
    let connections = 1 + random.below(CHANNELS) as u8;
    let mut client = random.connections(connections);
    client.extend(random.farewell());
    let reads = random.reads();
    let tasks = (0..connections).map(|of| random.connection(of)).collect();
    Plan {
        setup,
        client,
        reads,
        tasks,
        end: End::Ok,
    }
}

/// Returns the name that a client of connections offers.
pub(crate) fn port_subprotocol(transport: Transport) -> &'static str {
    match transport {
        Transport::Post => "portforward.k8s.io",
        Transport::Http1 | Transport::Http2 => "SPDY/3.1+portforward.k8s.io",
    }
}

impl Draw {
    /// Draws the acts of a client that opens as many connections.
    fn connections(&mut self, connections: u8) -> Vec<Act> {
        let mut acts = Vec::new();
        for connection in 0..connections {
            acts.push(Act::Open {
                connection,
                halves: match self.below(16) {
                    0 => Halves::OnlyError,
                    1 => Halves::OnlyData,
                    2..5 => Halves::DataFirst,
                    _ => Halves::ErrorFirst,
                },
            });
            acts.extend(self.many(6, |random| {
                let on = random.below(usize::from(connection) + 1) as u8;
                match (random.below(12), random.act()) {
                    (0, _) => Act::Reset(on),
                    (1 | 2, _) => Act::CloseChannel(on),
                    (_, Act::CloseChannel(_) | Act::Stray { .. }) => Act::CloseChannel(on),
                    (
                        _,
                        Act::Send {
                            len, frames, piece, ..
                        },
                    ) => Act::Send {
                        channel: on,
                        len,
                        frames,
                        pings: false,
                        piece,
                    },
                    (_, act) => act,
                }
            }));
        }
        acts
    }

    /// Draws the steps of a connection's service.
    fn connection(&mut self, of: u8) -> Vec<Step> {
        let mut steps = self.many(10, |random| match random.step(&[of], &[of]) {
            Step::SayLast(_) | Step::Hold { .. } | Step::IgnoreReceives => Step::Yield,
            Step::Send { channel, len } => Step::WriteAll { channel, len },
            step => step,
        });
        if self.one_in(2) {
            steps.push(Step::ReadToEnd(of));
        }
        let end = match self.below(16) {
            0..9 => return steps,
            9..11 => End::Fail,
            11..13 => End::FailTarget,
            13 => End::Panic,
            _ => End::Never,
        };
        steps.push(Step::Leave(end));
        steps
    }
}
