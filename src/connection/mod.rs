//! The only code that drives the socket.

mod closing;
mod consequences;
mod driver;
mod reading;
mod service;
mod task;
mod timer;
mod upgrade;

pub(crate) use self::{
    driver::{Driver, DriverParts},
    service::{Erased, ServiceState},
    task::Task,
};
