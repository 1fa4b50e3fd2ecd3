//! Code that was generated from `runtime.proto`, which says how.
#![allow(dead_code, reason = "only the tests use the client")]
#![allow(
    clippy::enum_variant_names,
    reason = "the names are those of the interface"
)]
#![allow(unreachable_pub, reason = "generated code is for a crate of its own")]

include!("runtime.v1.rs");
