//! Paths and methods -> handlers: Grafana Agent's, and the batch beside its list.

use super::{instances, reads, writes};
use crate::api::router::Context;
use axum::Router;
use axum::routing::get;

/// The routes.
pub(in crate::api) fn routes() -> Router<Context> {
    let instances = || get(instances::instances);
    let targets = || get(instances::targets);
    Router::new()
        .route(
            "/agent/api/v1/configs",
            get(reads::list).post(writes::batch),
        )
        .route("/agent/api/v1/configs/{name}", get(reads::one))
        .route("/agent/api/v1/configs/{name}/status", get(reads::status))
        .route(
            "/agent/api/v1/config/{name}",
            axum::routing::put(writes::put)
                .post(writes::put)
                .delete(writes::delete),
        )
        .route("/agent/api/v1/metrics/instances", instances())
        .route("/agent/api/v1/instances", instances())
        .route("/agent/api/v1/metrics/targets", targets())
        .route("/agent/api/v1/targets", targets())
        .route("/agent/api/v1/logs/instances", get(instances::nothing))
        .route("/agent/api/v1/logs/targets", get(instances::nothing))
}
