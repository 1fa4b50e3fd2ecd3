//! The only code that drives the socket.

mod closing;
mod consequences;
mod driver;
mod due;
mod reading;
mod service;
mod steps;
mod task;
mod timer;
mod upgrade;
mod watch;

pub(crate) use self::{
    driver::{Driver, DriverParts},
    service::{Erased, ServiceState},
    task::Task,
};
