//! The file of `--web.config.file` -> how the web server takes connections and requests.
//!
//! Source of names: Prometheus, exporter-toolkit, docs/web-configuration.md.

use super::error::{ConfigError, Problem};
use super::section::{Fields, Problems, Section, key, one_of, pick};
use super::yaml::{self, At, Node, Value};
use crate::server::settings::{ClientAuth, Pem, TlsSettings, TlsVersion, WebSettings};
use crate::server::{COST_MAX, cost};
use std::collections::BTreeMap;
use std::path::Path;
use tokio_rustls::rustls::{CipherSuite, NamedGroup};

/// The file.
pub(crate) const WEB: Section = Section {
    path: "the web configuration",
    keys: &[
        key(
            "tls_server_config",
            "mapping",
            "none: plain HTTP",
            "TLS of all connections.",
        ),
        key(
            "http_server_config",
            "mapping",
            "none",
            "What answers have.",
        ),
        key(
            "basic_auth_users",
            "mapping of names to bcrypt hashes",
            "none: nobody is asked",
            "Who may ask anything, by name and password. A cost above 16 is refused.",
        ),
    ],
    unsupported: &[],
};

const WEB_HINTS: &[(&str, &str)] = &[(
    "rate_limit",
    "requests are not limited in rate, connections are in number; a proxy can do more",
)];

/// `tls_server_config`.
pub(crate) const TLS_SERVER: Section = Section {
    path: "tls_server_config",
    keys: &[
        key(
            "cert_file",
            "path",
            "none",
            "The server's certificate and those between it and an authority, in PEM.",
        ),
        key("cert", "text", "none", "The same in place, instead."),
        key("key_file", "path", "none", "Its key, in PEM."),
        key("key", "text", "none", "The same in place, instead."),
        key(
            "client_auth_type",
            "`NoClientCert`, `VerifyClientCertIfGiven` or `RequireAndVerifyClientCert`",
            "`NoClientCert`",
            "Whether clients show a certificate. One that nobody verifies proves nothing: the other \
             types of Go are refused.",
        ),
        key(
            "client_ca_file",
            "path",
            "none",
            "Authorities that vouch for clients, in PEM.",
        ),
        key("client_ca", "text", "none", "The same in place, instead."),
        key(
            "client_allowed_sans",
            "list of texts",
            "any",
            "A client's certificate has one of these as DNS name, mail address, URI or IP address. \
             With `RequireAndVerifyClientCert` only.",
        ),
        key(
            "min_version",
            "`TLS12` or `TLS13`",
            "`TLS12`",
            "Oldest version.",
        ),
        key(
            "max_version",
            "`TLS12` or `TLS13`",
            "`TLS13`",
            "Newest version.",
        ),
        key(
            "cipher_suites",
            "list of names as in Go",
            "all",
            "Suites of TLS 1.2, first the preferred one; those with ECDHE and AES-GCM or ChaCha20 \
             exist. Those of TLS 1.3 are all on.",
        ),
        key(
            "prefer_server_cipher_suites",
            "true or false",
            "true",
            "Whether this order decides, or the client's.",
        ),
        key(
            "curve_preferences",
            "list of `CurveP256`, `CurveP384`, `X25519`",
            "all",
            "Curves, first the preferred one.",
        ),
    ],
    unsupported: &[],
};

/// `http_server_config`.
pub(crate) const HTTP_SERVER: Section = Section {
    path: "http_server_config",
    keys: &[
        key(
            "http2",
            "true or false",
            "false",
            "No effect: the server speaks HTTP/1.1.",
        ),
        key(
            "headers",
            "mapping of names to texts",
            "none",
            "Fields of each answer; the ones that Prometheus knows: `Strict-Transport-Security`, \
             `X-Content-Type-Options`, `X-Frame-Options`, `X-XSS-Protection`, \
             `Content-Security-Policy`.",
        ),
    ],
    unsupported: &[],
};

