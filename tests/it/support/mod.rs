//! Helpers that several areas use.

pub(crate) mod child;
pub(crate) mod handshake;
#[cfg(feature = "http2")]
pub(crate) mod http2;
#[cfg(feature = "testing")]
pub(crate) mod logs;
pub(crate) mod random;
pub(crate) mod raw;
