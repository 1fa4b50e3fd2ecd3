//! Guides to the parts of a server that no single type explains.
//!
//! | page | answers |
//! |---|---|
//! | [`channels`] | what the protocol is: messages, channels, flow control, the end of a channel |
//! | [`layers`] | where a layer belongs, and in which order |
//! | [`errors`] | what an error of the service becomes, for clients, kubectl and browsers |
//! | [`ends`] | what both sides see of each end of a session, on each subprotocol and transport |
//! | [`time`] | which deadlines a session has, and what happens when one expires |
//! | [`policies`] | how settings differ by layer, route and request; the parameters of a path |
//! | [`serving`] | what the HTTP server has to do; shutdown, HTTP/2, logs, and a server to copy |
//! | [`balancing`] | replicas behind HAProxy, nginx and in Kubernetes: configurations and figures |
//! | [`costs`] | how a byte travels, and what a message costs |
//! | [`promises`] | what holds, whatever the peer does |
//! | [`reliability`] | what attacks cost, in figures; how long a kubectl lives whose input is not read; what fuzzing and random sessions have found |
//!
//! This module exists in the documentation only.

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
