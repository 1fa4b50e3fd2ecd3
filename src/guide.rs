//! Guides to the parts of a server that no single type explains.
//!
//! Pages for a task begin with an example, customise it, and say what to know and where to go next:
//!
//! | page | for |
//! |---|---|
//! | [`exec`] | commands: processes, terminals, exit codes, attach |
//! | [`logs`] | logs and other streams that only the server writes |
//! | [`port_forward`] | TCP connections, of kubectl and of clients for channels |
//! | [`auth`] | tokens, users, browsers, authorisation |
//! | [`policies`] | settings that differ by layer, route and request; the parameters of a path |
//! | [`draining`] | shutdowns and rolling updates |
//! | [`testing`] | tests of a service, in memory and in paused time |
//! | [`proxies`] | servers behind an API server or a proxy |
//! | [`kubelet`] | the endpoints of a kubelet |
//! | [`cri`] | the streaming server of a container runtime |
//! | [`from_go`] | Go's `httpstream/wsstream`, name by name |
//!
//! Pages for reference:
//!
//! | page | answers |
//! |---|---|
//! | [`channels`] | what the protocol is: messages, channels, flow control, the end of a channel |
//! | [`layers`] | where a layer belongs, and in which order |
//! | [`errors`] | what an error of the service becomes, for clients, kubectl and browsers |
//! | [`ends`] | what both sides see of each end of a session, on each subprotocol and transport |
//! | [`time`] | which deadlines a session has, and what happens when one expires |
//! | [`serving`] | what the HTTP server has to do; shutdown, HTTP/2, logs, and a server to copy |
//! | [`balancing`] | replicas behind HAProxy, nginx and in Kubernetes: configurations and figures |
//! | [`costs`] | how a byte travels, and what a message costs |
//! | [`promises`] | what holds, whatever the peer does |
//! | [`reliability`] | what attacks cost, in figures; how long a kubectl lives whose input is not read; what fuzzing and random sessions have found |
//!
//! Most examples stand in the body of a function, and stop at a service or an axum `Router`. To make a
//! program of one, put the functions and types into a file, the rest into a `main` as that of
//! [the example server](crate#example-server), and serve the result as it does: a `Router` with
//! `axum::serve`, a service behind `Router::route_service`.
//!
//! This module exists in the documentation only.

pub mod exec {
    #![doc = include_str!("docs/exec.md")]
    use crate::*;
}

pub mod logs {
    #![doc = include_str!("docs/logs.md")]
    use crate::*;
}

pub mod port_forward {
    #![doc = include_str!("docs/port_forward.md")]
    use crate::*;
}

pub mod auth {
    #![doc = include_str!("docs/auth.md")]
    use crate::*;
}

pub mod draining {
    #![doc = include_str!("docs/draining.md")]
    use crate::*;
}

pub mod testing {
    #![doc = include_str!("docs/testing.md")]
    use crate::*;
}

pub mod proxies {
    #![doc = include_str!("docs/proxies.md")]
    use crate::*;
}

pub mod kubelet {
    #![doc = include_str!("docs/kubelet.md")]
    use crate::*;
}

pub mod cri {
    #![doc = include_str!("docs/cri.md")]
    use crate::*;
}

pub mod from_go {
    #![doc = include_str!("docs/from_go.md")]
    use crate::*;
}

pub mod channels {
    #![doc = include_str!("docs/channels.md")]
    use crate::*;
}

pub mod layers {
    #![doc = include_str!("docs/layers.md")]
    use crate::*;
}

pub mod errors {
    #![doc = include_str!("docs/errors.md")]
    use crate::*;
}

pub mod ends {
    #![doc = include_str!("docs/ends.md")]
    use crate::*;
}

pub mod time {
    #![doc = include_str!("docs/time.md")]
    use crate::*;
}

pub mod policies {
    #![doc = include_str!("docs/policies.md")]
    use crate::*;
}

pub mod serving {
    #![doc = include_str!("docs/serving.md")]
    //! ```
    #![doc = include_str!("../examples/support/serve.rs")]
    //! # use tower::ServiceBuilder;
    //! # use tower_wsstream::{ChannelProtocols, ChannelSet, ChannelType, WsStreamLayer};
    //! # async fn greet(channels: ChannelSet) -> Result<(), BoxError> { Ok(()) }
    //!
    //! #[tokio::main]
    //! async fn main() -> Result<(), BoxError> {
    //!     let sessions = Sessions::default();
    //!     let protocols = ChannelProtocols::standard([ChannelType::Read, ChannelType::Write])?;
    //!     let app = ServiceBuilder::new()
    //!         .layer(WsStreamLayer::new(protocols).sessions(sessions.clone()))
    //!         .service_fn(greet);
    //!     let listener = TcpListener::bind("127.0.0.1:0").await?;
    //!     // In a real server: tokio::signal::ctrl_c().
    //!     let stop = sleep(Duration::from_millis(1));
    //!     serve(listener, app, sessions, stop).await;
    //!     Ok(())
    //! }
    //! ```
    use crate::*;
}

pub mod balancing {
    #![doc = include_str!("docs/balancing.md")]
    //! # HAProxy
    //!
    //! `examples/balanced/haproxy.cfg`:
    //!
    //! ```text
    #![doc = include_str!("../examples/balanced/haproxy.cfg")]
    //! ```
    //!
    //! # nginx
    //!
    //! `examples/balanced/nginx.conf`:
    //!
    //! ```text
    #![doc = include_str!("../examples/balanced/nginx.conf")]
    //! ```
    //!
    //! # Kubernetes
    //!
    //! `examples/balanced/deployment.yaml`:
    //!
    //! ```text
    #![doc = include_str!("../examples/balanced/deployment.yaml")]
    //! ```
    use crate::*;
}

pub mod costs {
    #![doc = include_str!("docs/costs.md")]
    #![doc = include_str!("../benches/plot.svg")]
    use crate::*;
}

pub mod promises {
    #![doc = include_str!("docs/promises.md")]
    use crate::*;
}

pub mod reliability {
    #![doc = include_str!("docs/reliability.md")]
    use crate::*;
}
