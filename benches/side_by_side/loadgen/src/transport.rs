//! The transport of a client's bytes: TCP, TLS or HTTP/2. The name of a peer says which.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

use crate::h2::H2;

/// The form in which port-forward goes over SPDY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spdy {
    /// In messages of a WebSocket.
    Tunnel,
    /// By POST, over the bare connection.
    Post,
}

/// The way in which a client speaks to a peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transport {
    pub tls: bool,
    pub h2: bool,
    pub spdy: Option<Spdy>,
}

impl Transport {
    /// Reads the words behind a `+` in the name of a peer: `ours+tls+h2`, `forward+tunnel`.
    pub fn of(name: &str) -> Result<Self, String> {
        let mut transport = Self::default();
        for word in name.split('+').skip(1) {
            match word {
                "tls" => transport.tls = true,
                "h2" => transport.h2 = true,
                "tunnel" => transport.spdy = Some(Spdy::Tunnel),
                "post" => transport.spdy = Some(Spdy::Post),
                _ => return Err(format!("{name}: no such transport: {word}")),
            }
        }
        Ok(transport)
    }
}

/// A server's address, and how to speak to it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub address: SocketAddr,
    pub transport: Transport,
}

/// A connection, below the WebSocket.
pub enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    H2(Box<H2<Self>>),
}

impl Stream {
    /// Connects, with TLS if the place has it. HTTP/2 comes later, with the request.
    pub async fn connect(place: Place) -> io::Result<Self> {
        let tcp = TcpStream::connect(place.address).await?;
        // The drop resets the connection, so no port stays in TIME_WAIT.
        socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO))?;
        if !place.transport.tls {
            return Ok(Self::Tcp(tcp));
        }
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let tls = connector(place.transport.h2).connect(name, tcp).await?;
        Ok(Self::Tls(Box::new(tls)))
    }

    pub fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.set_nodelay(true),
            Self::Tls(tls) => tls.get_ref().0.set_nodelay(true),
            Self::H2(h2) => h2.get_ref().set_nodelay(),
        }
    }
}

fn connector(h2: bool) -> TlsConnector {
    static CONFIG: OnceLock<[Arc<ClientConfig>; 2]> = OnceLock::new();
    let configs = CONFIG.get_or_init(|| {
        [&b"http/1.1"[..], b"h2"].map(|version| {
            let provider = Arc::new(ring::default_provider());
            let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
                .with_no_client_auth();
            config.alpn_protocols = vec![version.to_vec()];
            Arc::new(config)
        })
    });
    TlsConnector::from(Arc::clone(&configs[usize::from(h2)]))
}

/// Accepts every certificate, because the peers make theirs at each start.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => {
                // What TLS has taken and not sent may be what the server waits for.
                if let Poll::Ready(Err(error)) = Pin::new(&mut *tls).poll_flush(cx) {
                    return Poll::Ready(Err(error));
                }
                Pin::new(tls).poll_read(cx, buf)
            }
            Self::H2(h2) => Pin::new(h2).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
            Self::H2(h2) => Pin::new(h2).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
            Self::H2(h2) => Pin::new(h2).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            Self::H2(h2) => Pin::new(h2).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_how_to_speak() {
        let transport = Transport::of("ours+tls+h2").unwrap();
        assert!(transport.tls && transport.h2 && transport.spdy.is_none());
        assert_eq!(
            Transport::of("forward+post").unwrap().spdy,
            Some(Spdy::Post)
        );
        assert!(!Transport::of("tung-r16w32").unwrap().tls);
        assert!(Transport::of("ours+quic").is_err());
    }
}
