//! Who may connect at all: checks of the request head before the handshake.

pub(crate) mod origin;

pub use self::origin::OriginPolicy;
