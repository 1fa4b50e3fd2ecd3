//! A small web server, in the place of images that hold one.

use std::{io, process::ExitStatus};

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tower_wsstream::Sessions;

use crate::{node::Sandbox, serve};

/// The port of a sandbox that names none.
const PORT: u16 = 80;

pub(crate) struct WebServer {
    listeners: Vec<TcpListener>,
}

impl WebServer {
    /// Listens on the ports of the sandbox.
    pub(crate) async fn start(sandbox: &Sandbox) -> io::Result<Self> {
        let ports = sandbox.config.port_mappings.iter();
        let ports = ports.filter_map(|mapping| u16::try_from(mapping.container_port).ok());
        let mut ports: Vec<_> = ports.collect();
        if ports.is_empty() {
            ports.push(PORT);
        }
        let mut listeners = Vec::new();
        for port in ports {
            let listener = TcpListener::bind((sandbox.address, port)).await;
            listeners.push(listener.map_err(|error| {
                let address = sandbox.address;
                io::Error::new(
                    error.kind(),
                    format!("listening on {address}:{port}: {error}"),
                )
            })?);
        }
        Ok(Self { listeners })
    }

    /// Serves a page until it is dropped. The connections are told of that, and end behind the
    /// answers that they are sending.
    pub(crate) async fn serve(self) -> ExitStatus {
        let app = Router::new().route("/", get(async || "Welcome to nginx!\n"));
        let mut servers = Vec::new();
        for listener in self.listeners {
            let never = std::future::pending::<()>();
            servers.push(serve::serve(
                listener,
                app.clone(),
                Sessions::default(),
                never,
            ));
        }
        futures_util::future::join_all(servers).await;
        ExitStatus::default()
    }
}
