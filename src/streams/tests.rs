//! A client's frames through the mux and a real wire, up to the bytes that are sent.

mod commands;
mod connections;
mod ends;
mod floods;
mod go_client;
mod pacing;
mod pairs;
mod room;
mod session;

pub(crate) use self::session::Session;
pub(super) use self::session::{control, data_frame, is_over, next, syn, write};
