//! An idle tunnel of port-forward costs some KiB, and so does an idle connection through it.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use crate::server::{Server, allow_descriptors, start};

const TUNNELS: u64 = 4_000;

/// The bytes of resident memory that a tunnel without a connection may cost.
const EACH: u64 = 6 * 1024;

/// The bytes that it may cost with one connection.
const EACH_WITH_CONNECTION: u64 = 12 * 1024;

/// The frames with which a kubectl opened its first connection: the error stream and its end, and the
/// data stream.
const FRAMES: [&[u8]; 3] = [
    b"\x80\x03\x00\x01\x00\x00\x00\x3e\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x78\xf9\xe3\xc6\xa7\xc2\
      \x02\x25\x3a\x70\x3a\x2b\x29\x4a\x4d\xcc\x85\x16\x25\xac\xa9\xa0\x80\x86\x14\xcb\x45\xe0\x1c\x60\
      \x69\x60\x60\xc0\xc0\xc0\xc0\x59\x04\x89\xc6\x4c\x50\xf2\x66\x34\x00\x00\x00\x00\xff\xff",
    b"\x00\x00\x00\x01\x01\x00\x00\x00",
    b"\x80\x03\x00\x01\x00\x00\x00\x1a\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x82\x6a\x26\xac\x0a\xd5\
      \x78\x50\x49\x95\x08\x00\x00\x00\xff\xff",
];

/// The bytes of a SYN_REPLY to the first stream and to the second, in one message. In two messages,
/// they have two bytes more.
const REPLIES: usize = 2 + (8 + 4 + 16) + (8 + 4 + 8);

/// Opens a tunnel.
fn tunnel(server: &Server) -> TcpStream {
    server.upgrade("/", "SPDY/3.1+portforward.k8s.io")
}

/// Opens a tunnel with a connection through it.
fn connected(server: &Server) -> TcpStream {
    let mut stream = tunnel(server);
    for frame in FRAMES {
        // The masking key is 0.
        let mut message = vec![0x82, 0x80 | frame.len() as u8, 0, 0, 0, 0];
        message.extend_from_slice(frame);
        stream.write_all(&message).unwrap();
    }
    stream.read_exact(&mut [0; REPLIES]).unwrap();
    stream
}

/// Returns the bytes of resident memory of one of many.
fn each(server: &Server, open: fn(&Server) -> TcpStream) -> u64 {
    allow_descriptors();
    for _ in 0..100 {
        drop(open(server));
    }
    thread::sleep(Duration::from_millis(200));
    let before = server.resident();
    let tunnels: Vec<_> = (0..TUNNELS).map(|_| open(server)).collect();
    // Lets the last ones settle.
    thread::sleep(Duration::from_millis(300));
    let each = (server.resident() - before) / TUNNELS;
    drop(tunnels);
    each
}

#[test]
fn an_idle_tunnel_costs_some_kibibytes() {
    let Some(server) = start("tunnel::an_idle_tunnel_costs_some_kibibytes") else {
        return;
    };
    let each = each(&server, tunnel);
    println!("{TUNNELS} idle tunnels: {each} bytes of resident memory each");
    assert!(each < EACH, "{each} bytes");
}

#[test]
fn an_idle_connection_through_a_tunnel_costs_some_kibibytes() {
    let Some(server) = start("tunnel::an_idle_connection_through_a_tunnel_costs_some_kibibytes")
    else {
        return;
    };
    let each = each(&server, connected);
    println!("{TUNNELS} idle tunnels with a connection: {each} bytes of resident memory each");
    assert!(each < EACH_WITH_CONNECTION, "{each} bytes");
}
