//! Sessions: their configuration, their handle, and what becomes of them.
//!
//! | type | role |
//! |---|---|
//! | [`SessionConfig`], [`AcceptMode`] | every setting of a layer's sessions |
//! | [`Session`] | the handle of one session: accept, close, wait for the end |
//! | [`Hold`] | keeps early output back until the peer is seen to read |
//! | [`LastWords`], [`Outcome`] | the message that goes last, and the outcome that it reports |
//! | [`Sessions`], [`Drained`], [`SessionInfo`] | all sessions of some layers: counted, listed, drained |
//! | [`SessionSummary`], [`ChannelSummary`], [`Traffic`] | the end of a session, for metrics and audits |
//! | [`Peer`] | a name for the client, for lists and logs |
//! | [`CloseError`], [`CloseReason`] | the code and the reason of a Close frame |
//!
//! The causes of an end are those of [`EndCause`](crate::EndCause). The policies of a session are in
//! [`policy`](crate::policy).

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
