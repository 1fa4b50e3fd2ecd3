//! One session and all sessions: handles, how a session ends, and the list of those that live.
//!
//! | to | use |
//! |---|---|
//! | wait for the end, or bring it about | [`Session`] |
//! | have the last word in a session | [`Session::say_last`], [`Outcome`], [`LastWords`] |
//! | accept an upgrade after a look-up | [`Session::accept`], [`AcceptMode`] |
//! | keep output back until the client reads | [`Session::hold_output`], [`Hold`] |
//! | count, list and drain sessions | [`Sessions`], [`SessionInfo`], [`Drained`] |
//! | name the client in that list | [`Peer`] |
//! | learn what became of a session | [`SessionSummary`] |

mod close_error;
mod config;
mod handle;
mod hold;
mod inbox;
mod info;
mod last_words;
mod progress;
mod registry;
mod summary;

pub use self::{
    close_error::CloseError,
    config::{AcceptMode, SessionConfig},
    handle::Session,
    hold::Hold,
    info::{Drained, Peer, SessionInfo},
    last_words::{LastWords, Outcome},
    registry::Sessions,
    summary::{ChannelSummary, SessionSummary},
};
pub(crate) use self::{
    registry::{Entry, Registered},
    summary::OnEnd,
};
pub use crate::{close_reason::CloseReason, wire::Traffic};
