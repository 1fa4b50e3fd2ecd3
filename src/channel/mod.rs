//! The channels of a session, as its service receives them.
//!
//! | type | role |
//! |---|---|
//! | [`ChannelSet`] | the request of the inner service: all channels, by number |
//! | [`ChannelReader`] | one inbound channel, as an `AsyncRead`; EOF only when the peer has ended it |
//! | [`ChannelWriter`] | one outbound channel, as an `AsyncWrite` with backpressure |
//! | [`Channel`] | both directions of one channel, read and written like a socket |
//! | [`ChannelStream`], [`ChannelSink`] | a reader as a `Stream`, a writer as a `Sink`, both without copies of large data |
//! | [`tap`] | a layer that records the data of the channels |
//!
//! For the commands and ports of Kubernetes, the channels have names: see
//! [`remotecommand`](crate#what-there-is) and [`portforward`](crate#what-there-is). The session
//! that the channels belong to is a [`Session`](crate::Session).
//!
//! # Examples
//!
//! One handle for each direction, as bytes, as a stream of chunks, and as a sink of messages:
//!
//! ```
//! use futures_util::{SinkExt, StreamExt};
//! use tokio::io::AsyncWriteExt;
//! use tower_wsstream::{BoxError, ChannelSet};
//!
//! /// Sends channel 0 back on channel 1, and what arrives on channel 3 on that one itself.
//! async fn session(mut channels: ChannelSet) -> Result<(), BoxError> {
//!     let mut input = channels.take_reader(0).ok_or("no readable channel 0")?;
//!     let mut output = channels.take_writer(1).ok_or("no writable channel 1")?;
//!     let (from, to) = channels.take(3).ok_or("no channel 3")?.into_split();
//!
//!     let echoed = async {
//!         tokio::io::copy_buf(&mut input, &mut output).await?;
//!         output.shutdown().await?;
//!         Ok::<_, BoxError>(())
//!     };
//!     let copied = async {
//!         let (Some(from), Some(to)) = (from, to) else {
//!             return Err("channel 3 is not for both directions".into());
//!         };
//!         let (mut from, mut to) = (from.into_stream(), to.into_sink());
//!         while let Some(chunk) = from.next().await {
//!             to.send(chunk?).await?;
//!         }
//!         Ok(())
//!     };
//!     tokio::try_join!(echoed, copied)?;
//!     Ok(())
//! }
//! # let _ = session;
//! ```

mod adapters;
mod duplex;
mod reader;
mod set;
pub mod tap;
mod writer;

#[cfg(all(feature = "spdy", feature = "portforward"))]
pub(crate) use self::set::TappedPairs;
pub use self::{
    adapters::{ChannelSink, ChannelStream},
    duplex::Channel,
    reader::ChannelReader,
    set::ChannelSet,
    writer::ChannelWriter,
};
