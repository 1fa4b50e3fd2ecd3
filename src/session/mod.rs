//! Sessions: their configuration, their handles, and their end.
//!
//! | type | role |
//! |---|---|
//! | [`SessionConfig`], [`AcceptMode`] | the settings of a layer's sessions |
//! | [`Session`] | the handle of one session: accept, close, wait for the end |
//! | [`Hold`] | holds early output until there is proof that the peer reads |
//! | [`LastWords`], [`Outcome`] | the last message, and the outcome that it reports |
//! | [`Sessions`], [`Drained`], [`SessionInfo`] | the sessions of one or more layers, to count, list and drain them |
//! | [`SessionSummary`], [`ChannelSummary`], [`Traffic`] | the report of a session that has ended, for metrics and audits |
//! | [`Peer`] | the name of a client, for lists and logs |
//! | [`CloseError`], [`CloseReason`] | the code and the reason of a Close frame |
//!
//! [`EndCause`](crate::EndCause) says why a session ended. The policies of a session are in
//! [`policy`](crate::policy).

mod close_error;
mod config;
mod handle;
mod hold;
mod inbox;
mod info;
mod kept;
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
