//! A number of routes -> the families of an instrumented service.
//!
//! The load that does not flatter: nothing here repeats between scrapes but the text.

use super::Kind::{Counter, Gauge, Summary};
use super::{Family, Kind, Sample, scatter};

/// Which labels the series of a family have beside those of the service.
#[derive(Clone, Copy)]
enum Labels {
    Route,
    RouteAndCode,
    Quantile,
    Topic,
}

type Row = (&'static str, Kind, Labels, &'static str);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("app_cache_hit_ratio", Gauge, Labels::Route, "Share of lookups that the cache answered."),
    ("app_consumer_lag_seconds", Gauge, Labels::Topic, "Age of the oldest message that was not consumed."),
    ("app_consumer_processing_seconds_total", Counter, Labels::Topic, "Time spent processing messages."),
    ("app_http_request_cost_seconds_total", Counter, Labels::RouteAndCode, "CPU time spent on requests."),
    ("app_http_request_duration_seconds", Summary, Labels::Quantile, "Duration of requests."),
    ("app_http_request_rate", Gauge, Labels::RouteAndCode, "Requests per second, as an average over a minute."),
    ("app_http_response_size_mean_bytes", Gauge, Labels::Route, "Mean size of responses."),
    ("app_rpc_client_duration_seconds", Summary, Labels::Quantile, "Duration of calls to other services."),
];

const NAMESPACES: [&str; 4] = [
    "checkout-production",
    "search-indexing",
    "ml-batch",
    "identity",
];
const ROUTES: [&str; 5] = [
    "/api/v2/customers/{customer_id}/orders/{order_id}",
    "/api/v2/carts/{cart_id}/items",
    "/internal/reconciliation/batches/{batch_id}",
    "/api/v1/search/suggestions",
    "/oauth/authorizations/{client_id}/tokens",
];
const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];
const CODES: [&str; 4] = ["200", "304", "429", "503"];
const QUANTILES: [&str; 4] = ["0.25", "0.75", "0.95", "0.999"];

/// All families with `size` routes; `size` at least 1.
pub(super) fn families(size: usize) -> Vec<Family> {
    let make = |&(name, kind, labels, help): &Row| Family {
        name,
        kind,
        help,
        samples: (0..size)
            .flat_map(|index| samples(name, labels, index))
            .collect(),
    };
    TABLE.iter().map(make).collect()
}

fn samples(name: &'static str, labels: Labels, index: usize) -> Vec<Sample> {
    let id = scatter(index as u64);
    let common = [
        ("namespace", NAMESPACES[index % NAMESPACES.len()].to_owned()),
        ("service", format!("order-fulfilment-{:02}", index % 17)),
        (
            "version",
            format!("2026.{}.{}-g{:010x}", id % 12 + 1, id % 40, id >> 24),
        ),
    ];
    let route = || {
        let path = format!("{}/{index}", ROUTES[index % ROUTES.len()]);
        [
            ("route", path),
            ("method", METHODS[index % METHODS.len()].to_owned()),
        ]
    };
    let one = |suffix: &str, more: Vec<(&'static str, String)>| Sample {
        name: format!("{name}{suffix}"),
        labels: common.iter().cloned().chain(more).collect(),
    };
    match labels {
        Labels::Route => vec![one("", route().into())],
        Labels::RouteAndCode => CODES
            .map(|code| {
                let mut labels = Vec::from(route());
                labels.push(("code", code.to_owned()));
                one("", labels)
            })
            .into(),
        Labels::Quantile => {
            let mut all = Vec::from(QUANTILES.map(|quantile| {
                let mut labels = Vec::from(route());
                labels.push(("quantile", quantile.to_owned()));
                one("", labels)
            }));
            all.push(one("_sum", route().into()));
            all.push(one("_count", route().into()));
            all
        }
        Labels::Topic => vec![one(
            "",
            vec![
                (
                    "topic",
                    format!("orders.events.v{}.{:08x}", index % 3 + 1, id >> 32),
                ),
                ("partition", index.to_string()),
                ("group", "fulfilment-settlement-consumer".to_owned()),
            ],
        )],
    }
}
