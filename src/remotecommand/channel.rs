//! The channel numbers of exec and attach, which are the same on every subprotocol.
//!
//! They are for clients and tests. A service gets its channels by name, as the fields of a
//! [`RemoteCommand`](super::RemoteCommand).
//!
//! | constant | number | direction | data |
//! |---|---|---|---|
//! | [`STDIN`] | 0 | to the server | input |
//! | [`STDOUT`] | 1 | to the client | output |
//! | [`STDERR`] | 2 | to the client | error output, except with a terminal |
//! | [`ERROR`] | 3 | to the client | the outcome, as the last message |
//! | [`RESIZE`] | 4 | to the server | the sizes of the client's terminal |

/// The channel of the client's input.
pub const STDIN: u8 = 0;

/// The channel of the output.
pub const STDOUT: u8 = 1;

/// The channel of the error output.
pub const STDERR: u8 = 2;

/// The channel of the outcome: a [`Status`](crate::Status), or its text on old subprotocols.
pub const ERROR: u8 = 3;

/// The channel of the terminal's sizes, as JSON: `{"Width":80,"Height":24}`.
pub const RESIZE: u8 = 4;
