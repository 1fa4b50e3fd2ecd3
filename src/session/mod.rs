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
//!
//! # Examples
//!
//! The sessions of a process: listed on a page for operators, and reported when they end.
//!
//! ```
//! use http::StatusCode;
//! use tower_wsstream::{
//!     ChannelProtocols, ChannelType, SessionConfig, Sessions, WsStreamLayer,
//!     session::{SessionInfo, SessionSummary, Traffic},
//! };
//!
//! fn line(it: &SessionInfo) -> String {
//!     let peer = it.peer.as_ref().map_or("-", |peer| peer.as_str());
//!     let Traffic { bytes, .. } = it.received;
//!     format!("{} {peer} {} {:?} {bytes} B", it.session.id(), it.subprotocol, it.age)
//! }
//!
//! fn report(end: &SessionSummary) {
//!     println!("{} {} after {:?}", end.id, end.cause.name(), end.duration);
//!     println!("{} B in, {} B out", end.received().bytes, end.sent().bytes);
//!     for (channel, traffic) in end.channels.iter().enumerate() {
//!         println!("channel {channel}: {} messages in", traffic.received.messages);
//!     }
//! }
//!
//! # fn main() -> Result<(), tower_wsstream::ConfigError> {
//! let sessions = Sessions::default();
//! let config = SessionConfig::default().sessions(sessions.clone()).on_end(report);
//! let protocols = ChannelProtocols::standard([ChannelType::ReadWrite])?;
//! let layer = WsStreamLayer::new(protocols).config(config);
//!
//! // The page for operators, and its button.
//! let page: Vec<String> = sessions.list().iter().map(line).collect();
//! for it in sessions.list() {
//!     it.session.close(4000, "an operator has ended this session").expect("4000 may be sent");
//! }
//! # let _ = (layer, page, StatusCode::OK);
//! # Ok(())
//! # }
//! ```

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
