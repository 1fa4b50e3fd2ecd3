//! The exact auto traits of each public type: `Send`, `Sync`, `Copy`, `Clone`, `Unpin`.
//!
//! A type that loses one of them breaks users who hold it across an await, share it, or use it in
//! an axum route. A type that gains one has made a promise that it must keep.

use std::{collections::BTreeSet, fs, future::Ready, marker::PhantomData, path::Path};

use tower_wsstream::{
    AcceptMode, Channel, ChannelProtocolConfig, ChannelProtocols, ChannelReader, ChannelSet,
    ChannelType, ChannelWriter, ConfigError, Encoding, EndCause, IsWebSocketRequest, Rejection,
    RejectionKind, Session, SessionConfig, Sessions, Status, WsStream, WsStreamLayer,
    access::{
        Admission, AdmissionFuture, BearerSubprotocol, BearerSubprotocolFuture,
        BearerSubprotocolLayer, PerKey, Rate, SessionLimit, SessionLimitFuture, SessionLimitLayer,
        SessionPermit, SessionPermits, SessionRateLimit, SessionRateLimitFuture,
        SessionRateLimitLayer, UpgradeIntent, UpgradeIntentLayer, UpgradeIntentService,
    },
    body::{NoBody, ResponseBody},
    channel::{
        ChannelSink, ChannelStream,
        tap::{
            Direction, End, Lost, Overflow, Payload, Record, Tap, TapFuture, TapLayer, TapReader,
            TapService,
        },
    },
    policy::{
        ByteRate, IdleTimeout, IdleTimeoutLayer, KeepAlive, Limits, OriginPolicy, PolicyLayer,
        PolicyService, TimeLimit, ValidUntil,
    },
    portforward::{
        self, ForwardError, ForwardedPort, ForwardedStream, ForwardedWriter, PortForward,
        PortForwardFuture, PortForwardLayer, Stall,
    },
    protocol::ChannelProtocolsBuilder,
    reader::{ReaderProtocols, WsReader, WsReaderFuture, WsReaderLayer, WsReaderService},
    remotecommand::{
        ExitStatus, Options, Protocols, RemoteCommand, RemoteCommandFuture, RemoteCommandLayer,
        RemoteCommandService, TerminalSize, TerminalSizes,
    },
    session::{
        ChannelSummary, CloseError, CloseReason, Drained, Hold, LastWords, Outcome, Peer,
        SessionInfo, SessionSummary, Traffic,
    },
    testing::{Client, Connect, Frame, Received, Refused, Transcript},
    ws_stream::{UpgradeRequired, WsStreamFuture},
};

/// Asks which traits a type implements: where the bounds of its `impl` hold, an inherent constant
/// wins over that of a trait.
pub(crate) struct Ask<T>(PhantomData<T>);

macro_rules! ask {
    ($($question:ident, $answer:ident: $bound:path;)*) => {
        $(
            pub(crate) trait $question {
                const $answer: bool = false;
            }

            impl<T> $question for Ask<T> {}

            impl<T: $bound> Ask<T> {
                pub(crate) const $answer: bool = true;
            }
        )*
    };
}

ask! {
    IsSend, SEND: Send;
    IsSync, SYNC: Sync;
    IsCopy, COPY: Copy;
    IsClone, CLONE: Clone;
    IsUnpin, UNPIN: Unpin;
}

/// Lists the traits of a type by name.
macro_rules! traits {
    ($type:ty) => {{
        #[allow(unused_imports, reason = "who is all of it needs none")]
        use crate::tower::types::{
            IsClone as _, IsCopy as _, IsSend as _, IsSync as _, IsUnpin as _,
        };
        let traits = [
            ("Send", crate::tower::types::Ask::<$type>::SEND),
            ("Sync", crate::tower::types::Ask::<$type>::SYNC),
            ("Copy", crate::tower::types::Ask::<$type>::COPY),
            ("Clone", crate::tower::types::Ask::<$type>::CLONE),
            ("Unpin", crate::tower::types::Ask::<$type>::UNPIN),
        ];
        let traits = traits.iter().filter(|(_, is)| *is).map(|(name, _)| *name);
        traits.collect::<Vec<_>>().join(" ")
    }};
}
pub(crate) use traits;

/// Handles have one owner; values can be cloned.
const HANDLE: &str = "Send Sync Unpin";
const CLONE: &str = "Send Sync Clone Unpin";
const COPY: &str = "Send Sync Copy Clone Unpin";

/// Contents for the types that implement what their contents implement.
type Good = UpgradeRequired;
type Done = Ready<()>;

