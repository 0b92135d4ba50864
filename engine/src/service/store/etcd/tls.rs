//! `tls_*` settings -> how etcd's certificate is checked, and with which one this node shows up.
//!
//! Files are read at start. Certificates with keys of P-521, as etcd's `--auto-tls` makes them, are
//! not understood. Without `tls_ca_path` the system's authorities are trusted.

use crate::service::settings::EtcdTls;
pub(super) use crate::tls::server_name;
use crate::tls::{self, ClientFiles};
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// # Errors
/// What the operator has to change.
pub(super) fn connector(settings: &EtcdTls) -> Result<TlsConnector, String> {
    let provider = tls::provider();
    let builder = tls::client_builder(provider.clone())?;
    let builder = match settings.insecure_skip_verify {
        true => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        false => builder.with_root_certificates(tls::authorities(settings.ca_path.as_deref())?),
    };
    let files = ClientFiles {
        authorities: None,
        certificate: settings.cert_path.clone(),
        key: settings.key_path.clone(),
    };
    Ok(TlsConnector::from(Arc::new(tls::finish_client(
        builder, &files,
    )?)))
}

/// Takes any certificate, as `tls_insecure_skip_verify` asks for.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
