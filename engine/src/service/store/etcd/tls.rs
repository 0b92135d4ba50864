//! `tls_*` settings -> how etcd's certificate is checked, and with which one this node shows up.
//!
//! Files are read at start. Certificates with keys of P-521, as etcd's `--auto-tls` makes them, are
//! not understood. Without `tls_ca_path` the system's authorities are trusted.

use crate::service::settings::EtcdTls;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// Where systems keep the authorities that they trust; as in Go's crypto/x509, root_linux.go.
const SYSTEM_AUTHORITIES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// # Errors
/// What the operator has to change.
pub(super) fn connector(settings: &EtcdTls) -> Result<TlsConnector, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let versions = builder.with_safe_default_protocol_versions();
    let builder = versions.map_err(|error| error.to_string())?;
    let builder = match settings.insecure_skip_verify {
        true => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        false => builder.with_root_certificates(authorities(settings.ca_path.as_deref())?),
    };
    let mut config = match (&settings.cert_path, &settings.key_path) {
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let key_error = |error: &dyn std::fmt::Display| format!("{}: {error}", key.display());
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| key_error(&error))?;
            let config = builder.with_client_auth_cert(chain, secret);
            config.map_err(|error| key_error(&error))?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err("tls_cert_path and tls_key_path belong together".to_owned()),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Whose certificate is expected.
///
/// # Errors
/// It is no name.
pub(super) fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    let name = ServerName::try_from(text.to_owned());
    name.map_err(|_| format!("{text:?} is no name that a certificate could have"))
}

fn authorities(path: Option<&Path>) -> Result<RootCertStore, String> {
    let system = || {
        let mut all = SYSTEM_AUTHORITIES.iter().map(Path::new);
        all.find(|path| path.is_file())
    };
    let Some(path) = path.or_else(system) else {
        return Err("this system has no authorities to trust: set tls_ca_path".to_owned());
    };
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(certificates(path)?);
    match added {
        0 => Err(format!(
            "{}: {ignored} certificates, none of them usable",
            path.display()
        )),
        _ => Ok(roots),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let read = CertificateDer::pem_file_iter(path).map_err(|error| failed(&error))?;
    let all: Result<Vec<_>, _> = read.collect();
    let all = all.map_err(|error| failed(&error))?;
    match all.is_empty() {
        true => Err(failed(&"no certificate in it")),
        false => Ok(all),
    }
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
