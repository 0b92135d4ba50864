//! The table of metrics -> `docs/metrics.md`, which must be up to date.

use ringscrape_engine::metrics::table;
use std::fmt::Write;

/// Run with `UPDATE_DOCS=1` to write the page anew.
#[test]
fn metrics_page_is_current() {
    let mut page = String::from(
        "# Metrics\n\nWhat `/metrics` shows. Written from the table in `src/metrics/table.rs`.\n\n\
         | Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n",
    );
    for metric in table::ALL {
        let labels: Vec<String> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
        let kind = metric.kind.as_str();
        writeln!(
            page,
            "| `{}` | {kind} | {} | {} |",
            metric.name,
            labels.join(", "),
            metric.help
        )
        .unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let have = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        have == page,
        "docs/metrics.md is stale: run this test with UPDATE_DOCS=1"
    );
}
