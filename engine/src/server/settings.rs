//! What the file of `--web.config.file` says: TLS, headers and users of the web server.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use tokio_rustls::rustls::{CipherSuite, NamedGroup};

/// The file, read and validated; defaults are filled in.
pub(crate) struct WebSettings {
    /// `tls_server_config`; `None`: plain HTTP.
    pub(crate) tls: Option<TlsSettings>,
    /// `http_server_config.headers`: added to each answer.
    pub(crate) headers: Vec<(String, String)>,
    /// `basic_auth_users`: names and the bcrypt hashes of their passwords.
    pub(crate) users: BTreeMap<String, String>,
}

/// `tls_server_config`.
#[derive(Debug)]
pub(crate) struct TlsSettings {
    /// `cert` or `cert_file`.
    pub(crate) certificate: Pem,
    /// `key` or `key_file`.
    pub(crate) key: Pem,
    /// `client_ca` or `client_ca_file`, with a `client_auth` other than `None`.
    pub(crate) client_authorities: Option<Pem>,
    /// `client_auth_type`.
    pub(crate) client_auth: ClientAuth,
    /// `client_allowed_sans`; empty: any.
    pub(crate) allowed_sans: Vec<String>,
    /// `min_version`.
    pub(crate) version_min: TlsVersion,
    /// `max_version`.
    pub(crate) version_max: TlsVersion,
    /// `cipher_suites`, for TLS 1.2; empty: all that there are.
    pub(crate) cipher_suites: Vec<CipherSuite>,
    /// `prefer_server_cipher_suites`.
    pub(crate) prefers_own_order: bool,
    /// `curve_preferences`; empty: all that there are.
    pub(crate) curves: Vec<NamedGroup>,
}

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientAuth {
    /// `NoClientCert`: they are not asked.
    None,
    /// `VerifyClientCertIfGiven`.
    IfGiven,
    /// `RequireAndVerifyClientCert`.
    Required,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub(crate) enum TlsVersion {
    Tls12,
    Tls13,
}

/// Text with certificates or a key, or the file that it is in.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Pem {
    /// A file.
    File(PathBuf),
    /// The text itself.
    Text(String),
}

/// Without the text, which may be a key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.fmt(f),
            Self::Text(_) => f.write_str("..."),
        }
    }
}
