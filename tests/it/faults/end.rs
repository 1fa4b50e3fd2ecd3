//! The ends of a session, and which of them exist where.

use super::carrier::{Carrier, Kind, Transport};

/// Defines the ends, each with its words in the table.
macro_rules! ends {
    ($($section:literal: $($end:ident, $words:literal;)*)*) => {
        /// A way in which a session ends.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum End {
            $($($end,)*)*
        }

        /// The ends in their order, by section.
        pub(super) const SECTIONS: &[(&str, &[End])] = &[$(($section, &[$(End::$end,)*]),)*];

        impl End {
            pub(super) fn words(self) -> &'static str {
                match self {
                    $($(Self::$end => $words,)*)*
                }
            }
        }
    };
}

ends! {
    "The service ends":
        Ok, "returns `Ok`";
        Exit, "returns exit code 3";
        Status, "fails with a `Status` (403)";
        Error, "fails with another error";
        Target, "fails with `ForwardError::target`";
        Panic, "panics";
        Closes, "calls `Session::close(4001)`, and returns `Ok`";
        Aborted, "is dropped with its runtime";
    "The client ends in order":
        EndsInput, "ends its input (CLOSE of v5; FIN of SPDY)";
        ResetsInput, "resets the stream of its input";
        Close1000, "Close 1000";
        CloseWithoutCode, "Close without a code";
        Close1001, "Close 1001";
        GoAway, "GOAWAY, and in a tunnel Close 1000";
        KubectlsAbort, "FIN of kubectl, whose local client has aborted";
    "The client breaks off":
        Close1000InMessage, "Close 1000 inside a message";
        Fin, "FIN without a Close";
        FinInFrame, "FIN inside a frame";
        Cut, "the connection is cut";
        CutInFrame, "the connection is cut inside a frame";
        Reset, "the connection is reset";
        StreamReset, "the stream of HTTP/2 is reset";
        Vanishes, "vanishes, with a keep-alive timeout of 10 s";
        NeverReads, "never reads; the service returns `Ok` behind 1 MB of output";
        StreamsMissing, "does not open all streams";
    "The client breaks a rule":
        Fault, "a reserved bit, or a frame of another version of SPDY";
        TooLarge, "a frame above `Limits::max_frame`";
        NotUtf8, "text that is not UTF-8";
        NotBase64, "text that is not base64";
    "Deadlines":
        Idle, "idle timeout of 60 s";
        IdleIgnored, "idle timeout of 60 s, and the service goes on";
        TimeLimit, "time limit of 60 s";
        Drain, "drain";
        DrainDeadline, "drain within 500 ms, and the service goes on";
        UpgradeFailed, "the server sends no answer to the upgrade";
    "Between both":
        StallUp, "nothing more reaches the server, with a keep-alive timeout of 10 s";
        StallDown, "nothing more reaches the client, with a keep-alive timeout of 10 s";
        StallDownOk, "nothing more reaches the client, and the service returns `Ok`";
        SwallowFin, "FIN without a Close, which a proxy swallows, with a keep-alive timeout of 10 s";
        SwallowFinOk, "returns `Ok`; a proxy swallows the server's FIN";
        CloseBothOk, "returns `Ok` behind 50 kB of output, and the client reads late; a proxy closes both sides at the first EOF";
        CloseBothClose, "Close 1000; a proxy closes both sides at the first EOF";
        CloseBothFin, "FIN without a Close; a proxy closes both sides at the first EOF";
}

/// The way in which a service ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    Ok,
    Exit,
    Status,
    Error,
    Target,
    Panic,
    /// It asks for a close, and returns when its session has ended.
    Closes,
}

impl End {
    /// Returns how the service ends by itself, if that is what ends the session.
    pub(super) fn own(self) -> Option<Own> {
        Some(match self {
            Self::Ok
            | Self::NeverReads
            | Self::StallDownOk
            | Self::SwallowFinOk
            | Self::CloseBothOk => Own::Ok,
            Self::Exit => Own::Exit,
            Self::Status => Own::Status,
            Self::Error => Own::Error,
            Self::Target => Own::Target,
            Self::Panic => Own::Panic,
            Self::Closes => Own::Closes,
            _ => return None,
        })
    }

    /// Returns whether the service takes no notice of the end.
    pub(super) fn is_ignored(self) -> bool {
        matches!(
            self,
            Self::IdleIgnored | Self::DrainDeadline | Self::Aborted
        )
    }

    /// Returns whether the client says that its input is complete, or may say so by the rules of
    /// the subprotocol.
    pub(super) fn completes_input(self, carrier: Carrier) -> bool {
        match self {
            Self::EndsInput => true,
            // Without half-close, this is how a client says it.
            Self::Close1000 | Self::CloseWithoutCode | Self::CloseBothClose => {
                !carrier.has_half_close()
            }
            _ => false,
        }
    }

    /// Returns the reason why there is no such end, if there is one.
    pub(super) fn is_impossible(self, carrier: Carrier) -> Option<&'static str> {
        use Kind::{Command, Port, Reader};
        let reader = carrier.kind == Reader;
        match self {
            Self::Exit if carrier.kind != Command => Some("only a command has an exit code"),
            Self::Target if carrier.kind != Port => Some("only a port has a target"),
            Self::NeverReads if reader => Some("a body is polled only while its client reads"),
            Self::Closes if reader => Some("a body has no `Session`"),
            Self::EndsInput if reader || !carrier.has_half_close() => {
                Some("there is no half-close")
            }
            Self::ResetsInput | Self::GoAway if !carrier.is_spdy() => Some("only SPDY has it"),
            Self::KubectlsAbort if !carrier.has_connections() => {
                Some("kubectl forwards ports over SPDY")
            }
            Self::StreamsMissing if !carrier.is_spdy() || carrier.kind == Port => {
                Some("only a session over SPDY waits for its streams")
            }
            Self::Close1000
            | Self::CloseWithoutCode
            | Self::Close1001
            | Self::CloseBothClose
            | Self::Close1000InMessage
            | Self::NotUtf8
            | Self::TooLarge
                if !carrier.is_websocket() =>
            {
                Some("there is no such frame without a WebSocket")
            }
            Self::NotUtf8 if carrier.is_spdy() => Some("a tunnel takes the bytes of text messages"),
            Self::NotBase64 if !carrier.is_base64() || reader => {
                Some("only base64 is decoded, and not for a reader")
            }
            Self::SwallowFin | Self::SwallowFinOk if carrier.transport == Transport::Http2 => {
                Some("over HTTP/2, the end of a stream is a frame, which no proxy swallows")
            }
            Self::StreamReset if carrier.transport != Transport::Http2 => {
                Some("only HTTP/2 has streams below the session")
            }
            _ => None,
        }
    }
}
