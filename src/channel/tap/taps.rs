use std::sync::Arc;

use super::records::Records;
use crate::channel::{ChannelReader, ChannelWriter};

/// The taps of a session whose handles do not exist yet.
///
/// They are sources of their recordings, so that no recording ends while there may be handles.
#[derive(Default)]
pub(crate) struct Taps {
    sources: Vec<Source>,
}

struct Source {
    records: Arc<Records>,
    place: usize,
}

impl Taps {
    /// Adds the tap of another layer.
    pub(in crate::channel) fn add(&mut self, records: &Arc<Records>) {
        self.sources.push(Source {
            records: Arc::clone(records),
            place: records.add_source(),
        });
    }

    /// Attaches all taps to a reader.
    pub(crate) fn attach_reader(&self, reader: &mut ChannelReader) {
        for source in &self.sources {
            reader.tap(&source.records);
        }
    }

    /// Attaches all taps to a writer.
    pub(crate) fn attach_writer(&self, writer: &mut ChannelWriter) {
        for source in &self.sources {
            writer.tap(&source.records);
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.records.remove_source(Some(self.place));
    }
}
