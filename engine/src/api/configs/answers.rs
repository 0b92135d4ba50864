//! Data and errors -> responses in Grafana Agent's envelope.

use super::Service;
use super::access::Denied;
use super::changes::{self, Fault, Kind};
use super::view::{ErrorView, NamedError};
use crate::service::store::StoreError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

/// Most faults that the text of an error names; all are in its list.
const FAULTS_NAMED_MAX: usize = 5;

/// An answer that is no success, small enough to be handed on as an error.
#[derive(Debug)]
pub(super) struct Refusal(Box<Response>);

impl From<Response> for Refusal {
    fn from(response: Response) -> Self {
        Self(Box::new(response))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        *self.0
    }
}

pub(super) fn success(status: StatusCode) -> Response {
    (status, axum::Json(json!({"status": "success"}))).into_response()
}

pub(super) fn data(data: &impl Serialize) -> Response {
    axum::Json(json!({"status": "success", "data": data})).into_response()
}

pub(super) fn error(status: StatusCode, text: &str) -> Refusal {
    let view = ErrorView {
        error: text.to_owned(),
        errors: Vec::new(),
    };
    error_view(status, &view)
}

fn error_view(status: StatusCode, view: &ErrorView) -> Refusal {
    let body = json!({"status": "error", "data": view});
    (status, axum::Json(body)).into_response().into()
}

pub(super) fn bad_request(text: &str) -> Refusal {
    error(StatusCode::BAD_REQUEST, text)
}

/// The service is off.
pub(super) fn no_store() -> Refusal {
    error(StatusCode::NOT_FOUND, "no config store running")
}

/// Texts cannot be read: as Grafana Agent says it, without an envelope.
pub(super) fn unreadable() -> Refusal {
    let text = "404 - config endpoint is disabled";
    (StatusCode::NOT_FOUND, text).into_response().into()
}

pub(super) fn missing(name: &str) -> Refusal {
    error(
        StatusCode::NOT_FOUND,
        &format!("configuration {name} does not exist"),
    )
}

pub(super) fn denied(denied: &Denied) -> Refusal {
    let mut response = error(denied.status, &denied.reason);
    if denied.status == StatusCode::UNAUTHORIZED {
        let headers = response.0.headers_mut();
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A store's error; `doing` begins the text where the store itself is at fault.
pub(super) fn store_error(service: &Service, doing: &str, found: &StoreError) -> Refusal {
    let status = match found {
        StoreError::NotConnected(_) if service.is_embedded => StatusCode::SERVICE_UNAVAILABLE,
        StoreError::NotConnected(_) => StatusCode::INTERNAL_SERVER_ERROR,
        StoreError::Unconfirmed(_) => StatusCode::SERVICE_UNAVAILABLE,
        StoreError::Conflict { .. } => StatusCode::PRECONDITION_FAILED,
        StoreError::Missing(_) => StatusCode::NOT_FOUND,
        StoreError::Refused(_) => StatusCode::BAD_REQUEST,
    };
    let text = match found {
        StoreError::NotConnected(_) | StoreError::Unconfirmed(_) | StoreError::Refused(_) => {
            format!("{doing}: {found}")
        }
        StoreError::Conflict { name, revision } => changes::conflict(name, *revision),
        StoreError::Missing(_) => found.to_string(),
    };
    error(status, &text)
}

/// What is wrong with the changes of a request. The worst decides the status.
pub(super) fn faults(found: &[Fault], is_batch: bool) -> Refusal {
    let has = |kind| found.iter().any(|fault| fault.kind == kind);
    let status = if has(Kind::Invalid) {
        StatusCode::BAD_REQUEST
    } else if has(Kind::Conflict) {
        StatusCode::PRECONDITION_FAILED
    } else {
        StatusCode::NOT_FOUND
    };
    if !is_batch {
        let text = found.first().map_or("", |fault| &fault.reason);
        return error(status, text);
    }
    let named = found.iter().take(FAULTS_NAMED_MAX);
    let mut texts: Vec<String> = named
        .map(|fault| format!("{}: {}", fault.name, fault.reason))
        .collect();
    if found.len() > texts.len() {
        texts.push(format!("and {} more", found.len() - texts.len()));
    }
    let errors = found.iter().map(|fault| NamedError {
        name: fault.name.to_string(),
        error: fault.reason.clone(),
    });
    let view = ErrorView {
        error: format!("nothing was changed: {}", texts.join("; ")),
        errors: errors.collect(),
    };
    error_view(status, &view)
}
