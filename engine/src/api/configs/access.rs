//! A token, a certificate, a user, or where a request comes from -> who asks, what he may do.

use super::access_file::{Entry, Proof, entries};
use crate::api::gate::User;
use crate::server::{Identity, Peer};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::net::IpAddr;
use std::path::Path;
use subtle::ConstantTimeEq;

/// What one may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// See configurations.
    Read,
    /// Change them, too.
    Write,
}

/// Who may use the API.
#[derive(Debug, Default)]
pub struct Access {
    /// `None`: no file is in use.
    entries: Option<Vec<Entry>>,
}

/// Why a request is not answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Denied {
    pub(super) status: StatusCode,
    pub(super) reason: Cow<'static, str>,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// The name in the file; without one a user's, a certificate's subject, or an address.
    pub(super) name: String,
    /// The client's address, for the log.
    pub(super) from: String,
    /// The subject of the client's certificate, for the log.
    pub(super) certificate: Option<String>,
}

/// Who has sent a request, by what is known without the file.
#[derive(Clone, Copy)]
struct Sender<'a> {
    peer: Option<&'a Peer>,
    user: Option<&'a str>,
    certificate: Option<&'a Identity>,
}

impl<'a> Sender<'a> {
    fn of(parts: &'a Parts) -> Self {
        let peer = parts.extensions.get::<Peer>();
        Self {
            peer,
            user: parts.extensions.get::<User>().map(|user| user.0.as_str()),
            certificate: peer.and_then(|peer| peer.certificate.as_deref()),
        }
    }

    fn caller(self, name: Option<&str>) -> Caller {
        let from = self.peer.map(|peer| peer.address.ip().to_string());
        let from = from.unwrap_or("unknown".to_owned());
        let subject = self.certificate.map(|own| own.subject.as_str());
        Caller {
            name: name.or(self.user).or(subject).unwrap_or(&from).to_owned(),
            certificate: subject.map(str::to_owned),
            from,
        }
    }
}

impl Access {
    /// Reads a file of who may do what. Blocks on the disk.
    ///
    /// # Errors
    /// The file cannot be read, or a line of it cannot be used.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the tokens file {}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("tokens file {}: {error}", path.display()))
    }

    /// Reads the text of such a file.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let entries = Some(entries(text)?);
        Ok(Self { entries })
    }

    /// Whether the file knows who sends this.
    pub(crate) fn knows(&self, parts: &Parts) -> bool {
        let entries = self.entries.as_ref();
        entries.is_some_and(|entries| find(entries, parts).is_ok())
    }

    /// Who asks, if he may do it. `is_open`: `--web.enable-lifecycle`.
    pub(super) fn allow(&self, parts: &Parts, role: Role, is_open: bool) -> Result<Caller, Denied> {
        let sender = Sender::of(parts);
        if let Some(entries) = &self.entries {
            let entry = find(entries, parts).map_err(|reason| Denied {
                status: StatusCode::UNAUTHORIZED,
                reason,
            })?;
            if entry.role < role {
                let name = &entry.name;
                return Err(Denied {
                    status: StatusCode::FORBIDDEN,
                    reason: format!("the {} of {name} may read only", entry.proof.kind()).into(),
                });
            }
            return Ok(sender.caller(Some(&entry.name)));
        }
        let address = sender.peer.map(|peer| peer.address.ip().to_canonical());
        let is_near = address.is_some_and(|address| address.is_loopback())
            && names_loopback(&parts.headers)
            && !is_forwarded(&parts.headers);
        // A page of another site whose name leads here (DNS rebinding) has that name for a host.
        let is_rebound =
            parts.headers.contains_key(header::ORIGIN) && !names_address(&parts.headers);
        if role == Role::Read || (is_open && !is_rebound) || is_near {
            return Ok(sender.caller(None));
        }
        Err(Denied {
            status: StatusCode::FORBIDDEN,
            reason: "configurations can be changed from this host only: give tokens with \
                     --config-api.tokens-file, or start with --web.enable-lifecycle"
                .into(),
        })
    }
}

