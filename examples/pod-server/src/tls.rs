//! The identity of the server, and its protocols over TLS.

use std::{io, path::Path, sync::Arc};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::ring,
        pki_types::{
            CertificateDer, PrivateKeyDer,
            pem::{self, PemObject},
        },
    },
};

use crate::options::TlsFiles;

/// The protocols after the handshake, in our order of preference. client-go sends requests over
/// HTTP/2 and upgrades over HTTP/1.1, each on a connection of its own.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Reads the certificate and the key. An error names its file.
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
        // A file without a certificate can be read, but one without a key cannot.
        assert!(error("/dev/null", "/dev/null").starts_with("/dev/null: "));
        assert!(error("/dev/null", "/no/such").starts_with("/no/such: "));
    }
}
