//! A bearer token, or where a request comes from -> who asks, and what he may do.
//!
//! A file of tokens has one a line: a name, a role (`read` or `write`) and the token's SHA-256 in
//! hexadecimal digits. The file itself gives nothing away: a token is meant to be 32 random bytes,
//! which nobody finds from their hash.

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use subtle::ConstantTimeEq;

const HASH_BYTES: usize = 32;

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
    /// Empty: no file of tokens is in use.
    tokens: Vec<Token>,
    has_file: bool,
}

#[derive(Debug)]
struct Token {
    name: String,
    role: Role,
    hash: [u8; HASH_BYTES],
}

/// Why a request is not answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Denied {
    pub(super) status: StatusCode,
    pub(super) reason: &'static str,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// A token's name, else an address.
    pub(super) name: String,
    /// The client's address, for the log.
    pub(super) from: String,
}

impl Access {
    /// Reads a file of tokens. Blocks on the disk.
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
        let mut tokens = Vec::<Token>::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: &str| Err(format!("line {}: {what}", index + 1));
            let words: Vec<&str> = line.split_whitespace().collect();
            let [name, role, hash] = words[..] else {
                return wrong("give a name, a role (read or write) and a SHA-256");
            };
            let role = match role {
                "read" => Role::Read,
                "write" => Role::Write,
                _ => return wrong("the role is neither read nor write"),
            };
            let Some(hash) = hash_of_digits(hash) else {
                return wrong("the SHA-256 is not 64 hexadecimal digits");
            };
            if tokens.iter().any(|token| token.name == name) {
                return wrong("the name is there twice");
            }
            if tokens.iter().any(|token| token.hash == hash) {
                return wrong("the SHA-256 is there twice");
            }
            tokens.push(Token {
                name: name.to_owned(),
                role,
                hash,
            });
        }
        Ok(Self {
            tokens,
            has_file: true,
        })
    }

    /// The token's entry. All are compared, each in a time that tells nothing of it.
    fn find(&self, presented: &[u8]) -> Option<&Token> {
        let hash: [u8; HASH_BYTES] = Sha256::digest(presented).into();
        let mut found = None;
        for token in &self.tokens {
            if bool::from(token.hash.ct_eq(&hash)) {
                found = Some(token);
            }
        }
        found
    }

    /// Who asks, if he may do it. `is_open`: `--web.enable-lifecycle`.
    pub(super) fn allow(&self, parts: &Parts, role: Role, is_open: bool) -> Result<Caller, Denied> {
        let client = (parts.extensions.get::<ConnectInfo<SocketAddr>>()).map(|client| client.0);
        let from = client.map_or("unknown".to_owned(), |client| client.ip().to_string());
        if self.has_file {
            return self.allow_token(&parts.headers, role, from);
        }
        let caller = Caller {
            name: from.clone(),
            from,
        };
        let is_near = client.is_some_and(|client| client.ip().to_canonical().is_loopback())
            && names_loopback(&parts.headers)
            && !is_forwarded(&parts.headers);
        // A page of another site whose name leads here (DNS rebinding) has that name for a host.
        let is_rebound =
            parts.headers.contains_key(header::ORIGIN) && !names_address(&parts.headers);
        if role == Role::Read || (is_open && !is_rebound) || is_near {
            return Ok(caller);
        }
        Err(Denied {
            status: StatusCode::FORBIDDEN,
            reason: "configurations can be changed from this host only: give tokens with \
                     --config-api.tokens-file, or start with --web.enable-lifecycle",
        })
    }

    fn allow_token(&self, headers: &HeaderMap, role: Role, from: String) -> Result<Caller, Denied> {
        let unknown = |reason| Denied {
            status: StatusCode::UNAUTHORIZED,
            reason,
        };
        let field = headers.get(header::AUTHORIZATION);
        let field = field.ok_or(unknown("a bearer token is needed"))?;
        let presented = bearer(field.as_bytes()).ok_or(unknown("a bearer token is needed"))?;
        let token = self
            .find(presented)
            .ok_or(unknown("the bearer token is not known"))?;
        if token.role < role {
            return Err(Denied {
                status: StatusCode::FORBIDDEN,
                reason: "the bearer token may read only",
            });
        }
        Ok(Caller {
            name: token.name.clone(),
            from,
        })
    }
}

fn hash_of_digits(text: &str) -> Option<[u8; HASH_BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * HASH_BYTES {
        return None;
    }
    let mut hash = [0; HASH_BYTES];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(hash)
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
            parts.extensions.insert(ConnectInfo(address));
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
    fn unusable_lines_are_named() {
        let twice = format!("a read {HASH_OF_ABC}\na write {HASH_OF_NOTHING}");
        let same = format!("a read {HASH_OF_ABC}\nb write {HASH_OF_ABC}");
        for (text, wrong) in [
            ("a", "line 1: give"),
            ("\na own 12", "line 2: the role"),
            ("a read 12", "64"),
            (&"a read zz".replace("zz", &"zz".repeat(32)), "64"),
            (&twice, "line 2: the name"),
            (&same, "line 2: the SHA-256 is there twice"),
        ] {
            let error = Access::parse(text).unwrap_err();
            assert!(error.contains(wrong), "{text}: {error}");
        }
    }
}
