//! Which pages may connect.

mod layer;
mod policy;
mod site;

pub use self::{
    layer::{OriginPolicyLayer, OriginPolicyService},
    policy::OriginPolicy,
};
