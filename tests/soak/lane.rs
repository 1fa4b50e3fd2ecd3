//! One stream of input and output: a whole session, or one connection of a port-forward.

use std::{fmt, str::FromStr};

use crate::random::Random;

/// Returns the byte of a stream at an offset. The bytes repeat after 251 × 256.
pub(crate) fn byte(at: u64) -> u8 {
    (at % 251) as u8 ^ (at / 251 % 256) as u8
}

pub(crate) fn bytes(at: u64, len: u64) -> Vec<u8> {
    (at..at + len).map(byte).collect()
}

/// The work of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Sends its input back.
    Echo,
    /// Reads its input.
    Count,
    /// Writes, and then ends in this way.
    Say(Verdict),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Succeeds,
    Fails,
    Panics,
}

/// A service and the length of its input, or of what it says. It is a part of the path of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) kind: Kind,
    pub(crate) total: u64,
}

/// The names of the kinds in a path.
const NAMES: [(&str, Kind); 5] = [
    ("echo", Kind::Echo),
    ("count", Kind::Count),
    ("say", Kind::Say(Verdict::Succeeds)),
    ("fail", Kind::Say(Verdict::Fails)),
    ("panic", Kind::Say(Verdict::Panics)),
];

impl Lane {
    /// Draws a lane. Most are short, and some have megabytes.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let kind = match random.next(9) {
            0..3 => Kind::Echo,
            3..6 => Kind::Count,
            n => NAMES[n as usize - 4].1,
        };
        let total = match random.next(20) {
            0 => random.next(2 << 20),
            1..5 => random.next(100_000),
            _ => random.next(3000),
        };
        Self { kind, total }
    }

    pub(crate) fn has_input(self) -> bool {
        matches!(self.kind, Kind::Echo | Kind::Count)
    }

    /// Returns the length of the whole output.
    pub(crate) fn output(self) -> u64 {
        match self.kind {
            Kind::Count => 0,
            Kind::Echo | Kind::Say(_) => self.total,
        }
    }

    pub(crate) fn succeeds(self) -> bool {
        !matches!(self.kind, Kind::Say(Verdict::Fails | Verdict::Panics))
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = NAMES.iter().find(|(_, kind)| *kind == self.kind);
        let (name, _) = found.expect("every kind has a name");
        write!(f, "{name}.{}", self.total)
    }
}

impl FromStr for Lane {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let no = || format!("no lane: {text}");
        let (name, total) = text.split_once('.').ok_or_else(no)?;
        let (_, kind) = NAMES.iter().find(|(it, _)| *it == name).ok_or_else(no)?;
        Ok(Self {
            kind: *kind,
            total: total.parse().map_err(|_| no())?,
        })
    }
}
