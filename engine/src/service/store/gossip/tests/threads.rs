//! Stores of three nodes over the sealed streams of their gossip threads, on loopback.

use super::*;
use crate::gossip::{
    ClusterOptions, FromGossip, GOSSIP_MESSAGES_MAX, GossipThread, Place, ToGossip,
};
use crate::service::settings::{StoreKind, StoreSettings};
use crate::service::store::{StorePlace, start_in_cluster};
use ringscrape_cluster::state::Wish;
use std::net::SocketAddr;

struct Member {
    thread: GossipThread,
    store: StoreHandle,
    _folder: tempfile::TempDir,
}

impl Drop for Member {
    fn drop(&mut self) {
        // Full: the test's runtime ends it.
        let _ = self.thread.mailbox.try_send(ToGossip::Stop);
    }
}

impl Member {
    fn start(name: &str, join: Option<SocketAddr>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = ClusterOptions {
            cluster_name: "test".to_owned(),
            node_name: Some(name.to_owned()),
            listen_address: Some(([127, 0, 0, 1], 0).into()),
            join_addresses: join.iter().map(ToString::to_string).collect(),
            detection_time_ms: 2_000,
            ..ClusterOptions::default()
        };
        let place = Place {
            storage_path: folder.path().to_owned(),
            api_address: ([127, 0, 0, 1], 9_090).into(),
        };
        let (control, mut from) = mpsc::channel(GOSSIP_MESSAGES_MAX);
        let thread = GossipThread::start(options, &place, control).unwrap();
        let wish = Wish {
            is_active: true,
            weight: 1,
            jobs: [].into(),
            heavy: None,
        };
        thread.mailbox.try_send(ToGossip::Wish(wish)).unwrap();
        tokio::spawn(async move {
            while let Some(message) = from.recv().await {
                // Questions of stores do not come this way.
                let is_wrong =
                    matches!(message, FromGossip::Question { .. } | FromGossip::Failed(_));
                assert!(!is_wrong, "{message:?}");
            }
        });
        let settings = StoreSettings {
            prefix: String::new(),
            kind: StoreKind::Gossip,
        };
        let place = StorePlace {
            storage_path: folder.path().to_owned(),
        };
        let links = GossipLinks::new(&thread);
        let store = start_in_cluster(&settings, &place, Some(links.clone())).unwrap();
        assert!(
            start_in_cluster(&settings, &place, Some(links)).is_err(),
            "one is enough"
        );
        assert!(
            start_in_cluster(&settings, &place, None).is_err(),
            "no cluster"
        );
        Self {
            thread,
            store,
            _folder: folder,
        }
    }

    async fn until(&self, what: &str, is_so: impl FnMut(&StoreState) -> bool) {
        let mut state = self.store.state.clone();
        let patience = Duration::from_secs(60);
        let waited = tokio::time::timeout(patience, state.wait_for(is_so)).await;
        let state = self.store.state.borrow();
        assert!(waited.is_ok(), "{what}: {}", state.last_error);
    }

    /// Makes a change as soon as the members that it needs are there.
    async fn apply(&self, changes: &[Change]) {
        let patience = std::time::Instant::now() + Duration::from_secs(60);
        while let Err(error) = self.store.apply(changes.to_vec()).await {
            assert!(std::time::Instant::now() < patience, "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn nodes_of_a_cluster_keep_configurations_without_a_server() {
    let a = Member::start("a", None);
    a.apply(&put("x", "1", Condition::None)).await;
    let b = Member::start("b", Some(a.thread.gossip_address));
    let c = Member::start("c", Some(a.thread.gossip_address));
    b.until("a new node", has("x", "1")).await;
    c.until("a new node", has("x", "1")).await;
    for node in [&b, &c] {
        node.until("connected", |state| state.is_connected).await;
    }
    c.apply(&put("x", "2", Condition::None)).await;
    let large = "x".repeat(3 << 20);
    b.apply(&put("large", &large, Condition::None)).await;
    for node in [&a, &b, &c] {
        node.until("an update", has("x", "2")).await;
        node.until("a large one", has("large", &large)).await;
    }
    // Two of three are a majority; of two that were, one is not.
    drop(c);
    a.apply(&put("x", "3", Condition::None)).await;
    b.until("an update", has("x", "3")).await;
    drop(b);
    a.until("alone", |state| !state.is_connected).await;
    let refused = a.store.apply(put("x", "4", Condition::None)).await;
    assert!(
        matches!(refused, Err(StoreError::NotConnected(_))),
        "{refused:?}"
    );
    assert!(has("x", "3")(&a.store.state.borrow()));
}
