//! Texts of web configurations -> settings or messages; silent clients -> a place for others.

use super::listen::CONNECTIONS_MAX;
use super::settings::{ClientAuth, TlsVersion, WebSettings};
use super::*;
use crate::config::read_web;
use axum::Router;
use axum::routing::get;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

/// Made with `openssl req -x509`, for a hundred years.
const CERTIFICATE: &str = include_str!("test_certificate.pem");

fn read(text: &str) -> Result<WebSettings, String> {
    read_web(Path::new("/etc/x/web.yml"), text).map_err(|error| error.to_string())
}

#[test]
fn whose_a_certificate_is() {
    let der = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
    let identity = Identity::read(&der).unwrap();
    assert_eq!(identity.subject, "CN=ci ünit,O=Example\\, Inc.,C=DE");
    let sans = [
        "n1.example",
        "ci@example.org",
        "spiffe://example/ci",
        "10.0.0.1",
        "fd00::1",
    ];
    assert_eq!(identity.sans, sans);
    assert!(identity.expires_s > 4_900_000_000, "{}", identity.expires_s);
    for cut in [0, 1, 10, der.len() - 1] {
        assert!(Identity::read(&der[..cut]).is_err());
    }
}

#[test]
fn all_keys_are_read() {
    let settings = read(
        "tls_server_config:\n  cert_file: a.crt\n  key_file: /k/a.key\n  client_ca_file: ca.crt\n  \
         client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [a, b]\n  \
         min_version: TLS13\n  max_version: TLS13\n  \
         cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]\n  \
         prefer_server_cipher_suites: false\n  curve_preferences: [CurveP256, X25519]\n\
         http_server_config:\n  http2: true\n  \
         headers: {X-Frame-Options: deny, X-XSS-Protection: '', Content-Security-Policy: x}\n\
         basic_auth_users:\n  \
         ann: $2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG\n",
    )
    .unwrap_or_else(|error| panic!("{error}"));
    let tls = settings.tls.unwrap();
    assert_eq!(
        format!("{:?} {:?}", tls.certificate, tls.key),
        r#""/etc/x/a.crt" "/k/a.key""#
    );
    assert_eq!(tls.client_auth, ClientAuth::Required);
    assert_eq!(
        (tls.version_min, tls.version_max),
        (TlsVersion::Tls13, TlsVersion::Tls13)
    );
    assert_eq!((tls.cipher_suites.len(), tls.curves.len()), (2, 2));
    assert!(!tls.prefers_own_order);
    let names: Vec<_> = settings.headers.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["X-Frame-Options", "Content-Security-Policy"]);
    assert!(settings.users.contains_key("ann"));
    for plain in [
        "",
        "tls_server_config:\n",
        "tls_server_config: {}",
        "basic_auth_users: {}",
    ] {
        assert!(read(plain).unwrap().tls.is_none());
    }
}

#[test]
fn what_cannot_be_used_is_named_with_what_to_do() {
    let pair = "cert_file: a, key_file: b";
    for (text, wanted) in [
        ("[", "not YAML"),
        (
            "rate_limit: {burst: 1}",
            "`rate_limit` has no meaning here: requests",
        ),
        ("basic_auth_user: {}", "did you mean `basic_auth_users`"),
        ("tls_server_config: {cert_file: a}", "`key_file` is missing"),
        (
            "tls_server_config: {min_version: TLS12}",
            "`cert_file` is missing",
        ),
        (
            &format!("tls_server_config: {{{pair}, cert: x}}"),
            "`cert_file` or `cert`, not both",
        ),
        (
            &format!("tls_server_config: {{{pair}, client_ca_file: c}}"),
            "without a `client_auth_type`",
        ),
        (
            &format!("tls_server_config: {{{pair}, client_auth_type: RequireAndVerifyClientCert}}"),
            "`client_ca_file` is missing",
        ),
        (
            &format!("tls_server_config: {{{pair}, client_auth_type: RequireAnyClientCert}}"),
            "verifies none",
        ),
        (
            &format!("tls_server_config: {{{pair}, client_auth_type: x}}"),
            "one of NoClientCert",
        ),
        (
            &format!("tls_server_config: {{{pair}, client_allowed_sans: [a]}}"),
            "needs `client_auth_type: RequireAndVerifyClientCert`",
        ),
        (
            &format!("tls_server_config: {{{pair}, min_version: TLS10}}"),
            "give TLS12",
        ),
        (
            &format!("tls_server_config: {{{pair}, min_version: TLS13, max_version: TLS12}}"),
            "newer than",
        ),
        (
            &format!(
                "tls_server_config: {{{pair}, cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]}}"
            ),
            "only suites with ECDHE",
        ),
        (
            &format!("tls_server_config: {{{pair}, curve_preferences: [CurveP521]}}"),
            "CurveP384",
        ),
        (
            "http_server_config: {headers: {X-Powered-By: x}}",
            "cannot be set",
        ),
        (
            "http_server_config: {headers: {X-Frame-Options: x}}",
            "one of deny, sameorigin",
        ),
        ("basic_auth_users: {ann: hush}", "htpasswd"),
        (
            "basic_auth_users: {ann: $2y$31$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG}",
            "takes too long",
        ),
    ] {
        let error = read(text).map(drop).unwrap_err();
        assert!(error.contains(wanted), "{text}:\n{error}");
        assert!(!error.contains("hush"), "{error}");
    }
}

#[tokio::test]
async fn who_says_nothing_makes_room_for_who_asks() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sites = Sites::load(None).unwrap();
    let router = Router::new().route("/", get(|| async { "here" }));
    tokio::spawn(serve(listener, router, sites.clone()));
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS_MAX + 10 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let mut asking = TcpStream::connect(address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    asking.write_all(request).await.unwrap();
    let mut answer = String::new();
    asking.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("here"),
        "{answer}"
    );
    // The oldest has gone, the newest is still there.
    let mut byte = [0];
    assert_eq!(silent[0].read(&mut byte).await.unwrap_or(0), 0);
    let newest = silent.last_mut().unwrap();
    newest.write_all(request).await.unwrap();
    assert_eq!(newest.read(&mut byte).await.unwrap(), 1);
    assert_eq!(sites.figures_now().evicted, 11);
}
