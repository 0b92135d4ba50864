//! A certificate -> whose it is and until when it holds.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Whose a certificate is. Whether anybody vouches for it is not known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Its subject, as RFC 4514 writes names: `CN=ci,O=Example`.
    pub(crate) subject: String,
    /// Its alternative names: DNS names, mail addresses, URIs and IP addresses.
    pub(crate) sans: Vec<String>,
    /// When it ends, seconds since the Unix epoch.
    pub(crate) expires_s: i64,
}

impl Identity {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn read(der: &[u8]) -> Result<Self, String> {
        let read = || -> Result<Self, x509_cert::der::Error> {
            let certificate = Certificate::from_der(der)?;
            let inner = certificate.tbs_certificate();
            let names = inner.get_extension::<SubjectAltName>()?;
            let names = names.map(|(_, names)| names.0).unwrap_or_default();
            let ends = inner.validity().not_after.to_unix_duration();
            Ok(Self {
                subject: inner.subject().to_string(),
                sans: names.iter().filter_map(alternative).collect(),
                expires_s: i64::try_from(ends.as_secs()).unwrap_or(i64::MAX),
            })
        };
        read().map_err(|error| format!("the certificate cannot be read: {error}"))
    }
}

/// Names of other kinds stand for nobody here.
fn alternative(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(text)
        | GeneralName::Rfc822Name(text)
        | GeneralName::UniformResourceIdentifier(text) => Some(text.to_string()),
        GeneralName::IpAddress(bytes) => address(bytes.as_bytes()).map(|ip| ip.to_string()),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes)
            .ok()
            .map(|bytes| Ipv4Addr::from(bytes).into()),
        16 => <[u8; 16]>::try_from(bytes)
            .ok()
            .map(|bytes| Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}
