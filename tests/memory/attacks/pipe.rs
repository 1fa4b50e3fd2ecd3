//! The connection of an attacker, which never blocks.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
};

use tokio_rustls::rustls::{ClientConnection, Stream};

use super::{http2::Http2, tls};

/// A connection that carries bytes.
pub(crate) enum Pipe {
    Plain(TcpStream),
    Tls(Box<ClientConnection>, TcpStream),
    /// A stream of HTTP/2, on a connection of its own.
    Http2(Box<Http2>),
}

impl Pipe {
    /// Connects over TLS, and lets `begin` use the connection while it still blocks.
    pub(super) fn over_tls<T>(
        mut tcp: TcpStream,
        begin: impl FnOnce(&mut Stream<'_, ClientConnection, TcpStream>) -> T,
    ) -> (Self, T) {
        let mut tls = tls::connect();
        tls.complete_io(&mut tcp).unwrap();
        let begun = begin(&mut Stream::new(&mut tls, &mut tcp));
        tcp.set_nonblocking(true).unwrap();
        (Self::Tls(Box::new(tls), tcp), begun)
    }

    /// Returns an error of the kind `WouldBlock` while nothing can be written.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(tls, tcp) => {
                send_tls(tls, tcp)?;
                // Whole records, so that what waits here is small.
                let n = tls.writer().write(&bytes[..bytes.len().min(16 * 1024)])?;
                match send_tls(tls, tcp) {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
                    _ => Ok(n),
                }
            }
            Self::Http2(stream) => stream.write(bytes),
        }
    }

    /// Sends what an earlier write has left behind.
    pub(super) fn flush(&mut self) {
        match self {
            Self::Plain(_) => {}
            Self::Tls(tls, tcp) => drop(send_tls(tls, tcp)),
            // Its transport is always read, unlike its stream.
            Self::Http2(stream) => stream.hear(),
        }
    }

    /// Returns an error of the kind `WouldBlock` while there is nothing to read.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buf),
            Self::Tls(tls, tcp) => {
                match tls.read_tls(tcp) {
                    Ok(_) => {
                        tls.process_new_packets().map_err(io::Error::other)?;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
                tls.reader().read(buf)
            }
            Self::Http2(stream) => stream.read(buf),
        }
    }
}

/// Sends all records that wait.
fn send_tls(tls: &mut ClientConnection, tcp: &mut TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(tcp)?;
    }
    Ok(())
}
