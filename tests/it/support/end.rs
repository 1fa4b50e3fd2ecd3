//! The end of a channel, as the reader sees it.

use std::io;

use tokio::io::AsyncReadExt;
use tower_wsstream::{ChannelReader, EndCause};

/// The end of a channel, as the reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Eof,
    Error(io::ErrorKind, EndCause),
}

impl End {
    /// Returns the end that an error stands for: its kind, and its cause.
    pub(crate) fn of(error: &io::Error) -> Self {
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref());
        let cause: &EndCause = cause.expect("the cause is the payload");
        Self::Error(error.kind(), cause.clone())
    }
}

/// Reads to the end. A second read must end in the same way.
pub(crate) async fn read_out(reader: &mut ChannelReader) -> (Vec<u8>, End) {
    let mut all = Vec::new();
    let end = match reader.read_to_end(&mut all).await {
        Ok(_) => End::Eof,
        Err(error) => End::of(&error),
    };
    let again = match reader.read(&mut [0; 8]).await {
        Ok(n) => {
            assert_eq!(n, 0, "bytes behind the end");
            End::Eof
        }
        Err(error) => End::of(&error),
    };
    assert_eq!(again, end, "an end stays what it was");
    (all, end)
}

/// Returns the cause that an error of a handle carries.
pub(crate) fn cause(error: &io::Error) -> &EndCause {
    let inner = error.get_ref().expect("the cause is the payload");
    inner.downcast_ref().expect("the cause is the payload")
}
