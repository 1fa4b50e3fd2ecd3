//! The channels of one session, as its service gets them.
//!
//! | type | role |
//! |---|---|
//! | [`ChannelSet`] | the request of the inner service: all channels, by number |
//! | [`ChannelReader`] | one inbound channel, as an `AsyncRead`; EOF only when the peer has ended it |
//! | [`ChannelWriter`] | one outbound channel, as an `AsyncWrite` with backpressure |
//! | [`Channel`] | both directions of one channel, to read and write like a socket |
//! | [`ChannelStream`], [`ChannelSink`] | a reader as a `Stream`, a writer as a `Sink`, without copies |
//! | [`tap`] | a layer that records what the channels carry |
//!
//! The commands and ports of Kubernetes come with their channels by name: see
//! [`remotecommand`](crate#what-there-is) and [`portforward`](crate#what-there-is). The session
//! around the channels is a [`Session`](crate::Session).

mod adapters;
mod duplex;
mod reader;
mod set;
pub mod tap;
mod writer;

pub use self::{
    adapters::{ChannelSink, ChannelStream},
    duplex::Channel,
    reader::ChannelReader,
    set::ChannelSet,
    writer::ChannelWriter,
};
