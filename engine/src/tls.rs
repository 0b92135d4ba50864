//! Certificates, keys and authorities in PEM -> what TLS takes; and a client's settings for it.
//!
//! Keys of P-521 are not understood. A client that is given no authorities trusts the system's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    ClientConfig, ConfigBuilder, DEFAULT_VERSIONS, RootCertStore, WantsVerifier,
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

/// What a client has for TLS.
#[derive(Debug, Clone, Default)]
pub struct ClientFiles {
    /// Who is trusted; none: the system's authorities.
    pub authorities: Option<PathBuf>,
    /// Its certificate, with `key`.
    pub certificate: Option<PathBuf>,
    /// The certificate's key.
    pub key: Option<PathBuf>,
}

/// A client's settings for HTTP/1.1. Blocks on the disk.
///
/// # Errors
/// A file that cannot be used, or a certificate without its key.
pub fn client_config(files: &ClientFiles) -> Result<ClientConfig, String> {
    let roots = authorities(files.authorities.as_deref())?;
    let builder = client_builder(provider())?.with_root_certificates(roots);
    finish_client(builder, files)
}

/// Whose certificate is expected.
///
/// # Errors
/// It is no name.
pub fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    let name = ServerName::try_from(text.to_owned());
    name.map_err(|_| format!("{text:?} is no name that a certificate could have"))
}

/// The cryptography that all of the process uses.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

pub(crate) fn client_builder(
    provider: Arc<CryptoProvider>,
) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, String> {
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(DEFAULT_VERSIONS)
        .map_err(|error| error.to_string())
}

/// Adds the client's own certificate, if there is one. Blocks on the disk.
pub(crate) fn finish_client(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    files: &ClientFiles,
) -> Result<ClientConfig, String> {
    let mut config = match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => {
            let chain = read(certificate, certificates)?;
            let config = builder.with_client_auth_cert(chain, read(key, private_key)?);
            config.map_err(|error| format!("{}: {error}", key.display()))?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err("a certificate and its key belong together".to_owned()),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Who is trusted. Blocks on the disk.
pub(crate) fn authorities(path: Option<&Path>) -> Result<RootCertStore, String> {
    let system = || {
        let mut all = SYSTEM_AUTHORITIES.iter().map(Path::new);
        all.find(|path| path.is_file())
    };
    match path.or_else(system) {
        Some(path) => read(path, roots),
        None => Err("this system has no authorities to trust: name a file of them".to_owned()),
    }
}

fn read<T>(path: &Path, parse: fn(&[u8]) -> Result<T, String>) -> Result<T, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string());
    let parsed = text.and_then(|text| parse(&text));
    parsed.map_err(|reason| format!("{}: {reason}", path.display()))
}

/// All certificates in a text; the first is one's own.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err("no certificate in it".to_owned()),
        Ok(all) => Ok(all),
        Err(error) => Err(error.to_string()),
    }
}

/// The first key in a text.
pub(crate) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    // What the library says of a text without a key is about its own types.
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| "no usable private key in it".to_owned())
}

/// The authorities in a text; what is none is passed over, as long as one is left.
pub(crate) fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match roots.add_parsable_certificates(certificates(pem)?) {
        (0, ignored) => Err(format!("{ignored} certificates, none of them usable")),
        _ => Ok(roots),
    }
}
