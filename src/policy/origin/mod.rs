//! Which pages may connect.

mod policy;
mod site;

pub use self::policy::OriginPolicy;
