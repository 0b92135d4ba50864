//! What a store says, in whatever order -> which configurations are in force.

use super::*;
use crate::service::store::{Request, StoreCounters, StoreError, StoreState, StoredConfig};
use std::path::Path;
use tokio::sync::{mpsc, watch};

struct Store {
    state: watch::Sender<StoreState>,
    requests: mpsc::Receiver<Request>,
}

fn start() -> (Store, Option<Service>) {
    let text = "scraping_service: {enabled: true, kvstore: {store: local}}";
    let config = Config::parse(Path::new("/r.yml"), text, &|_| None).unwrap();
    let settings = config.scraping_service.clone().unwrap();
    let (state, known) = watch::channel(StoreState::default());
    let (sender, requests) = mpsc::channel(1);
    let handle = StoreHandle {
        requests: sender,
        state: known,
        kind: "local",
        counters: Arc::new(StoreCounters::default()),
    };
    let service = Service::new(&config, settings, handle).unwrap();
    (Store { state, requests }, Some(service))
}

fn configs(revision: u64, names: &[&str]) -> Arc<Configs> {
    let stored = |name: &&str| {
        let config = StoredConfig {
            name: (*name).into(),
            text: format!("scrape_configs: [{{job_name: {name}}}]").into(),
            revision,
            origin: Default::default(),
        };
        (config.name.clone(), Arc::new(config))
    };
    Arc::new(Configs {
        revision,
        by_name: names.iter().map(stored).collect(),
    })
}

impl Store {
    /// The watch tells of this.
    fn tell(&self, configs: Arc<Configs>, is_connected: bool) {
        self.state.send_replace(StoreState {
            configs,
            is_connected,
            last_error: String::new(),
        });
    }
}

/// What runs after this.
fn run(service: &mut Option<Service>, stored: Stored) -> String {
    let service = service.as_mut().unwrap();
    service.take(&stored);
    let names: Vec<&str> = (service.catalog.known().keys())
        .map(|name| &**name)
        .collect();
    names.join(" ")
}

#[tokio::test]
async fn a_listing_and_the_watch_do_not_undo_what_the_other_has_told() {
    let (store, mut service) = start();
    let taken = run(&mut service, Stored::Listed(configs(100, &["x"])));
    assert_eq!(taken, "x", "the first of all");
    // Of another member, and lower than the highest revision.
    store.tell(configs(100, &["x", "y"]), true);
    assert_eq!(run(&mut service, Stored::Changed), "x y");
    let taken = run(&mut service, Stored::Listed(configs(100, &["x"])));
    assert_eq!(taken, "x y", "read before the change");
    let taken = run(&mut service, Stored::Listed(configs(104, &["z"])));
    assert_eq!(taken, "z", "ahead of the watch");
    store.tell(configs(102, &["y"]), true);
    assert_eq!(run(&mut service, Stored::Changed), "z");
    assert_eq!(run(&mut service, Stored::Unlisted), "z");
    store.tell(configs(3, &["new"]), true);
    assert_eq!(run(&mut service, Stored::Changed), "new", "begun anew");
}

#[tokio::test]
async fn a_store_has_answered_when_it_says_what_it_holds_by_now() {
    let (store, mut service) = start();
    let has_answered = |service: &Option<Service>| service.as_ref().unwrap().has_answered();
    store.tell(configs(5, &["x"]), false);
    run(&mut service, Stored::Changed);
    run(&mut service, Stored::Unlisted);
    assert!(!has_answered(&service), "known from the disk only");
    store.tell(configs(5, &["x"]), true);
    run(&mut service, Stored::Changed);
    assert!(has_answered(&service));
    store.tell(configs(5, &["x"]), false);
    run(&mut service, Stored::Changed);
    assert!(has_answered(&service), "once for all");
    let (_store, mut service) = start();
    run(&mut service, Stored::Listed(configs(0, &[])));
    assert!(has_answered(&service));
}

#[tokio::test]
async fn a_listing_that_fails_is_told_too() {
    let (mut store, mut service) = start();
    service.as_mut().unwrap().next_listing = Instant::now();
    let refused = async {
        match store.requests.recv().await.unwrap() {
            Request::Read(answer) => {
                let error = StoreError::NotConnected("away".to_owned());
                answer.send(Err(error)).unwrap();
            }
            other => panic!("{other:?}"),
        }
    };
    let patience = Duration::from_secs(30);
    let next = tokio::time::timeout(patience, Service::next(&mut service));
    let (next, ()) = tokio::join!(next, refused);
    assert!(matches!(next, Ok(Stored::Unlisted)));
}