/// Fields that answers may get, with the values that they may have; none: any.
const HEADERS: &[(&str, &[&str])] = &[
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

const CLIENT_AUTH: &[(ClientAuth, &str)] = &[
    (ClientAuth::None, "NoClientCert"),
    (ClientAuth::IfGiven, "VerifyClientCertIfGiven"),
    (ClientAuth::Required, "RequireAndVerifyClientCert"),
];

/// Types of Go that ask for a certificate and do not look at it.
const UNVERIFIED: &[&str] = &[
    "RequestClientCert",
    "RequireAnyClientCert",
    "RequireClientCert",
];

const VERSIONS: &[(TlsVersion, &str)] =
    &[(TlsVersion::Tls12, "TLS12"), (TlsVersion::Tls13, "TLS13")];

/// Names of Go's crypto/tls.
const SUITES: &[(CipherSuite, &str)] = &[
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
    (
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        "TLS_AES_128_GCM_SHA256",
    ),
    (
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        "TLS_AES_256_GCM_SHA384",
    ),
    (
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        "TLS_CHACHA20_POLY1305_SHA256",
    ),
];

/// Names of Go's crypto/tls.
const CURVES: &[(NamedGroup, &str)] = &[
    (NamedGroup::secp256r1, "CurveP256"),
    (NamedGroup::secp384r1, "CurveP384"),
    (NamedGroup::X25519, "X25519"),
];

const NOTHING: Node = Node {
    at: At { line: 0, column: 0 },
    value: Value::Null,
};

/// Validates the text of a file. Relative paths start at its folder; nothing is read from it.
///
/// # Errors
/// The text is not YAML, or holds what can't be used; all problems at once.
pub(crate) fn read(path: &Path, text: &str) -> Result<WebSettings, ConfigError> {
    let root = yaml::parse(text).map_err(|(at, message)| {
        let message = format!("not YAML: {message}");
        ConfigError::new(path, vec![Problem { at, message }])
    })?;
    let problems = Problems::default();
    let file = Fields::hinted(&root, &WEB, WEB_HINTS, &problems);
    let folder = path.parent().unwrap_or(Path::new(""));
    let settings = WebSettings {
        tls: tls(&file, folder),
        headers: headers(&file),
        users: users(&file),
    };
    match problems.into_vec() {
        problems if problems.is_empty() => Ok(settings),
        problems => Err(ConfigError::new(path, problems)),
    }
}

fn tls(file: &Fields<'_>, folder: &Path) -> Option<TlsSettings> {
    let node = file.node("tls_server_config")?;
    let is_empty = match &node.value {
        Value::Null => true,
        Value::Map(entries) => entries.is_empty(),
        _ => false,
    };
    let fields = Fields::new(node, &TLS_SERVER, file.problems);
    if is_empty {
        return None;
    }
    let client_auth = client_auth(&fields);
    let client_authorities = pem(&fields, "client_ca_file", "client_ca", folder);
    match (client_auth, &client_authorities) {
        (ClientAuth::None, Some(_)) => {
            let message = "`client_ca_file` without a `client_auth_type`: give \
                           RequireAndVerifyClientCert or VerifyClientCertIfGiven";
            fields.problems.add(fields.at, message);
        }
        (ClientAuth::IfGiven | ClientAuth::Required, None) => {
            fields.refuse("client_auth_type", "`client_ca_file` is missing");
        }
        _ => {}
    }
    let allowed_sans = fields.texts("client_allowed_sans").unwrap_or_default();
    if fields.list("client_allowed_sans").is_some() && client_auth != ClientAuth::Required {
        let message = "`client_allowed_sans` needs `client_auth_type: RequireAndVerifyClientCert`";
        fields.refuse("client_allowed_sans", message);
    }
    if fields.list("client_allowed_sans").is_some() && allowed_sans.is_empty() {
        fields.refuse("client_allowed_sans", "`client_allowed_sans` is empty");
    }
    let version_min = version(&fields, "min_version").unwrap_or(TlsVersion::Tls12);
    let version_max = version(&fields, "max_version").unwrap_or(TlsVersion::Tls13);
    if version_min > version_max {
        fields.refuse("min_version", "`min_version` is newer than `max_version`");
    }
    let cipher_suites = named(
        &fields,
        "cipher_suites",
        SUITES,
        "only suites with ECDHE and an AEAD exist here",
    );
    let only_13 = |suite: &CipherSuite| {
        suite
            .as_str()
            .is_some_and(|name| name.starts_with("TLS13_"))
    };
    if version_max == TlsVersion::Tls12
        && !cipher_suites.is_empty()
        && cipher_suites.iter().all(only_13)
    {
        fields.refuse("cipher_suites", "`cipher_suites` has none for TLS 1.2");
    }
    let curves = named(
        &fields,
        "curve_preferences",
        CURVES,
        "this curve does not exist here",
    );
    let certificate = pem(&fields, "cert_file", "cert", folder);
    let key = pem(&fields, "key_file", "key", folder);
    for (name, found) in [("cert_file", &certificate), ("key_file", &key)] {
        if found.is_none() {
            fields
                .problems
                .add(fields.at, format!("`{name}` is missing"));
        }
    }
    Some(TlsSettings {
        certificate: certificate?,
        key: key?,
        client_authorities,
        client_auth,
        allowed_sans,
        version_min,
        version_max,
        cipher_suites,
        prefers_own_order: fields.flag("prefer_server_cipher_suites").unwrap_or(true),
        curves,
    })
}

fn pem(
    fields: &Fields<'_>,
    file: &'static str,
    inline: &'static str,
    folder: &Path,
) -> Option<Pem> {
    let given = |name| fields.text(name).filter(|text| !text.is_empty());
    match (given(file), given(inline)) {
        (Some(_), Some(_)) => {
            fields.refuse(inline, format!("give `{file}` or `{inline}`, not both"));
            None
        }
        (Some(path), None) => Some(Pem::File(folder.join(path))),
        (None, text) => text.map(|text| Pem::Text(text.to_owned())),
    }
}

fn client_auth(fields: &Fields<'_>) -> ClientAuth {
    match fields.text("client_auth_type") {
        None | Some("") => ClientAuth::None,
        Some(name) if UNVERIFIED.contains(&name) => {
            let message = format!(
                "`{name}` asks for certificates and verifies none, so that they prove nothing: \
                 give RequireAndVerifyClientCert or VerifyClientCertIfGiven"
            );
            fields.refuse("client_auth_type", message);
            ClientAuth::Required
        }
        Some(_) => fields
            .choice("client_auth_type", CLIENT_AUTH)
            .unwrap_or(ClientAuth::Required),
    }
}

fn version(fields: &Fields<'_>, name: &'static str) -> Option<TlsVersion> {
    if matches!(fields.text(name), Some("TLS10" | "TLS11")) {
        fields.refuse(
            name,
            format!("`{name}`: there is no TLS before 1.2 here: give TLS12"),
        );
        return None;
    }
    fields.choice(name, VERSIONS)
}

/// What the texts of a list stand for.
fn named<T: Copy>(fields: &Fields<'_>, name: &str, known: &[(T, &str)], hint: &str) -> Vec<T> {
    let texts = fields.texts(name).unwrap_or_default();
    let found = texts.iter().filter_map(|text| {
        let found = pick(text, known);
        if found.is_none() {
            let known = one_of(known.iter().map(|(_, name)| *name));
            fields.refuse(name, format!("`{name}`: {text:?}: {hint}; give {known}"));
        }
        found
    });
    found.collect()
}

fn headers(file: &Fields<'_>) -> Vec<(String, String)> {
    let node = file.node("http_server_config").unwrap_or(&NOTHING);
    let fields = Fields::new(node, &HTTP_SERVER, file.problems);
    fields.flag("http2");
    let mut headers = Vec::new();
    for (name, value, at) in fields.text_map("headers") {
        let known = HEADERS.iter().find(|(known, _)| *known == name);
        match known {
            None => {
                let known = one_of(HEADERS.iter().map(|(name, _)| *name));
                let message = format!("`headers`: {name:?} cannot be set; give {known}");
                file.problems.add(at, message);
            }
            Some(_) if value.is_empty() => {}
            Some((_, values)) if !values.is_empty() && !values.contains(&value) => {
                let values = one_of(values.iter().copied());
                file.problems
                    .add(at, format!("`headers`: {name}: {value:?}; give {values}"));
            }
            Some(_) if value.chars().any(char::is_control) => {
                file.problems
                    .add(at, format!("`headers`: {name} has control characters"));
            }
            Some(_) => headers.push((name.to_owned(), value.to_owned())),
        }
    }
    headers
}

fn users(file: &Fields<'_>) -> BTreeMap<String, String> {
    let mut users = BTreeMap::new();
    for (name, hash, at) in file.text_map("basic_auth_users") {
        let wrong = |reason: &str| {
            file.problems
                .add(at, format!("`basic_auth_users`: {name:?}: {reason}"));
        };
        if name.is_empty() || name.contains(':') || name.chars().any(char::is_control) {
            wrong("a name has no colon, no control character, and at least one character");
        }
        match cost(hash) {
            Ok(cost) if cost > COST_MAX => {
                wrong(&format!(
                    "a cost of {cost} takes too long: give {COST_MAX} or less"
                ));
            }
            Ok(_) => {
                users.insert(name.to_owned(), hash.to_owned());
            }
            Err(reason) => wrong(&reason),
        }
    }
    users
}
