//! The task of a session: the only code that reads the socket and decides on its end.

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
