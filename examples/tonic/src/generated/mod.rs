//! Code that was generated from `runtime.proto`, which says how.
#![allow(dead_code, reason = "only the tests use the client")]
#![allow(unreachable_pub, reason = "generated code is for a crate of its own")]

include!("runtime.v1.rs");
