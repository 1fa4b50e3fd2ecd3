//! The handles of the inner service: the channels of one session.

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
