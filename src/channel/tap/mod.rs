//! Taps: audit and recording of what a session's channels carry.
//!
//! ```text
//!  WsStreamLayer
//!    TapLayer::new(which)         asked once a session: a Tap, or None
//!      your Service<ChannelSet>   reads and writes as ever   ---> TapReader, in a task of yours
//! ```
//!
//! A [`TapLayer`] belongs over a `Service<ChannelSet>`: inside of
//! [`WsStreamLayer`](crate::WsStreamLayer), and outside of
//! `RemoteCommandLayer` where there is
//! one. It sees channels as the service does, reassembled, and decoded on base64
//! subprotocols:
//!
//! * inbound bytes when the service takes them from a
//!   [`ChannelReader`](crate::ChannelReader), by whatever kind of read: for
//!   `fill_buf` when they are consumed. What it never reads is not recorded.
//! * outbound bytes when a [`ChannelWriter`](crate::ChannelWriter) has accepted them,
//!   by `write`, [`send`](crate::ChannelWriter::send) or as a sink.
//!   [Last words](crate::Session::say_last), and so the Status of a command, are
//!   no service's writes: of those the tap knows nothing.
//!
//! A record stands for what was taken or accepted, also where futures are dropped in
//! the middle. Records of one channel's side are in its order; across channels what
//! one read or write has caused comes behind it. Several layers record each for
//! itself; handles that a layer further out has taken are not recorded. A session
//! without a tap pays for a look at an empty `Option` in each read and write.
//!
//! # A queue that is full
//!
//! Records wait in a queue for their [`TapReader`]. It is full once it holds its
//! capacity in bytes, each record counting 128 beside its own, and one that shares
//! what a [stream](crate::ChannelReader::into_stream) hands out 16 KiB, which it
//! keeps from being freed. It passes its capacity by at most one record for each
//! handle. Then:
//!
//! | | reads and writes | records | a reader that is slow |
//! |---|---|---|---|
//! | [`Overflow::Backpressure`] | wait: pending, with nothing taken or accepted | all | makes the session slow, its peer in the end |
//! | [`Overflow::Lossy`] | go on | lost, and counted in the next one | is told what it has missed |
//!
//! A write that waits fails at the end of the session, as it would if it waited for
//! the peer. Bytes that came before the end are read when they can be recorded.
//! Dropping the [`TapReader`] lets everybody go on, unrecorded.
//!
//! # The end
//!
//! [`Record::End`] is the last one. It comes when the session has ended and no handle
//! is left that could add to it: each was dropped, shut down, or read to its end. So a
//! service that leaves handles with tasks that keep them also keeps the tap from its
//! end.
//!
//! # Examples
//!
//! Everything, for an audit; `examples/asciicast.rs` writes recordings that can be
//! played.
//!
//! ```
//! use tower::ServiceBuilder;
//! use tower_wsstream::{
//!     BoxError, ChannelSet, WsStreamLayer,
//!     remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
//!     tap::{Overflow, Record, Tap, TapLayer, TapReader},
//! };
//!
//! async fn audit(session: u64, mut records: TapReader) {
//!     while let Some(record) = records.next().await {
//!         match record {
//!             Record::Payload(it) => println!("{session}: {:?} {}", it.direction, it.channel),
//!             Record::End(end) => println!("{session}: {}", end.cause),
//!             _ => {}
//!         }
//!     }
//! }
//!
//! fn watched(channels: &ChannelSet) -> Option<Tap> {
//!     let (tap, records) = Tap::new(Overflow::Backpressure);
//!     tokio::spawn(audit(channels.session().id(), records));
//!     Some(tap)
//! }
//!
//! let service = ServiceBuilder::new()
//!     .layer(WsStreamLayer::new(Protocols::default()))
//!     .layer(TapLayer::new(watched))
//!     .layer(RemoteCommandLayer::new())
//!     .service_fn(async |_: RemoteCommand| Ok::<_, BoxError>(ExitStatus::success()));
//! # let _ = service;
//! ```
//!
//! Terminals alone, with room for 4 MiB, and nobody waits for the recorder.
//!
//! ```
//! use tokio::sync::mpsc;
//! use tower_wsstream::{
//!     ChannelSet,
//!     remotecommand::Options,
//!     tap::{Overflow, Tap, TapLayer, TapReader},
//! };
//!
//! let (recordings, _recorder) = mpsc::unbounded_channel::<TapReader>();
//! let layer = TapLayer::new(move |channels: &ChannelSet| {
//!     let query = channels.request()?.uri.query()?;
//!     if !Options::from_query(query).ok()?.tty {
//!         return None;
//!     }
//!     let (tap, records) = Tap::with_capacity(Overflow::Lossy, 4 << 20);
//!     recordings.send(records).ok()?;
//!     Some(tap)
//! });
//! # let _ = layer;
//! ```

mod layer;
mod reader;
mod record;
mod records;
mod tapped;

pub use self::{
    layer::{TapFuture, TapLayer, TapService},
    reader::{Tap, TapReader},
    record::{Direction, End, Lost, Payload, Record},
    records::Overflow,
};
pub(super) use self::{records::Records, tapped::Tapped};