/// The public types and their traits.
macro_rules! table {
    ($($expected:ident: $($type:ty),* ;)*) => {
        [$($((stringify!($type), traits!($type), $expected)),*),*]
    };
}

/// Proves that the answers of the other tests can differ.
#[test]
fn types_that_are_less_are_told_from_those_that_are_more() {
    use std::{cell::Cell, marker::PhantomPinned, rc::Rc};
    assert_eq!(traits!(Rc<()>), "Clone Unpin");
    assert_eq!(traits!(Cell<()>), "Send Clone Unpin");
    assert_eq!(traits!(PhantomPinned), "Send Sync Copy Clone");
    assert_eq!(traits!(u8), COPY);
}

#[test]
fn every_public_type_is_what_it_is() {
    let table = table! {
        HANDLE: Channel, ChannelReader, ChannelSet, ChannelSink, ChannelStream, ChannelWriter,
            Client, Outcome<'static>, Refused, RemoteCommand, TerminalSizes, ResponseBody<NoBody>,
            WsStreamFuture<Done, Good>, RemoteCommandFuture<Done>, SessionRateLimitFuture<Done>,
            SessionLimitFuture<Done>, AdmissionFuture<Done>, SessionPermit, WsReader<Good>, WsReaderFuture<Done, NoBody>, BearerSubprotocolFuture<Done>,
            ForwardError, ForwardedPort, ForwardedStream, ForwardedWriter, PortForwardFuture<Good, Done>,
            Tap, TapFuture<Done>, TapReader;
        CLONE: ChannelProtocolConfig, ChannelProtocols, ChannelProtocolsBuilder, CloseReason, ConfigError,
            Connect, EndCause, Frame, LastWords, Options, OriginPolicy, PolicyLayer<OriginPolicy>,
            PolicyService<Good, OriginPolicy>, Protocols, Received, Rejection,
            RemoteCommandLayer, RemoteCommandService<Good>, Session, SessionRateLimit<Good>, SessionRateLimitLayer, Rate,
            Status, Transcript, WsStream<Good>, WsStreamLayer, WsStreamLayer<Good>, Peer,
            SessionLimit<Good, Client>, Admission<Good, ()>, PerKey<Client>, SessionLimitLayer<Client>, SessionConfig, SessionPermits<u8>,
            ReaderProtocols, SessionInfo, SessionSummary, Sessions, WsReaderLayer,
            WsReaderService<Good>, portforward::Protocols, PortForward<Good>, End,
            Payload, Record;
        COPY: Stall, AcceptMode, ChannelType, CloseError, Encoding, ExitStatus, Hold, IdleTimeout,
            IdleTimeoutLayer, IsWebSocketRequest, KeepAlive, Limits,
            NoBody, RejectionKind, TerminalSize, UpgradeRequired, ByteRate,
            ChannelSummary, Drained, PolicyLayer<TimeLimit>, PolicyService<Good, TimeLimit>,
            TimeLimit, Traffic, ValidUntil, BearerSubprotocol<Good>, BearerSubprotocolLayer,
            UpgradeIntent, UpgradeIntentLayer, UpgradeIntentService<Good>, PortForwardLayer,
            Direction, Lost, Overflow, TapLayer<()>, TapService<Good, ()>;
    };
    #[cfg(feature = "spdy")]
    let spdy = {
        use tower_wsstream::{
            StreamingLayer,
            streaming::{Streaming, StreamingFuture},
        };
        table! {
            HANDLE: StreamingFuture<Done, Good>;
            CLONE: Streaming<Good>, StreamingLayer, StreamingLayer<Good>;
        }
    };
    #[cfg(not(feature = "spdy"))]
    let spdy: [(&str, String, &str); 0] = [];
    let table: Vec<_> = table.into_iter().chain(spdy).collect();
    let others: Vec<_> = table
        .iter()
        .filter(|(_, is, listed)| is != listed)
        .collect();
    assert!(others.is_empty(), "{others:#?}");

    let named = |name: &str| name.split('<').next().unwrap().trim().to_owned();
    let listed: BTreeSet<_> = table.iter().map(|(name, ..)| named(name)).collect();
    let public: BTreeSet<_> = public_types().collect();
    assert!(public.contains("ChannelReader") && public.contains("Transcript"));
    let is_left_out = |name: &&String| cfg!(not(feature = "spdy")) && is_of_spdy(name);
    let missing: Vec<_> = public.difference(&listed).collect();
    let missing: Vec<_> = missing
        .into_iter()
        .filter(|name| !is_left_out(name))
        .collect();
    assert!(missing.is_empty(), "not in the table above: {missing:?}");
}

