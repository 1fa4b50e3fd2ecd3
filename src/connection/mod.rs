//! The task of a session. No other code reads the socket, or decides when the session ends.

mod closing;
mod consequences;
mod driver;
mod due;
mod inflow;
mod reading;
mod service;
mod steps;
#[cfg(feature = "spdy")]
mod streams;
mod task;
mod timer;
mod upgrade;
mod watch;

pub(crate) use self::{
    driver::{Driver, DriverParts},
    inflow::Carrier,
    service::{Erased, ServiceState},
    task::Task,
};
