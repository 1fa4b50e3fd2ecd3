//! From a request for an upgrade to its answer.
//!
//! | step | file |
//! |---|---|
//! | the head is judged, and the subprotocol selected | `agreement` |
//! | the service is waited for, called and polled, and the request answered | `accepting` |
//! | on the way, the parts of the session are made | `assembly` |
//!
//! The rules of the head are in `handshake`. Nothing is spawned before the answer, so dropping
//! an [`Accepting`] leaves nothing behind.

mod accepting;
mod agreement;
mod assembly;
mod exclusive;
mod patience;

pub(crate) use self::{
    accepting::{Accepting, SERVICE},
    agreement::{Agreement, Proposal},
};
