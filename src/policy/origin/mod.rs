//! Which web pages may connect: RFC 6455, 10.2; RFC 6454.
//!
//! | file | what is in it |
//! |---|---|
//! | `policy` | the policy, how it is built, and its decision |
//! | `asked` | a request as a policy sees it: its page and its host |
//! | `site`, `pattern` | where a page comes from, and an entry of an allow-list |
//! | `refusal` | what a client and the log are told |

mod asked;
mod pattern;
mod policy;
mod refusal;
mod site;

#[cfg(test)]
mod tests;

pub use self::policy::OriginPolicy;
