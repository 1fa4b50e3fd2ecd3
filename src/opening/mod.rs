//! From a valid request for an upgrade to its answer.

mod accepting;
mod agreement;
mod answering;

pub(crate) use self::{
    accepting::{Accepting, Patience, SERVICE},
    agreement::{Agreed, Handshake, Valid},
    answering::Answering,
};
