//! Taps: audit and recording of the data on a session's channels.
//!
//! ```text
//!  WsStreamLayer
//!    TapLayer::new(which)         `which` returns a Tap, or None, for each session
//!      your Service<ChannelSet>   reads and writes as usual  ---> TapReader, in a task of yours
//! ```
//!
//! A [`TapLayer`] wraps a `Service<ChannelSet>`. It belongs inside of
//! [`WsStreamLayer`](crate::WsStreamLayer), and outside of `RemoteCommandLayer` if there is one. It
//! sees the data of channels as the service does, reassembled, and decoded on base64 subprotocols:
//!
//! * Inbound bytes are recorded when the service takes them from a
//!   [`ChannelReader`](crate::ChannelReader) by any kind of read. For `fill_buf`, this is when they
//!   are consumed. Bytes that the service never reads are not recorded.
//! * Outbound bytes are recorded when a [`ChannelWriter`](crate::ChannelWriter) has accepted them,
//!   by `write`, [`send`](crate::ChannelWriter::send) or as a sink.
//!   [Last words](crate::Session::say_last), among them the Status of a command, are not recorded,
//!   because no writer of the service sends them.
//!
//! A record holds exactly the bytes that were taken or accepted, even if futures are dropped
//! halfway. The records of one side of a channel are in order. Across channels, a record comes
//! after those of the reads and writes that led to it. If there are several layers, each records
//! independently of the others. A layer does not record handles that a layer further out has taken.
//! A session without a tap checks an empty `Option` in each read and write.
//!
//! # When the queue is full
//!
//! Records wait in a queue for their [`TapReader`]. The queue is full once it holds as many bytes
//! as its capacity. Each record counts 128 bytes on top of its payload. One that shares the memory
//! of a [stream](crate::ChannelReader::into_stream) counts the 16 KiB that it keeps from being
//! freed. The queue exceeds its capacity by at most one record for each handle. While it is full:
//!
//! | | reads and writes | records | a slow `TapReader` |
//! |---|---|---|---|
//! | [`Overflow::Backpressure`] | are pending, with nothing taken or accepted | are complete | slows down the session, and eventually its peer |
//! | [`Overflow::Lossy`] | continue | are lost, and counted in the next one | learns how much it has missed |
//!
//! A write that waits for room in the queue fails at the end of the session, like one that waits
//! for the peer. Bytes that arrived before the end can still be read once there is room to record
//! them. If the [`TapReader`] is dropped, the session continues without recording.
//!
//! # Port-forward
//!
//! Outside of a `PortForwardLayer`, a tap sees channel `2i` for the data of the port with the index
//! `i`, and channel `2i + 1` for its errors. What that layer sends is recorded as well: the number
//! of the port, which is the first message on both, and the text of an error.
//!
//! In a tunnel, which the feature `spdy` adds, `i` is the index of a connection. No message says to
//! which port it goes, and a later connection has the number again, without a record of where one
//! ends and the other begins. To tell connections apart, note the `port`, the `index` and the
//! `request_id()` of each `ForwardedPort` in the service.
//!
//! # The end
//!
//! [`Record::End`] is the last record. It comes when the session has ended and no handle is left
//! that could add another record: each was dropped, shut down, or read to its end. A task that
//! keeps a handle therefore delays the end of the records.
//!
//! # Examples
//!
//! This audit records everything. (`examples/asciicast.rs` writes recordings that can be played.)
//!
//! ```
//! use tower::ServiceBuilder;
//! use tower_wsstream::{
//!     BoxError, ChannelSet, WsStreamLayer,
//!     remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
//!     channel::tap::{Direction, Overflow, Payload, Record, Tap, TapLayer, TapReader},
//! };
//!
//! fn line(it: &Payload) -> String {
//!     let arrow = match it.direction {
//!         Direction::Inbound => '<',
//!         Direction::Outbound => '>',
//!     };
//!     format!("{arrow} {} {}", it.channel, it.bytes.escape_ascii())
//! }
//!
//! async fn audit(session: u64, mut records: TapReader) {
//!     while let Some(record) = records.next().await {
//!         match record {
//!             Record::Payload(it) => println!("{session} {}", line(&it)),
//!             Record::End(end) => println!("{session} {}", end.cause),
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
//!     channel::tap::{Overflow, Tap, TapLayer, TapReader},
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
#[cfg(feature = "spdy")]
mod taps;

#[cfg(feature = "spdy")]
pub(crate) use self::taps::Taps;
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
