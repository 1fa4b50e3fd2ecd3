//! The configuration of a layer's sessions: every setting, with its default and the reason for it.

mod accept_mode;
mod config;
mod map_rejection;

pub use self::{accept_mode::AcceptMode, config::SessionConfig};