/// Who sends this; a token counts before a certificate and a user's name.
fn find<'a>(entries: &'a [Entry], parts: &Parts) -> Result<&'a Entry, Cow<'static, str>> {
    let field = parts.headers.get(header::AUTHORIZATION);
    if let Some(token) = field.and_then(|field| bearer(field.as_bytes())) {
        return find_token(entries, token).ok_or("the bearer token is not known".into());
    }
    let sender = Sender::of(parts);
    let is_sender = |entry: &&Entry| match &entry.proof {
        Proof::Token(_) => false,
        Proof::Subject(subject) => sender
            .certificate
            .is_some_and(|own| own.subject == *subject),
        Proof::San(san) => sender.certificate.is_some_and(|own| own.sans.contains(san)),
        Proof::User(user) => sender.user == Some(user),
    };
    let found = entries.iter().filter(is_sender);
    // One certificate may have several names.
    let found = found.max_by_key(|entry| entry.role);
    found.ok_or_else(|| match (sender.certificate, sender.user) {
        (Some(own), _) => format!(
            "the certificate of {:?} is not known, and there is no bearer token",
            own.subject
        )
        .into(),
        (None, Some(user)) => {
            format!("the user {user:?} has no role, and there is no bearer token").into()
        }
        (None, None) => "a bearer token is needed".into(),
    })
}

/// The token's entry. All are compared, each in a time that tells nothing of it.
fn find_token<'a>(entries: &'a [Entry], presented: &[u8]) -> Option<&'a Entry> {
    let presented: [u8; 32] = Sha256::digest(presented).into();
    let mut found = None;
    for entry in entries {
        if let Proof::Token(hash) = &entry.proof
            && bool::from(hash.ct_eq(&presented))
        {
            found = Some(entry);
        }
    }
    found
}

