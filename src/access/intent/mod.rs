//! The kind of upgrade that a request asks for, as an extension for authorisation.

mod intent;
mod layer;
mod service;

#[cfg(test)]
mod tests;

pub use self::{intent::UpgradeIntent, layer::UpgradeIntentLayer, service::UpgradeIntentService};
