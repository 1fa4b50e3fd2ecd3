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
