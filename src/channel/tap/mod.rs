//! Taps: audit and recording of what a session's channels carry.
//!
//! ```text
//!  WsStreamLayer
//!    TapLayer::new(which)         called once for each session: a Tap, or None
//!      your Service<ChannelSet>   reads and writes as usual  ---> TapReader, in a task of yours
//! ```
//!
//! A [`TapLayer`] wraps a `Service<ChannelSet>`: inside of
//! [`WsStreamLayer`](crate::WsStreamLayer), and outside of `RemoteCommandLayer` if there is one.
//! It sees channels as the service does, reassembled, and decoded on base64 subprotocols:
//!
//! * Inbound bytes are recorded when the service takes them from a
//!   [`ChannelReader`](crate::ChannelReader), by any kind of read; for `fill_buf` when they are
//!   consumed. Bytes that it never reads are not recorded.
//! * Outbound bytes are recorded when a [`ChannelWriter`](crate::ChannelWriter) has accepted
//!   them, by `write`, [`send`](crate::ChannelWriter::send) or as a sink.
//!   [Last words](crate::Session::say_last), and so the Status of a command, are not written by
//!   the service, and the tap does not see them.
//!
//! A record stands for exactly the bytes that were taken or accepted, even if futures are
//! dropped in the middle. Records of one side of a channel are in its order. Across channels, a
//! record is always behind those of the reads and writes that led to it. Several layers record
//! independently of each other, and handles that a layer further out has taken are not
//! recorded. A session without a tap checks an empty `Option` in each read and write.
//!
//! # A queue that is full
//!
//! Records wait in a queue for their [`TapReader`]. It is full once it holds its capacity in
//! bytes. Each record counts 128 bytes on top of its payload, and one that shares the memory of
//! a [stream](crate::ChannelReader::into_stream) counts the 16 KiB that it keeps from being
//! freed. The queue passes its capacity by at most one record for each handle. Then:
//!
//! | | reads and writes | records | a slow `TapReader` |
//! |---|---|---|---|
//! | [`Overflow::Backpressure`] | are pending, with nothing taken or accepted | are complete | slows down the session, and in the end its peer |
//! | [`Overflow::Lossy`] | continue | are lost, and counted in the next one | learns how much it has missed |
//!
//! A waiting write fails at the end of the session, as it would if it waited for the peer.
//! Bytes that arrived before the end can be read once they can be recorded. Dropping the
//! [`TapReader`] lets the session continue without recording.
//!
//! # The end
//!
//! [`Record::End`] is the last record. It comes when the session has ended and no handle is left
//! that could add another: each was dropped, shut down, or read to its end. So a task that keeps
//! a handle also keeps the tap from its end.
//!
//! # Examples
//!
//! An audit records everything. (`examples/asciicast.rs` writes recordings that can be played.)
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
//! This one records terminals only, with room for 4 MiB, and never makes a session wait.
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

mod future;
mod layer;
mod reader;
mod record;
mod records;
mod service;
mod tap;
mod tapped;

pub use self::{
    future::TapFuture,
    layer::TapLayer,
    reader::TapReader,
    record::{Direction, End, Lost, Payload, Record},
    records::Overflow,
    service::TapService,
    tap::Tap,
};
pub(super) use self::{records::Records, tapped::Tapped};
