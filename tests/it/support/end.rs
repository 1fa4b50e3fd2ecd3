//! The end of a channel, as its reader sees it.

use std::io;

use tokio::io::AsyncReadExt;
use tower_wsstream::{ChannelReader, EndCause};

/// How a channel ended for its reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Eof,
    Error(io::ErrorKind, EndCause),
}

impl End {
    /// What an error says: its kind, and its cause in words.
    pub(crate) fn of(error: &io::Error) -> Self {
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref());
        let cause: &EndCause = cause.expect("the cause is the payload");
        Self::Error(error.kind(), cause.clone())
    }
}

/// Reads all there is, and how it ended; a second read must say the same.
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
