//! The handles of the inner service: the channels of one session.

mod adapters;
mod duplex;
mod reader;
mod record;
mod records;
mod set;
mod tapped;
mod writer;

pub(crate) use self::records::{Next, Records};
pub use self::{
    adapters::{ChannelSink, ChannelStream},
    duplex::Channel,
    reader::ChannelReader,
    record::{Direction, End, Lost, Payload, Record},
    records::Overflow,
    set::ChannelSet,
    writer::ChannelWriter,
};
