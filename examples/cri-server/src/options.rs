//! The options of the command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;

/// Plays a container runtime, as the kubelet, crictl and critest see one.
///
/// Containers are processes of this machine, run by the user that started this program, for every
/// client that can reach the socket or the address.
#[derive(Debug, Parser)]
#[command(
    name = "cri-server",
    after_help = "RUST_LOG filters the log on stderr [default: info].",
    max_term_width = 100
)]
pub(crate) struct Options {
    /// Unix socket for gRPC. It is made anew, and only its owner may connect.
    #[arg(long, value_name = "PATH", default_value = "/tmp/cri-server.sock")]
    pub(crate) socket: PathBuf,

    /// Address and port for streams, and for gRPC as well; port 0 picks a free one. It must be a
    /// loopback address, because it asks for no token.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8006", value_parser = loopback)]
    pub(crate) stream: SocketAddr,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|error| format!("{error}"))?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err("streams are served on loopback only".into()),
    }
}
