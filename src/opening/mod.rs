//! The opening of a session, from the request for an upgrade to its answer.
//!
//! | file | step |
//! |---|---|
//! | `agreement` | checks the head, and selects the subprotocol |
//! | `accepting` | waits for the service, calls and polls it, and answers the request |
//! | `assembly` | makes the parts of the session, before the service is called |
//!
//! The rules for the head are in `handshake`. Nothing is spawned before the answer, so dropping an
//! [`Accepting`] leaves nothing behind.

mod accepting;
mod agreement;
mod assembly;
mod exclusive;
mod patience;

pub(crate) use self::{
    accepting::{Accepting, SERVICE},
    agreement::{Agreement, Proposal},
};
