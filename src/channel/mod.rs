//! The channels of a session, as handles for the inner service.
//!
//! | handle | what it is |
//! |---|---|
//! | [`ChannelSet`] | all channels of a session; the request of the inner service |
//! | [`ChannelReader`], [`ChannelWriter`] | the two sides of a channel: `AsyncBufRead` and `AsyncWrite` |
//! | [`Channel`] | both sides in one |
//! | [`ChannelStream`], [`ChannelSink`] | the two sides as `Stream` and `Sink` |
//! | [`tap`] | a recording of what the service reads and writes |

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
