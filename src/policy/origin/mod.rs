//! The web pages that may connect (RFC 6455, 10.2; RFC 6454).
//!
//! | file | contents |
//! |---|---|
//! | `policy` | the policy, its constructors, and its decision |
//! | `asked` | a request as a policy sees it: its page and its host |
//! | `site`, `pattern` | the origin of a page, and an entry of an allow-list |
//! | `refusal` | the texts for the client and the log |

mod asked;
mod pattern;
mod policy;
mod refusal;
mod site;

#[cfg(test)]
mod tests;

pub use self::policy::OriginPolicy;
