//! `tls_server_config` and what its files hold -> how the web server shakes hands.
//!
//! Sessions are not resumed: each connection is checked by the settings in force.

use super::identity::Identity;
use super::settings::{ClientAuth, TlsSettings, TlsVersion};
use crate::tls;
use std::sync::Arc;
use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    CertificateError, CipherSuite, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};

/// What the files of `tls_server_config` hold.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) client_authorities: Option<Vec<u8>>,
}

/// How hands are shaken, and whose certificate the server shows.
///
/// # Errors
/// What the operator has to change.
pub(super) fn server_config(
    settings: &TlsSettings,
    held: &Held,
) -> Result<(ServerConfig, Identity), String> {
    let mut provider = (*tls::provider()).clone();
    if !settings.cipher_suites.is_empty() {
        // Those of TLS 1.3 cannot be chosen, as in Go.
        provider.cipher_suites.retain(|suite| {
            suite.version() == &TLS13 || settings.cipher_suites.contains(&suite.suite())
        });
        let place = |suite: CipherSuite| {
            let mut wanted = settings.cipher_suites.iter();
            wanted.position(|one| *one == suite)
        };
        (provider.cipher_suites).sort_by_key(|suite| place(suite.suite()));
    }
    if !settings.curves.is_empty() {
        let known = std::mem::take(&mut provider.kx_groups);
        let wanted = settings.curves.iter();
        let found = wanted.filter_map(|name| known.iter().find(|group| group.name() == *name));
        provider.kx_groups = found.copied().collect();
    }
    let has_tls12 = (provider.cipher_suites.iter()).any(|suite| suite.version() == &TLS12);
    let mut versions: Vec<&'static SupportedProtocolVersion> = Vec::new();
    if settings.version_max == TlsVersion::Tls13 {
        versions.push(&TLS13);
    }
    if settings.version_min == TlsVersion::Tls12 && has_tls12 {
        versions.push(&TLS12);
    }
    let provider = Arc::new(provider);
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(|error| format!("the versions and cipher suites do not fit: {error}"))?;
    let builder = match &held.client_authorities {
        Some(pem) if settings.client_auth != ClientAuth::None => {
            let roots = tls::roots(pem).map_err(|reason| format!("client_ca: {reason}"))?;
            let checks = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let checks = match settings.client_auth {
                ClientAuth::Required => checks,
                _ => checks.allow_unauthenticated(),
            };
            let inner = checks.build();
            builder.with_client_cert_verifier(Arc::new(Named {
                inner: inner.map_err(|error| format!("client_ca: {error}"))?,
                allowed_sans: settings.allowed_sans.clone(),
            }))
        }
        _ => builder.with_no_client_auth(),
    };
    let chain = tls::certificates(&held.certificate).map_err(|reason| format!("cert: {reason}"))?;
    let own = chain.first().map(|own| Identity::read(own));
    let own = own.unwrap_or_else(|| Err("cert: there is none".to_owned()))?;
    let key = tls::private_key(&held.key).map_err(|reason| format!("key: {reason}"))?;
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| format!("the certificate and the key cannot be used: {error}"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ignore_client_order = settings.prefers_own_order;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok((config, own))
}

/// Takes certificates that the authorities vouch for, of those with an allowed name.
#[derive(Debug)]
struct Named {
    inner: Arc<dyn ClientCertVerifier>,
    /// Empty: any.
    allowed_sans: Vec<String>,
}

impl ClientCertVerifier for Named {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = (self.inner).verify_client_cert(end_entity, intermediates, now)?;
        let identity = Identity::read(end_entity)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let mut sans = identity.sans.iter();
        match self.allowed_sans.is_empty() || sans.any(|san| self.allowed_sans.contains(san)) {
            true => Ok(verified),
            false => Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            )),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        (self.inner).verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        (self.inner).verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
