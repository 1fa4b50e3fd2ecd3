//! The log of a test's own thread.
//!
//! `tracing` decides once for the whole process whether an event is of interest, so the tests
//! share one subscriber. It sees an event only if the thread of that event captures its log.

use std::{
    cell::RefCell,
    io::{self, Write},
    sync::Once,
};

use tracing_subscriber::{
    filter::dynamic_filter_fn, fmt::format::FmtSpan, layer::SubscriberExt, util::SubscriberInitExt,
};

thread_local! {
    static CAPTURED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Captures the log of this thread from now on, and discards everything captured before.
pub(crate) fn capture() {
    static SUBSCRIBER: Once = Once::new();

    SUBSCRIBER.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_span_events(FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(|| Captured)
            .finish()
            .with(dynamic_filter_fn(|_, _| {
                CAPTURED.with_borrow(Option::is_some)
            }))
            .init();
    });
    CAPTURED.set(Some(Vec::new()));
}

/// Returns the log of this thread since [`capture`].
pub(crate) fn captured() -> String {
    let bytes = CAPTURED.with_borrow(Option::clone);
    String::from_utf8(bytes.expect("this thread captures its log")).unwrap()
}

struct Captured;

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        CAPTURED.with_borrow_mut(|captured| {
            if let Some(captured) = captured {
                captured.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
