//! The identity of the server, and what it speaks over TLS.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

use crate::args::TlsFiles;

/// What follows the handshake, in our order: client-go asks with HTTP/2 and
/// upgrades with HTTP/1.1, each on a connection of its own.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Reads certificate and key. An error names the file that it is about.
pub(crate) fn acceptor(files: &TlsFiles) -> io::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, pem::Error>>)
        .map_err(|error| of(&files.cert, &error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| of(&files.key, &error))?;
    config(chain, key)
        .map(|config| TlsAcceptor::from(Arc::new(config)))
        .map_err(|error| of(&files.cert, &error))
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = ALPN.map(Vec::from).into();
    Ok(config)
}

fn of(path: &Path, error: &dyn std::error::Error) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_identity_is_named() {
        let error = |cert: &str, key: &str| {
            let files = TlsFiles {
                cert: cert.into(),
                key: key.into(),
            };
            acceptor(&files).err().unwrap().to_string()
        };
        assert!(error("/no/such", "/dev/null").starts_with("/no/such: "));
        // No certificate is no error of reading; no key is.
        assert!(error("/dev/null", "/dev/null").starts_with("/dev/null: "));
        assert!(error("/dev/null", "/no/such").starts_with("/no/such: "));
    }
}
