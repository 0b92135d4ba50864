//! A request -> whether it is answered at all, by name and password, and what each answer has.

use super::Query;
use super::router::{Context, ask};
use crate::server::{Site, Verdict};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What the paths begin with that have roles of their own: who has one needs no password.
const WITH_ROLES: &str = "/agent/api/v1/";

/// The name of the user whose password a request has. An extension of the request.
#[derive(Debug, Clone)]
pub(super) struct User(pub(super) String);

/// Lets through who may ask, and adds the fields of the site.
pub(super) async fn gate(State(context): State<Context>, request: Request, next: Next) -> Response {
    let site = context.sites.current();
    let (mut parts, body) = request.into_parts();
    let mut response = match admit(&context, &site, &mut parts).await {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(refusal) => *refusal,
    };
    for (name, value) in &site.headers {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    response
}

async fn admit(context: &Context, site: &Site, parts: &mut Parts) -> Result<(), Box<Response>> {
    if site.users.is_empty() {
        return Ok(());
    }
    let field = parts.headers.get(header::AUTHORIZATION);
    if let Some((name, password)) = field.and_then(|field| basic(field.as_bytes())) {
        match context.sites.check(site, &name, &password).await {
            Verdict::Right => {
                parts.extensions.insert(User(name));
                Ok(())
            }
            Verdict::Wrong => Err(unauthorized()),
            Verdict::Busy => {
                let text = "too many passwords are being looked at\n";
                let answer = (
                    StatusCode::SERVICE_UNAVAILABLE,
                    [(header::RETRY_AFTER, "1")],
                    text,
                );
                Err(Box::new(answer.into_response()))
            }
        }
    } else if parts.uri.path().starts_with(WITH_ROLES) && has_role(context, parts).await? {
        Ok(())
    } else {
        context.sites.note_unauthorized();
        Err(unauthorized())
    }
}

async fn has_role(context: &Context, parts: &Parts) -> Result<bool, Box<Response>> {
    let service = ask(context, Query::Service).await.map_err(Box::new)?;
    Ok(service.is_some_and(|service| service.access.knows(parts)))
}

fn unauthorized() -> Box<Response> {
    let mut answer = (StatusCode::UNAUTHORIZED, "Unauthorized\n").into_response();
    let scheme = HeaderValue::from_static("Basic realm=\"ringscrape\", charset=\"UTF-8\"");
    answer
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, scheme);
    Box::new(answer)
}

/// The name and the password after the scheme `Basic` (RFC 7617).
fn basic(field: &[u8]) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = field.split_at_checked("basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let both = STANDARD.decode(encoded.trim_ascii()).ok()?;
    let colon = both.iter().position(|byte| *byte == b':')?;
    let name = String::from_utf8(both[..colon].to_vec()).ok()?;
    Some((name, both[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords() {
        let is = |name: &str, password: &str| Some((name.to_owned(), password.into()));
        // RFC 7617, 2.
        let field = b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        assert_eq!(basic(field), is("Aladdin", "open sesame"));
        assert_eq!(basic(b"bASIC  YTpiOmM="), is("a", "b:c"));
        assert_eq!(basic(b"Basic Og=="), is("", ""));
        for wrong in [
            "",
            "Basic",
            "Basic ",
            "Basic YQ==",
            "Bearer YTpi",
            "Basic /zph",
            "Basic ?",
        ] {
            assert_eq!(basic(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
