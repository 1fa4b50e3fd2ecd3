//! The only code that drives the socket.

mod closing;
mod consequences;
mod driver;
mod reading;
mod task;
mod upgrade;

pub(crate) use self::{
    driver::{Driver, DriverParts},
    task::{Erased, ServiceState, Task},
};
