//! TLS between an attacker and its server. The server has a public key in place of a certificate
//! (RFC 7250), which needs no file and never expires.

use std::sync::Arc;

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConfig,
        SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key},
        pki_types::{
            CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
        },
        server::AlwaysResolvesServerRawPublicKeys,
        sign::{CertifiedKey, SigningKey},
        version::TLS13,
    },
};

/// Returns the key of the server, which is no secret.
fn key() -> Arc<dyn SigningKey> {
    // An Ed25519 key in PKCS #8 (RFC 8410, section 7), but for its 32 bytes.
    let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    der.extend([7; 32]);
    ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(der)).unwrap()
}

fn public_key() -> CertificateDer<'static> {
    key().public_key().unwrap().as_ref().to_vec().into()
}

pub(super) fn acceptor() -> TlsAcceptor {
    let key = CertifiedKey::new(vec![public_key()], key());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::new(
            key,
        ))));
    Arc::new(config).into()
}

/// Returns the client's side of a connection.
pub(super) fn connect() -> ClientConnection {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(Arc::new(config), name).unwrap()
}

/// Accepts the server's key, and no other.
#[derive(Debug)]
struct Pinned(Arc<CryptoProvider>);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        assert_eq!(*end_entity, public_key());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = self.0.signature_verification_algorithms;
        algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
