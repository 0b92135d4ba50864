//! How the store of configurations is doing -> `/metrics`.

use crate::metrics::Exposition;
use crate::metrics::table;
use crate::service::store::StoreFigures;

/// Adds the families of the store.
pub(super) fn render(out: &mut Exposition, store: &StoreFigures) {
    let flag = |is_set: bool| f64::from(u8::from(is_set));
    let labels = [("store", store.kind)];
    out.sample(&table::CONFIG_STORE_UP, &labels, flag(store.is_connected));
    out.sample(
        &table::CONFIG_STORE_FROM_DISK,
        &[],
        flag(store.is_from_disk),
    );
    if let Some(succeeded_ms) = store.succeeded_ms {
        let seconds = succeeded_ms as f64 / 1e3;
        out.sample(&table::CONFIG_STORE_LAST_SUCCESS, &[], seconds);
    }
    out.sample(&table::CONFIG_STORE_ENTRIES, &[], store.entries as f64);
    out.sample(&table::CONFIG_STORE_BYTES, &[], store.bytes as f64);
    out.sample(&table::CONFIG_STORE_REVISION, &[], store.revision as f64);
    for (operation, result, count) in &store.operations {
        let labels = [("operation", *operation), ("result", *result)];
        out.sample(&table::CONFIG_STORE_OPERATIONS, &labels, *count as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_has_not_answered_yet() {
        let mut store = StoreFigures {
            kind: "etcd",
            is_connected: false,
            is_from_disk: true,
            succeeded_ms: None,
            entries: 2,
            bytes: 90,
            revision: 7,
            operations: vec![("read", "ok", 0), ("apply", "unconfirmed", 3)],
        };
        let text = |store: &StoreFigures| {
            let mut out = Exposition::new();
            render(&mut out, store);
            out.into_text()
        };
        let first = text(&store);
        for line in [
            "ringscrape_config_store_up{store=\"etcd\"} 0",
            "ringscrape_config_store_from_disk 1",
            "ringscrape_config_store_entries 2",
            "ringscrape_config_store_bytes 90",
            "ringscrape_config_store_revision 7",
            "ringscrape_config_store_operations_total{operation=\"apply\",\
             result=\"unconfirmed\"} 3",
        ] {
            assert!(first.lines().any(|have| have == line), "{line}: {first}");
        }
        assert!(!first.contains("last_success"));
        store.succeeded_ms = Some(1_500);
        let line = "ringscrape_config_store_last_success_timestamp_seconds 1.5";
        assert!(text(&store).lines().any(|have| have == line));
    }
}
