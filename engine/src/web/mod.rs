//! Requests of browsers -> the pages, which are part of the program.
//!
//! The pages take nothing from other hosts and hold no figures: a script asks the API for these.

use axum::Router;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;

/// Only our own files and API; nothing may frame the page or be sent from it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
/// By name. Each is a module that the page or another one loads.
const SCRIPTS: [(&str, &str); 6] = [
    ("main.js", include_str!("main.js")),
    ("dom.js", include_str!("dom.js")),
    ("overview.js", include_str!("overview.js")),
    ("cluster.js", include_str!("cluster.js")),
    ("targets.js", include_str!("targets.js")),
    ("configs.js", include_str!("configs.js")),
];

/// The routes of this file.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let page = || async { file("text/html; charset=utf-8", PAGE) };
    let mut routes = Router::new()
        .route("/", get(page))
        .route("/cluster", get(page))
        .route("/targets", get(page))
        .route("/configs", get(page))
        // Where people who come from Alloy look.
        .route(
            "/clustering",
            get(|| async { Redirect::permanent("/cluster") }),
        )
        .route(
            "/web/style.css",
            get(|| async { file("text/css; charset=utf-8", STYLE) }),
        );
    for (name, text) in SCRIPTS {
        let script = move || async move { file("text/javascript; charset=utf-8", text) };
        routes = routes.route(&format!("/web/{name}"), get(script));
    }
    routes
}

fn file(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The policy forbids what is not a file of ours; the page must not need it.
    #[test]
    fn the_page_needs_nothing_that_the_policy_forbids() {
        for forbidden in [
            "style=", "onclick=", "onload=", "<style", "http://", "https://",
        ] {
            assert!(!PAGE.contains(forbidden), "the page has {forbidden}");
        }
        for (name, text) in SCRIPTS {
            for forbidden in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
            ] {
                assert!(!text.contains(forbidden), "{name} uses {forbidden}");
            }
            for import in text
                .lines()
                .filter_map(|line| line.split_once(" from \"./"))
            {
                let file = import.1.trim_end_matches("\";");
                assert!(
                    SCRIPTS.iter().any(|(known, _)| *known == file),
                    "{name}: {file}"
                );
            }
        }
        assert!(!STYLE.contains("@import") && !STYLE.contains("url("));
    }
}
