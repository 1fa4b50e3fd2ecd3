//! Made from `runtime.proto`, which says how.
#![allow(dead_code, reason = "the client is for the tests alone")]
#![allow(unreachable_pub, reason = "generated code is for a crate of its own")]

include!("runtime.v1.rs");