/// Returns whether a type exists with the feature `spdy` alone.
fn is_of_spdy(name: &str) -> bool {
    name.starts_with("Streaming")
}

/// Returns the names of types in the `pub use` of public modules.
fn public_types() -> impl Iterator<Item = String> {
    /// Names that are not types of this crate: traits, and aliases of std's types.
    const NO_TYPES: [&str; 4] = ["Admit", "ProtocolSource", "Policy", "BoxError"];

    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |name: &str| fs::read_to_string(source.join(name)).unwrap();
    let mut text = String::new();
    for name in [
        "lib.rs",
        "access/mod.rs",
        "channel/mod.rs",
        "channel/tap/mod.rs",
        "policy/mod.rs",
        "portforward/mod.rs",
        "protocol/mod.rs",
        "reader/mod.rs",
        "remotecommand/mod.rs",
        "session/mod.rs",
        "streaming/mod.rs",
        "testing/mod.rs",
        "ws_stream/mod.rs",
    ] {
        for used in read(name).split("pub use ").skip(1) {
            text.push_str(used.split_once(';').unwrap().0);
            text.push(' ');
        }
    }
    let names: Vec<_> = text
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|name| name.starts_with(char::is_uppercase) && !NO_TYPES.contains(name))
        .map(str::to_owned)
        .collect();
    names.into_iter()
}

#[test]
fn futures_of_the_handles_can_be_spawned() {
    fn spawned<T: Future + Send>(_: T) {}
    fn shared<T: Future + Send + Sync + 'static>(_: T) {}
    fn of(
        session: &Session,
        writer: &mut ChannelWriter,
        sizes: &mut TerminalSizes,
        records: &mut TapReader,
    ) {
        shared(session.ended());
        shared(session.draining());
        spawned(session.accept());
        spawned(writer.send(bytes::Bytes::new()));
        spawned(sizes.next());
        spawned(records.next());
    }
    let _ = of;
}

/// Like tower's own services, ours give access to their inner service.
#[test]
fn every_service_shows_the_inner_one_and_gives_it_back() {
    fn given<T>(layer: impl tower::Layer<u8, Service = T>, shown: fn(&mut T) -> u8) {
        assert_eq!(shown(&mut layer.layer(6)), 7);
    }
    macro_rules! through {
        ($($layer:expr),* $(,)?) => {$(
            given($layer, |service| {
                *service.get_mut() += 1;
                assert_eq!(*service.get_ref(), 7);
                service.clone().into_inner()
            });
        )*};
    }
    through!(
        super::standard(),
        SessionRateLimitLayer::new(1, super::secs(1)),
        SessionLimitLayer::<u8>::new(1, |key: &u8| Some(*key)),
        BearerSubprotocolLayer::new(),
        UpgradeIntentLayer::new(),
        IdleTimeoutLayer::new(None),
        WsReaderLayer::new(),
        TapLayer::new(|_: &ChannelSet| None),
        PortForwardLayer::new(),
        RemoteCommandLayer::new(),
    );
    #[cfg(feature = "spdy")]
    through!(tower_wsstream::StreamingLayer::new(Protocols::default()));
}

#[test]
fn a_layer_is_as_good_as_what_it_is_given() {
    type NotSync = std::cell::Cell<()>;
    type NotClone = std::sync::atomic::AtomicBool;
    type NotUnpin = std::marker::PhantomPinned;
    assert_eq!(traits!(WsStream<NotSync>), "Send Clone Unpin");
    assert_eq!(traits!(WsStream<NotClone>), HANDLE);
    assert_eq!(traits!(WsStream<Good, NotSync>), "Send Clone Unpin");
    assert_eq!(traits!(SessionRateLimit<NotSync>), "Send Clone Unpin");
    assert_eq!(traits!(RemoteCommandService<NotClone>), HANDLE);
    assert_eq!(traits!(PortForward<NotClone>), HANDLE);
    assert_eq!(traits!(PortForwardFuture<Good, NotUnpin>), HANDLE);
    assert_eq!(traits!(SessionLimit<NotSync, NotSync>), "Send Clone Unpin");
    // The answer boxes the future that waits for the inner service.
    assert_eq!(traits!(WsStreamFuture<Done, NotUnpin>), HANDLE);
    assert_eq!(traits!(WsStreamFuture<NotUnpin, Good>), "Send Sync");
}
