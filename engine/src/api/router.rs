//! Paths and methods -> handlers, with Prometheus' paths, envelopes and status codes.

use super::gate::gate;
use super::{Query, StateFilter, cluster, configs, json};
use crate::server::Sites;
use crate::web;
use axum::Router;
use axum::extract::{Query as UrlQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// What the API allows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ApiOptions {
    /// `--web.enable-lifecycle`: `/-/reload` is served.
    pub(crate) lifecycle: bool,
    /// `--config.enable-read-api`: the texts of stored configurations are shown.
    pub(crate) reads_configs: bool,
}

/// What handlers need.
#[derive(Clone)]
pub(super) struct Context {
    /// To the control loop.
    pub(super) queries: mpsc::Sender<Query>,
    pub(super) options: ApiOptions,
    /// What requests about stored configurations share.
    pub(super) configs: Arc<configs::Shared>,
    /// Who is let in.
    pub(super) sites: Arc<Sites>,
}

/// Whether requests that change this node's state are refused.
pub(super) fn is_lifecycle_refused(context: &Context) -> bool {
    !context.options.lifecycle
}

/// The routes. `queries` leads to the control loop.
pub(crate) fn router(
    queries: mpsc::Sender<Query>,
    options: ApiOptions,
    configs: Arc<configs::Shared>,
    sites: Arc<Sites>,
) -> Router {
    let context = Context {
        queries,
        options,
        configs,
        sites,
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(|| async { "ringscrape is healthy.\n" }))
        .route("/-/ready", get(ready))
        .route("/-/reload", any(reload))
        .route("/api/v1/targets", get(targets))
        .route("/version", get(version))
        .merge(cluster::routes())
        .merge(configs::routes())
        .merge(web::routes())
        .layer(middleware::from_fn(refuse_foreign_origin))
        .layer(middleware::from_fn_with_state(context.clone(), gate))
        .with_state(context)
}

async fn version() -> impl IntoResponse {
    axum::Json(serde_json::json!({ "version": env!("CARGO_PKG_VERSION") }))
}

/// A page of another site must not be able to change our state through a visitor's browser.
async fn refuse_foreign_origin(request: Request, next: Next) -> Response {
    let changes = !matches!(request.method().as_str(), "GET" | "HEAD" | "OPTIONS");
    if changes && is_foreign(request.headers()) {
        return (
            StatusCode::FORBIDDEN,
            "requests from another site's page are refused\n",
        )
            .into_response();
    }
    next.run(request).await
}

fn is_foreign(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return false;
    };
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("");
    let authority = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"));
    authority.is_none_or(|(_, authority)| authority != host)
}

/// Asks the control loop; the error is a response that says that the process is stopping.
pub(super) async fn ask<T>(
    context: &Context,
    query: impl FnOnce(oneshot::Sender<T>) -> Query,
) -> Result<T, Response> {
    let (answer, answered) = oneshot::channel();
    let stopping = || {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "no answer: ringscrape is stopping, or a shard is stuck\n",
        )
            .into_response()
    };
    context
        .queries
        .send(query(answer))
        .await
        .map_err(|_| stopping())?;
    answered.await.map_err(|_| stopping())
}

async fn metrics(State(context): State<Context>) -> Result<impl IntoResponse, Response> {
    let text = ask(&context, Query::Metrics).await?;
    Ok((
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text,
    ))
}

async fn ready(State(context): State<Context>) -> Result<Response, Response> {
    Ok(if ask(&context, Query::Ready).await? {
        "ringscrape is ready.\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "ringscrape is starting\n").into_response()
    })
}

async fn reload(State(context): State<Context>, request: Request) -> Result<Response, Response> {
    if !matches!(request.method().as_str(), "POST" | "PUT") {
        return Ok((StatusCode::METHOD_NOT_ALLOWED, "use POST or PUT\n").into_response());
    }
    if is_lifecycle_refused(&context) {
        let text =
            "reloading over HTTP is off: start with --web.enable-lifecycle, or send SIGHUP\n";
        return Ok((StatusCode::FORBIDDEN, text).into_response());
    }
    Ok(match ask(&context, Query::Reload).await? {
        Ok(()) => StatusCode::OK.into_response(),
        Err(reason) => {
            let text = format!("failed to reload config: {reason}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    })
}

async fn targets(
    State(context): State<Context>,
    UrlQuery(parameters): UrlQuery<HashMap<String, String>>,
) -> Result<impl IntoResponse, Response> {
    let filter = parameters
        .get("state")
        .map_or(StateFilter::Any, |text| StateFilter::parse(text));
    let pool = parameters
        .get("scrapePool")
        .map(String::as_str)
        .filter(|pool| !pool.is_empty());
    let view = ask(&context, Query::Targets).await?;
    let data = json::targets(&view.statuses, &view.jobs, filter, pool);
    Ok(axum::Json(
        serde_json::json!({ "status": "success", "data": data }),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn only_pages_of_this_host_may_post() {
        let headers = |origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("127.0.0.1:9090"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            headers
        };
        assert!(!is_foreign(&headers(None)));
        assert!(!is_foreign(&headers(Some("http://127.0.0.1:9090"))));
        assert!(is_foreign(&headers(Some("http://evil.example"))));
        assert!(is_foreign(&headers(Some("null"))));
    }
}
