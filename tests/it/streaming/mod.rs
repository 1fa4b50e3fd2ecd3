//! Sessions over SPDY: the handshake, and the layers that offer it.

mod servers;
