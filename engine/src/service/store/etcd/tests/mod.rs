//! Stores of several nodes at a real etcd that is killed, paused, compacted and wiped.

mod server;

use super::*;
use crate::service::settings::{EtcdTls, StoreKind, StoreSettings};
use crate::service::store::{
    self, Condition, Origin, Outcome, StoreHandle, StorePlace, StoreState,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use server::{Server, Way};
use std::io::Write;
use std::time::Instant;

const PREFIX: &str = "configurations/";

fn settings(ports: &[u16]) -> EtcdSettings {
    EtcdSettings {
        endpoints: ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect(),
        dial_timeout_ms: 2_000,
        max_retries: 10,
        tls: None,
        username: String::new(),
        password: String::new(),
    }
}

/// A node of its own, as long as it lives.
struct Node {
    folder: tempfile::TempDir,
    store: StoreHandle,
}

impl Node {
    fn new(etcd: EtcdSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(etcd, &folder);
        Self { folder, store }
    }

    async fn until(&self, what: &str, is_so: impl FnMut(&StoreState) -> bool) -> Duration {
        let since = Instant::now();
        let mut state = self.store.state.clone();
        let patience = Duration::from_secs(20);
        let waited = tokio::time::timeout(patience, state.wait_for(is_so)).await;
        assert!(waited.is_ok(), "{what}: {:?}", *self.store.state.borrow());
        since.elapsed()
    }

    fn names(&self) -> Vec<String> {
        let state = self.store.state.borrow();
        state
            .configs
            .by_name
            .keys()
            .map(|name| name.to_string())
            .collect()
    }
}

fn open(etcd: EtcdSettings, folder: &tempfile::TempDir) -> StoreHandle {
    let settings = StoreSettings {
        prefix: PREFIX.to_owned(),
        kind: StoreKind::Etcd(etcd),
    };
    let place = StorePlace {
        storage_path: folder.path().to_owned(),
    };
    store::start(&settings, &place).unwrap()
}

fn put(name: &str, text: &str, condition: Condition) -> Change {
    Change::Put {
        name: name.into(),
        text: text.into(),
        origin: Origin {
            changed_by: "test".to_owned(),
            ..Origin::default()
        },
        condition,
    }
}

fn delete(name: &str, condition: Condition) -> Change {
    let name = name.into();
    Change::Delete { name, condition }
}

fn has(name: &str, text: &str) -> impl FnMut(&StoreState) -> bool {
    move |state| {
        let config = state.configs.by_name.get(name);
        state.is_connected && config.is_some_and(|one| *one.text == *text)
    }
}

#[tokio::test]
async fn what_one_node_stores_all_know() {
    let Some(server) = Server::start() else {
        return;
    };
    let [a, b] = [0, 1].map(|_| Node::new(settings(&[server.port])));
    b.until("connected", |state| state.is_connected).await;

    let made = a
        .store
        .apply(vec![put("hello/world", "1", Condition::Absent)])
        .await;
    assert_eq!(made.unwrap().outcomes, [Outcome::Created]);
    assert_eq!(
        a.names(),
        ["hello/world"],
        "known to who stored it when it is confirmed"
    );
    let latency = b.until("a put", has("hello/world", "1")).await;
    assert!(latency < Duration::from_secs(2), "{latency:?}");
    let revision = b.store.state.borrow().configs.by_name["hello/world"].revision;

    let conflict = b.store.apply(vec![
        put("x", "1", Condition::None),
        put("hello/world", "2", Condition::Revision(revision - 1)),
    ]);
    let expected = StoreError::Conflict {
        name: "hello/world".into(),
        revision: Some(revision),
    };
    assert_eq!(conflict.await, Err(expected));
    let batch = vec![
        put("x", "1", Condition::None),
        put("hello/world", "2", Condition::Revision(revision)),
        put("y", "1", Condition::Absent),
    ];
    let made = b.store.apply(batch.clone()).await.unwrap();
    assert_eq!(
        made.outcomes,
        [Outcome::Created, Outcome::Updated, Outcome::Created]
    );
    let latency = a.until("a batch", has("y", "1")).await;
    assert!(latency < Duration::from_secs(2), "{latency:?}");
    assert_eq!(a.names(), ["hello/world", "x", "y"]);

    let again = put("x", "1", Condition::None);
    let made = a.store.apply(vec![again]).await.unwrap();
    assert_eq!(made.outcomes, [Outcome::Unchanged]);
    let missing = a.store.apply(vec![
        delete("x", Condition::None),
        delete("z", Condition::None),
    ]);
    assert_eq!(missing.await, Err(StoreError::Missing("z".into())));
    a.store
        .apply(vec![delete("x", Condition::None)])
        .await
        .unwrap();
    b.until("a removal", |state| {
        !state.configs.by_name.contains_key("x")
    })
    .await;
    assert_eq!(
        *a.store.read().await.unwrap(),
        *b.store.read().await.unwrap()
    );
    let reserved = a
        .store
        .apply(vec![put(".ringscrape/pending", "1", Condition::None)])
        .await;
    assert!(
        matches!(reserved, Err(StoreError::Refused(_))),
        "{reserved:?}"
    );
    let huge = a
        .store
        .apply(vec![put("huge", &"x".repeat(2 << 20), Condition::None)])
        .await;
    assert!(matches!(huge, Err(StoreError::Refused(_))), "{huge:?}");
}

#[tokio::test]
async fn writers_of_one_name_do_not_lose_each_others_changes() {
    let Some(server) = Server::start() else {
        return;
    };
    let [a, b] = [0, 1].map(|_| Node::new(settings(&[server.port])));
    let count = |node: StoreHandle| async move {
        for _ in 0..20 {
            loop {
                let read = node.read().await.unwrap();
                let before = read.by_name.get("n");
                let number: u64 = before.map_or(0, |one| one.text.parse().unwrap());
                let condition =
                    before.map_or(Condition::Absent, |one| Condition::Revision(one.revision));
                let change = put("n", &(number + 1).to_string(), condition);
                match node.apply(vec![change]).await {
                    Ok(_) => break,
                    Err(StoreError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    tokio::join!(count(a.store.clone()), count(b.store.clone()));
    assert_eq!(&*a.store.read().await.unwrap().by_name["n"].text, "40");
}

#[tokio::test]
async fn a_large_batch_is_all_or_nothing() {
    let Some(server) = Server::start() else {
        return;
    };
    let [a, b] = [0, 1].map(|_| Node::new(settings(&[server.port])));
    b.until("connected", |state| state.is_connected).await;
    let text = "x".repeat(9_000);
    let names: Vec<String> = (0..400).map(|n| format!("config-{n:03}")).collect();
    let mut seen = b.store.state.clone();
    let watching = tokio::spawn(async move {
        let mut counts = vec![];
        while counts.last() != Some(&399) {
            seen.changed().await.unwrap();
            counts.push(seen.borrow_and_update().configs.by_name.len());
        }
        counts
    });
    let batch: Vec<Change> = names
        .iter()
        .map(|name| put(name, &text, Condition::Absent))
        .collect();
    let made = a.store.apply(batch.clone()).await.unwrap();
    assert!(made.outcomes.iter().all(|one| *one == Outcome::Created));
    assert_eq!(
        a.names().len(),
        400,
        "known to who stored it when it is confirmed"
    );
    let again = a.store.apply(batch).await;
    assert!(
        matches!(again, Err(StoreError::Conflict { .. })),
        "{again:?}"
    );
    // An update of some, a removal, and a condition that does not hold: nothing is done.
    let mut batch: Vec<Change> = names[1..]
        .iter()
        .map(|name| put(name, "2", Condition::None))
        .collect();
    batch.push(delete("config-000", Condition::None));
    let mut wrong = batch.clone();
    wrong.push(put("other", "1", Condition::Present));
    assert!(a.store.apply(wrong).await.is_err());
    assert_eq!(
        &*a.store.read().await.unwrap().by_name["config-001"].text,
        &*text
    );
    let made = b.store.apply(batch).await.unwrap();
    assert_eq!(made.outcomes.last(), Some(&Outcome::Deleted));
    let counts = watching.await.unwrap();
    assert!(
        counts.iter().all(|count| [0, 400, 399].contains(count)),
        "{counts:?}"
    );
    let all = a.store.read().await.unwrap();
    assert!(all.by_name.values().all(|one| &*one.text == "2"));
    let left = server.call("kv/range", &range_of(".ringscrape/batch/"));
    assert!(!left.contains("kvs"), "{left}");
}

fn range_of(name: &str) -> String {
    let key = [PREFIX, name].concat().into_bytes();
    let (from, end) = (STANDARD.encode(&key), STANDARD.encode(prefix_end(&key)));
    format!(r#"{{"key":"{from}","range_end":"{end}"}}"#)
}

#[tokio::test]
async fn a_batch_whose_writer_died_is_finished_by_another_node() {
    let Some(server) = Server::start() else {
        return;
    };
    let b = Node::new(settings(&[server.port]));
    b.until("connected", |state| state.is_connected).await;
    let writer = Etcd::new(&settings(&[server.port]), PREFIX, Publisher::new()).unwrap();
    let names: Vec<String> = (0..300).map(|n| format!("config-{n:03}")).collect();
    let batch: Vec<Change> = names
        .iter()
        .map(|name| put(name, "1", Condition::None))
        .collect();
    writer.decide_and_die(&batch).await;
    assert!(b.names().is_empty());
    b.until("the batch", |state| !state.configs.by_name.is_empty())
        .await;
    assert_eq!(b.names().len(), 300);
    // Others write on.
    b.store
        .apply(vec![put("x", "1", Condition::None)])
        .await
        .unwrap();
}

#[tokio::test]
async fn etcd_is_killed_started_again_paused_and_wiped() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let a = Node::new(settings(&[server.port]));
    a.store
        .apply(vec![put("a", "1", Condition::None)])
        .await
        .unwrap();

    server.kill();
    a.until("lost", |state| !state.is_connected).await;
    assert_eq!(a.names(), ["a"]);
    let refused = a.store.apply(vec![put("b", "1", Condition::None)]).await;
    assert!(
        matches!(refused, Err(StoreError::NotConnected(_))),
        "{refused:?}"
    );
    let cold = open(settings(&[server.port]), &a.folder);
    assert_eq!(
        cold.state.borrow().configs.by_name.len(),
        1,
        "from the disk"
    );
    drop(cold);
    server.run();
    a.until("connected again", |state| state.is_connected).await;
    a.store
        .apply(vec![put("b", "1", Condition::None)])
        .await
        .unwrap();
    assert_eq!(a.names(), ["a", "b"]);

    server.signal(libc::SIGSTOP);
    a.until("paused", |state| !state.is_connected).await;
    let unsure = a.store.apply(vec![put("c", "1", Condition::None)]).await;
    let is_unsure = matches!(
        unsure,
        Err(StoreError::NotConnected(_) | StoreError::Unconfirmed(_))
    );
    assert!(is_unsure, "{unsure:?}");
    assert_eq!(a.names(), ["a", "b"]);
    server.signal(libc::SIGCONT);
    a.until("goes on", |state| state.is_connected).await;
    let d = vec![put("d", "1", Condition::None)];
    a.store.apply(d).await.unwrap();
    let read = a.store.read().await.unwrap();
    assert_eq!(read.by_name, a.store.state.borrow().configs.by_name);

    let known = a.names();
    server.kill();
    server.wipe();
    server.run();
    a.until("wiped", |state| state.last_error.contains("lost its data"))
        .await;
    assert_eq!(a.names(), known);
    a.store
        .apply(vec![put("new", "1", Condition::None)])
        .await
        .unwrap();
    a.until("the new one", has("new", "1")).await;
    assert_eq!(a.names(), ["new"]);
}

#[tokio::test]
async fn history_is_compacted_while_a_node_is_away() {
    let Some(server) = Server::start() else {
        return;
    };
    let a = Node::new(settings(&[server.port]));
    let way = Way::to(server.port);
    let b = Node::new(settings(&[way.port]));
    a.store
        .apply(vec![put("a", "1", Condition::None)])
        .await
        .unwrap();
    b.until("a put", has("a", "1")).await;
    way.cut(true);
    b.until("lost", |state| !state.is_connected).await;
    a.store
        .apply(vec![put("b", "1", Condition::None)])
        .await
        .unwrap();
    let last = a
        .store
        .apply(vec![delete("a", Condition::None)])
        .await
        .unwrap();
    let compact = format!(r#"{{"revision":"{}","physical":true}}"#, last.revision);
    server.call("kv/compaction", &compact);
    assert_eq!(b.names(), ["a"]);
    way.cut(false);
    b.until("caught up", has("b", "1")).await;
    assert_eq!(b.names(), ["b"]);
    // The watch works from there on.
    a.store
        .apply(vec![put("c", "1", Condition::None)])
        .await
        .unwrap();
    b.until("a put", has("c", "1")).await;
}

#[tokio::test]
async fn values_of_grafana_agent_are_read_and_replaced() {
    let Some(server) = Server::start() else {
        return;
    };
    let yaml = "scrape_configs:\n- job_name: agent\n";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(yaml.as_bytes()).unwrap();
    let value = STANDARD.encode(gzip.finish().unwrap());
    let key = STANDARD.encode("configurations/from-agent");
    server.call("kv/put", &format!(r#"{{"key":"{key}","value":"{value}"}}"#));
    // The agent's ring, which is none of ours.
    let ring = STANDARD.encode("collectors/agent");
    server.call("kv/put", &format!(r#"{{"key":"{ring}","value":"AA=="}}"#));
    let dead = Way::to(1);
    let a = Node::new(settings(&[dead.port, server.port]));
    a.until("the agent's", has("from-agent", yaml)).await;
    assert_eq!(a.names(), ["from-agent"]);
    a.store
        .apply(vec![put("from-agent", "2", Condition::Present)])
        .await
        .unwrap();
    a.until("replaced", has("from-agent", "2")).await;
    server.call("kv/deleterange", &format!(r#"{{"key":"{key}"}}"#));
    a.until("removed", |state| state.configs.by_name.is_empty())
        .await;
}

#[tokio::test]
async fn a_user_with_a_password() {
    let Some(server) = Server::start() else {
        return;
    };
    for (path, body) in [
        ("auth/user/add", r#"{"name":"root","password":"secret"}"#),
        ("auth/role/add", r#"{"name":"root"}"#),
        ("auth/user/grant", r#"{"user":"root","role":"root"}"#),
        ("auth/enable", "{}"),
    ] {
        server.call(path, body);
    }
    let user = |password: &str| EtcdSettings {
        username: "root".to_owned(),
        password: password.to_owned(),
        ..settings(&[server.port])
    };
    let a = Node::new(user("secret"));
    a.store
        .apply(vec![put("a", "1", Condition::None)])
        .await
        .unwrap();
    a.until("a put", has("a", "1")).await;
    let wrong = Node::new(user("wrong"));
    let refused = wrong
        .store
        .apply(vec![put("b", "1", Condition::None)])
        .await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("authentication failed"), "{refused}");
    assert!(
        !refused.contains("wrong"),
        "no password in an error: {refused}"
    );
    wrong
        .until("told", |state| {
            state.last_error.contains("authentication failed")
        })
        .await;
    let nobody = Node::new(settings(&[server.port]));
    nobody
        .until("told", |state| state.last_error.contains("user name"))
        .await;
}

#[tokio::test]
async fn with_tls_the_certificate_counts() {
    let (Some(server), Some(other)) = (Server::start_with_tls(), Server::start_with_tls()) else {
        return;
    };
    let with = |tls: EtcdTls| EtcdSettings {
        tls: Some(tls),
        ..settings(&[server.port])
    };
    // Of this server, as its authority and as a client of it.
    let right = || EtcdTls {
        ca_path: Some(server.certificate()),
        cert_path: Some(server.certificate()),
        key_path: Some(server.key()),
        ..EtcdTls::default()
    };
    let a = Node::new(with(right()));
    a.until("connected", |state| state.is_connected).await;
    a.store
        .apply(vec![put("a", "1", Condition::None)])
        .await
        .unwrap();
    let others = EtcdTls {
        ca_path: Some(other.certificate()),
        ..right()
    };
    let stranger = Node::new(with(others.clone()));
    stranger
        .until("told", |state| state.last_error.contains("certificate"))
        .await;
    let refused = stranger
        .store
        .apply(vec![put("b", "1", Condition::None)])
        .await;
    assert!(
        matches!(refused, Err(StoreError::NotConnected(_))),
        "{refused:?}"
    );
    let trusting = Node::new(with(EtcdTls {
        insecure_skip_verify: true,
        ..others
    }));
    trusting.until("the put", has("a", "1")).await;
    let wrong_name = Node::new(with(EtcdTls {
        server_name: "etcd.example".to_owned(),
        ..right()
    }));
    wrong_name
        .until("told", |state| state.last_error.contains("certificate"))
        .await;
    let nobody = Node::new(with(EtcdTls {
        cert_path: None,
        key_path: None,
        ..right()
    }));
    let refused = nobody.store.read().await;
    assert!(refused.is_err(), "a certificate is asked for");
    let missing = Client::new(&with(EtcdTls {
        ca_path: Some("/nowhere/ca.pem".into()),
        ..EtcdTls::default()
    }));
    assert!(missing.is_err_and(|error| error.contains("/nowhere/ca.pem")));
}

#[tokio::test]
async fn ten_thousand() {
    let Some(server) = Server::start() else {
        return;
    };
    let a = Node::new(settings(&[server.port]));
    let text = "scrape_configs:\n- job_name: x\n".repeat(10);
    let batch = (0..10_000).map(|n| put(&format!("config-{n}"), &text, Condition::None));
    let since = Instant::now();
    let made = a.store.apply(batch.collect()).await.unwrap();
    let stored = since.elapsed();
    assert_eq!(made.outcomes.len(), 10_000);
    a.until("all", |state| state.configs.by_name.len() == 10_000)
        .await;
    let since = Instant::now();
    assert_eq!(a.store.read().await.unwrap().by_name.len(), 10_000);
    let read = since.elapsed();
    let since = Instant::now();
    a.store
        .apply(vec![put("one", "1", Condition::None)])
        .await
        .unwrap();
    eprintln!(
        "10,000: stored in {stored:?}, read in {read:?}, one put in {:?}",
        since.elapsed()
    );
}