/// What follows the scheme `Bearer`, in any case (RFC 9110, 11.1).
fn bearer(field: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = field.split_at_checked("bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// Whether the request names this host as one that only itself can be reached at. A page of another
/// site whose name leads here names that site.
fn names_loopback(headers: &HeaderMap) -> bool {
    let name = named_host(headers);
    name.eq_ignore_ascii_case("localhost")
        || (name.parse::<IpAddr>()).is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Whether the request names this host by an address, or as its own.
fn names_address(headers: &HeaderMap) -> bool {
    let name = named_host(headers);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// The host that the request is for, without its port; empty if it names none.
fn named_host(headers: &HeaderMap) -> &str {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = host.unwrap_or_default();
    match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

/// Whether somebody else's request was passed on by a proxy on this host.
fn is_forwarded(headers: &HeaderMap) -> bool {
    ["forwarded", "x-forwarded-for", "x-real-ip", "via"]
        .iter()
        .any(|name| headers.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;
    use std::net::SocketAddr;
    use std::sync::Arc;

    /// SHA-256 of `abc`, from FIPS 180-2, appendix B.1.
    const HASH_OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    /// SHA-256 of nothing.
    const HASH_OF_NOTHING: &str =
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parts(client: Option<&str>, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        if let Some(client) = client {
            let address: SocketAddr = client.parse().unwrap();
            let certificate = None;
            parts.extensions.insert(Peer {
                address,
                certificate,
            });
        }
        parts
    }

    #[test]
    fn tokens_and_their_roles() {
        let text = format!(
            "# people\nann write {HASH_OF_ABC}\n\n bob read {}\n",
            HASH_OF_NOTHING.to_uppercase()
        );
        let access = Access::parse(&text).unwrap();
        let who = |token: &str, role| {
            let parts = parts(Some("10.0.0.1:9"), &[("authorization", token)]);
            access
                .allow(&parts, role, false)
                .map(|caller| (caller.name, caller.from))
                .map_err(|denied| denied.status.as_u16())
        };
        let ann = ("ann".to_owned(), "10.0.0.1".to_owned());
        assert_eq!(who("Bearer abc", Role::Write), Ok(ann.clone()));
        assert_eq!(who("bearer  abc", Role::Read), Ok(ann));
        for wrong in ["Bearer abd", "Bearer ", "Basic abc", "abc", ""] {
            assert_eq!(who(wrong, Role::Read), Err(401), "{wrong}");
        }
        let readers = Access::parse(&format!("bob read {HASH_OF_ABC}")).unwrap();
        let parts = parts(Some("127.0.0.1:9"), &[("authorization", "Bearer abc")]);
        let denied = readers.allow(&parts, Role::Write, true).unwrap_err();
        assert_eq!(denied.status, StatusCode::FORBIDDEN);
        assert!(readers.allow(&parts, Role::Read, false).is_ok());
    }

    #[test]
    fn with_a_file_of_tokens_being_near_is_not_enough() {
        let access = Access::parse("# nobody yet\n").unwrap();
        let parts = parts(Some("127.0.0.1:9"), &[("host", "localhost")]);
        for role in [Role::Read, Role::Write] {
            let denied = access.allow(&parts, role, true).unwrap_err();
            assert_eq!(denied.status, StatusCode::UNAUTHORIZED);
        }
    }

    #[test]
    fn without_tokens_only_this_host_may_write() {
        let access = Access::default();
        let may = |client, headers: &[(&str, &str)], role, is_open| {
            access.allow(&parts(client, headers), role, is_open).is_ok()
        };
        let near = Some("127.0.0.1:9");
        for host in [
            "127.0.0.1:9095",
            "localhost",
            "LOCALHOST:1",
            "[::1]:9095",
            "127.9.9.9",
        ] {
            assert!(may(near, &[("host", host)], Role::Write, false), "{host}");
        }
        assert!(may(
            Some("[::ffff:127.0.0.1]:9"),
            &[("host", "[::1]")],
            Role::Write,
            false
        ));
        for host in [
            "evil.example:9095",
            "10.0.0.1",
            "[::2]",
            "",
            "localhost.evil.example",
        ] {
            assert!(!may(near, &[("host", host)], Role::Write, false), "{host}");
        }
        let good = ("host", "localhost");
        for proxy in ["x-forwarded-for", "Forwarded", "Via", "X-Real-IP"] {
            assert!(
                !may(near, &[good, (proxy, "x")], Role::Write, false),
                "{proxy}"
            );
        }
        for client in [Some("10.0.0.1:9"), None] {
            assert!(!may(client, &[good], Role::Write, false));
            assert!(may(client, &[good], Role::Write, true));
            assert!(may(client, &[good], Role::Read, false));
        }
    }

    #[test]
    fn certificates_and_users_and_their_roles() {
        let text = format!(
            "ci write subject:CN=ci,O=Example Inc\nhost read san:n1.example\n\
             mail write san:ops@example.org\nann read user:ann\nbot write {HASH_OF_ABC}\n"
        );
        let access = Access::parse(&text).unwrap();
        let who = |subject: &str, sans: &[&str], user: &str, token: &str, role| {
            let mut parts = parts(None, &[]);
            if !token.is_empty() {
                let field = format!("Bearer {token}").parse().unwrap();
                parts.headers.insert(header::AUTHORIZATION, field);
            }
            let identity = Identity {
                subject: subject.to_owned(),
                sans: sans.iter().map(|san| (*san).to_owned()).collect(),
                expires_s: 0,
            };
            parts.extensions.insert(Peer {
                address: ([10, 0, 0, 1], 9).into(),
                certificate: (!subject.is_empty()).then(|| Arc::new(identity)),
            });
            if !user.is_empty() {
                parts.extensions.insert(User(user.to_owned()));
            }
            let known = access.knows(&parts);
            let found = access.allow(&parts, role, true);
            let denied = found.as_ref().err();
            let is_unknown = denied.is_some_and(|denied| denied.status == 401);
            assert_eq!(known, !is_unknown);
            found
                .map(|caller| (caller.name, caller.certificate.unwrap_or_default()))
                .map_err(|denied| denied.status.as_u16())
        };
        let (read, write) = (Role::Read, Role::Write);
        let is = |name: &str, subject: &str| Ok((name.to_owned(), subject.to_owned()));
        let ci = "CN=ci,O=Example Inc";
        assert_eq!(who(ci, &[], "", "", write), is("ci", ci));
        assert_eq!(who("CN=ci", &[], "", "", read), Err(401));
        assert_eq!(
            who("CN=x", &["n1.example"], "", "", read),
            is("host", "CN=x")
        );
        assert_eq!(who("CN=x", &["n1.example"], "", "", write), Err(403));
        let both = ["n1.example", "ops@example.org"];
        assert_eq!(who("CN=x", &both, "", "", write), is("mail", "CN=x"));
        assert_eq!(who("CN=x", &["N1.EXAMPLE", "ci"], "", "", read), Err(401));
        assert_eq!(who("", &[], "ann", "", read), is("ann", ""));
        assert_eq!(who("", &[], "ann", "", write), Err(403));
        assert_eq!(who("", &[], "bob", "", read), Err(401));
        assert_eq!(who(ci, &[], "", "abc", write), is("bot", ci));
        assert_eq!(
            who(ci, &[], "", "abd", read),
            Err(401),
            "a wrong token is refused"
        );
        assert_eq!(who("", &[], "", "", read), Err(401));
    }
}
