//! A change and lists as requests have them, without HTTP and a store: for benchmarks. Nothing else
//! calls it.

use super::changes::{self, Wanted, What};
use super::jobs::JobIndex;
use super::lists::{self, Page};
use super::{Access, Service, Validate, answers};
use crate::service::store::{Change, Condition, Configs, StoreHandle, StoreState};
use axum::body::HttpBody;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// What requests share.
#[derive(Debug)]
pub(crate) struct Requests {
    service: Service,
    index: JobIndex,
}

impl Requests {
    pub(crate) fn new(rules: Arc<dyn Validate>) -> Self {
        let (requests, _) = mpsc::channel(1);
        let (_, state) = watch::channel(StoreState::default());
        let service = Service {
            store: StoreHandle {
                requests,
                state,
                kind: "none",
                counters: Arc::default(),
            },
            rules,
            access: Arc::new(Access::default()),
            is_readable: true,
            is_embedded: false,
            config_bytes_max: u64::MAX,
            configs_max: 0,
        };
        Self {
            service,
            index: JobIndex::default(),
        }
    }

    /// What the store is told, if each text is good and no job name is taken.
    pub(crate) fn put(
        &mut self,
        configs: &Configs,
        name: &str,
        text: String,
    ) -> Option<Vec<Change>> {
        let wanted = [Wanted {
            name: name.into(),
            what: What::Put {
                text: text.into(),
                managed_by: None,
            },
            condition: Condition::None,
        }];
        let faults = changes::check(&wanted, configs, &mut self.index, &self.service);
        let changes = || changes::for_store(&wanted, configs, "trial", 0);
        faults.is_empty().then(changes)
    }
}

/// Bytes of the answer with all names.
pub(crate) fn list(configs: &Configs) -> u64 {
    let answer = answers::data(&lists::all_names(configs));
    answer.body().size_hint().lower()
}

/// Bytes of the first page with details.
pub(crate) fn page(configs: &Configs, limit: usize) -> u64 {
    let parameters = HashMap::from([("limit".to_owned(), limit.to_string())]);
    let page = Page::parse(&parameters).ok().flatten().unwrap_or_default();
    let answer = answers::data(&lists::page(configs, &page));
    answer.body().size_hint().lower()
}
