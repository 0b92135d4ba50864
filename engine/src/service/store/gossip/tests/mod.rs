//! Stores of several nodes with links in memory that can be cut.

mod lives;
mod threads;

use super::links::Later;
use super::*;
use crate::service::store::keeper;
use crate::service::store::{Condition, Origin, StoreHandle, StoreState};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::oneshot;

/// A cluster.
#[derive(Default)]
struct Net {
    nodes: Mutex<BTreeMap<Arc<str>, mpsc::Sender<StoreQuestion>>>,
    /// Whose side a node is on; those of one side reach each other.
    sides: Mutex<BTreeMap<Arc<str>, u8>>,
    /// What each side believes to be all of the cluster, if not all.
    counted: Mutex<BTreeMap<u8, BTreeSet<Arc<str>>>>,
    /// Nodes that store nothing of others.
    deaf: Mutex<BTreeSet<Arc<str>>>,
}

struct TestLinks {
    me: Arc<str>,
    net: Arc<Net>,
}

impl Net {
    fn side(&self, name: &str) -> u8 {
        self.sides.lock().unwrap().get(name).copied().unwrap_or(0)
    }

    fn split(&self, sides: &[(&str, u8)]) {
        let sides = sides.iter().map(|(name, side)| (Arc::from(*name), *side));
        *self.sides.lock().unwrap() = sides.collect();
    }

    fn members(&self, me: &str) -> Members {
        let all: BTreeSet<Arc<str>> = self.nodes.lock().unwrap().keys().cloned().collect();
        let side = self.side(me);
        let counted = self.counted.lock().unwrap().get(&side).cloned();
        let counted = counted.unwrap_or_else(|| all.clone());
        Members {
            present: counted
                .iter()
                .filter(|name| self.side(name) == side)
                .count(),
            others: all.into_iter().filter(|name| **name != *me).collect(),
            counted,
            ..Members::default()
        }
    }
}

impl Links for TestLinks {
    fn me(&self) -> &Arc<str> {
        &self.me
    }

    fn members(&self) -> Later<Result<Members, String>> {
        let members = self.net.members(&self.me);
        Box::pin(async move { Ok(members) })
    }

    fn ask(&self, to: &Arc<str>, question: Vec<u8>) -> Later<Result<Vec<u8>, String>> {
        let is_cut = self.net.side(&self.me) != self.net.side(to);
        let is_deaf = self.net.deaf.lock().unwrap().contains(to);
        let node = self.net.nodes.lock().unwrap().get(to).cloned();
        Box::pin(async move {
            let asked = packing::unpack(question.clone()).await.unwrap();
            let asked = Question::read(&asked).unwrap();
            let is_exchange = matches!(asked, Question::Exchange { .. });
            let node = node.filter(|_| !(is_cut || is_deaf && is_exchange));
            let node = node.ok_or_else(|| "not reached".to_owned())?;
            let (answer, answered) = oneshot::channel();
            let bytes = question;
            let sent = node.send(StoreQuestion { bytes, answer }).await;
            sent.map_err(|_| "gone".to_owned())?;
            answered.await.unwrap_or_else(|_| Err("gone".to_owned()))
        })
    }
}

struct Node {
    folder: Arc<tempfile::TempDir>,
    store: StoreHandle,
}

impl Node {
    fn start(net: &Arc<Net>, name: &str) -> Self {
        Self::start_with(net, name, Arc::new(tempfile::tempdir().unwrap()))
    }

    fn start_with(net: &Arc<Net>, name: &str, folder: Arc<tempfile::TempDir>) -> Self {
        let (sender, questions) = mpsc::channel(64);
        let (me, net) = (Arc::from(name), net.clone());
        net.nodes.lock().unwrap().insert(Arc::clone(&me), sender);
        let publisher = Publisher::new();
        let links = TestLinks { me, net };
        let file = file_in(&folder);
        let gossip = Gossip::start(file, links, questions, publisher.clone());
        let store = keeper::start(gossip, publisher, None);
        Self { folder, store }
    }

    async fn until(&self, what: &str, is_so: impl FnMut(&StoreState) -> bool) {
        let mut state = self.store.state.clone();
        let patience = Duration::from_secs(60);
        let waited = tokio::time::timeout(patience, state.wait_for(is_so)).await;
        let state = self.store.state.borrow();
        assert!(waited.is_ok(), "{what}: {}", state.last_error);
    }

    fn text(&self, name: &str) -> Option<String> {
        let state = self.store.state.borrow();
        let config = state.configs.by_name.get(name);
        config.map(|one| one.text.to_string())
    }
}

fn file_in(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("service/gossip")
}

fn put(name: &str, text: &str, condition: Condition) -> Vec<Change> {
    vec![Change::Put {
        name: name.into(),
        text: text.into(),
        origin: Origin::default(),
        condition,
    }]
}

fn delete(name: &str) -> Vec<Change> {
    vec![Change::Delete {
        name: name.into(),
        condition: Condition::None,
    }]
}

fn has(name: &str, text: &str) -> impl FnMut(&StoreState) -> bool {
    move |state| {
        let config = state.configs.by_name.get(name);
        config.is_some_and(|one| *one.text == *text)
    }
}

#[tokio::test]
async fn what_one_node_stores_all_have_and_keep() {
    let net = Arc::new(Net::default());
    let [a, b, c] = ["a", "b", "c"].map(|name| Node::start(&net, name));
    let made = a
        .store
        .apply(put("x", "1", Condition::Absent))
        .await
        .unwrap();
    assert_eq!(made.outcomes, [Outcome::Created]);
    assert_eq!(a.text("x").as_deref(), Some("1"));
    let made_elsewhere = b.store.apply(put("x", "2", Condition::Absent)).await;
    let expected = StoreError::Conflict {
        name: "x".into(),
        revision: Some(made.revision),
    };
    assert_eq!(made_elsewhere, Err(expected), "a majority knows of it");
    let updated = b
        .store
        .apply(put("x", "2", Condition::Revision(made.revision)))
        .await;
    assert!(updated.unwrap().revision > made.revision);
    for node in [&a, &b, &c] {
        node.until("an update", has("x", "2")).await;
    }
    c.store.apply(delete("x")).await.unwrap();
    a.until("a removal", |state| state.configs.by_name.is_empty())
        .await;
    let missing = b.store.apply(delete("x")).await;
    assert_eq!(missing, Err(StoreError::Missing("x".into())));
    b.store.apply(put("y", "1", Condition::None)).await.unwrap();
    // All nodes stop, and start again alone: it is on the disk of each that had it.
    let folder = b.folder.clone();
    drop((a, b, c));
    let alone = Arc::new(Net::default());
    let b = Node::start_with(&alone, "b", folder);
    assert_eq!(b.text("y").as_deref(), Some("1"));
    assert_eq!(b.text("x"), None);
}

#[tokio::test]
async fn a_side_without_a_majority_takes_nothing_and_catches_up_when_healed() {
    let net = Arc::new(Net::default());
    let [a, b, c] = ["a", "b", "c"].map(|name| Node::start(&net, name));
    a.store.apply(put("x", "1", Condition::None)).await.unwrap();
    c.until("a put", has("x", "1")).await;
    net.split(&[("c", 1)]);
    c.until("cut off", |state| !state.is_connected).await;
    assert_eq!(c.text("x").as_deref(), Some("1"), "it stays in force");
    let refused = c.store.apply(put("x", "of c", Condition::None)).await;
    assert!(
        matches!(refused, Err(StoreError::NotConnected(_))),
        "{refused:?}"
    );
    assert!(c.store.read().await.is_err());
    b.store.apply(put("x", "2", Condition::None)).await.unwrap();
    a.store.apply(put("y", "1", Condition::None)).await.unwrap();
    assert_eq!(c.text("x").as_deref(), Some("1"));
    net.split(&[]);
    c.until("caught up", has("y", "1")).await;
    c.until("caught up", has("x", "2")).await;
    c.until("connected", |state| state.is_connected).await;
    assert_eq!(
        *c.store.read().await.unwrap(),
        *a.store.read().await.unwrap()
    );
    // A new node gets all of it.
    let d = Node::start(&net, "d");
    d.until("a new node", has("y", "1")).await;
}

#[tokio::test]
async fn of_writes_that_did_not_know_of_each_other_the_higher_stays() {
    let net = Arc::new(Net::default());
    let nodes = ["a", "b", "c", "d"].map(|name| Node::start(&net, name));
    let [a, _, c, _] = &nodes;
    a.store.apply(put("x", "0", Condition::None)).await.unwrap();
    net.split(&[("c", 1), ("d", 1)]);
    let halves = c.store.apply(put("x", "half", Condition::None)).await;
    assert!(
        matches!(halves, Err(StoreError::NotConnected(_))),
        "neither half is a majority"
    );
    // Each half believes to be the whole: two clusters that will meet.
    let side = |names: [&str; 2]| names.into_iter().map(Arc::from).collect();
    let counted = BTreeMap::from([(0, side(["a", "b"])), (1, side(["c", "d"]))]);
    *net.counted.lock().unwrap() = counted;
    let of_a = a
        .store
        .apply(put("x", "of a", Condition::None))
        .await
        .unwrap()
        .revision;
    let of_c = c
        .store
        .apply(put("x", "of c", Condition::None))
        .await
        .unwrap()
        .revision;
    a.store
        .apply(put("y", "of a", Condition::None))
        .await
        .unwrap();
    assert_ne!(of_a, of_c, "a revision means one content");
    net.counted.lock().unwrap().clear();
    net.split(&[]);
    let winner = if of_a > of_c { "of a" } else { "of c" };
    for node in &nodes {
        node.until("healed", has("y", "of a")).await;
        node.until("healed", has("x", winner)).await;
    }
}

#[tokio::test]
async fn a_write_that_no_majority_stored_is_not_confirmed_and_may_appear() {
    let net = Arc::new(Net::default());
    let [a, b, c] = ["a", "b", "c"].map(|name| Node::start(&net, name));
    a.store.read().await.unwrap();
    *net.deaf.lock().unwrap() = BTreeSet::from(["b".into(), "c".into()]);
    let unsure = a.store.apply(put("x", "1", Condition::None)).await;
    assert!(
        matches!(unsure, Err(StoreError::Unconfirmed(_))),
        "{unsure:?}"
    );
    net.deaf.lock().unwrap().clear();
    b.until("it appears", has("x", "1")).await;
    c.until("it appears", has("x", "1")).await;
    // One of three that stores nothing is no obstacle.
    *net.deaf.lock().unwrap() = BTreeSet::from(["c".into()]);
    a.store.apply(put("x", "2", Condition::None)).await.unwrap();
}

fn take(disk: &mut Disk, entries: &[Arc<Entry>]) {
    let held = entries.iter().cloned().map(Held::from).collect();
    let verdict = disk.replica.judge(held);
    disk.store(&verdict).unwrap();
}

#[tokio::test]
async fn a_node_that_was_away_for_too_long_forgets_what_it_had() {
    let net = Arc::new(Net::default());
    let folders = [(); 3].map(|()| Arc::new(tempfile::tempdir().unwrap()));
    let names = ["a", "b", "c"];
    let mut disks = Vec::new();
    for (name, folder) in names.iter().zip(&folders) {
        let mut disk = Disk::new(file_in(folder), (*name).into());
        disk.open().unwrap();
        disks.push(disk);
    }
    let (made, entries) = write(&mut disks[0], &put("removed", "1", Condition::None)).unwrap();
    take(&mut disks[1], &entries);
    take(&mut disks[2], &entries);
    let all_touch = |disks: &mut [Disk], revision, elapsed_ms| {
        let each = disks.iter_mut();
        each.for_each(|disk| disk.in_touch(revision, elapsed_ms));
    };
    all_touch(&mut disks, made.revision, 0);
    // Without the third one.
    let (made, entries) = write(&mut disks[0], &delete("removed")).unwrap();
    take(&mut disks[1], &entries);
    all_touch(&mut disks[..2], made.revision, REMOVAL_LIFETIME_MS);
    assert_eq!(disks[0].replica.entries().count(), 0, "it is forgotten");
    drop(disks);
    let [folder_a, folder_b, folder] = folders;
    let a = Node::start_with(&net, "a", folder_a);
    let _b = Node::start_with(&net, "b", folder_b);
    let put_x = a.store.apply(put("x", "1", Condition::None)).await;
    assert!(
        put_x.unwrap().revision > made.revision,
        "also of what is forgotten"
    );
    let c = Node::start_with(&net, "c", folder.clone());
    assert_eq!(
        c.text("removed").as_deref(),
        Some("1"),
        "in force until the others answer"
    );
    c.until("forgotten", |state| {
        !state.configs.by_name.contains_key("removed")
    })
    .await;
    c.until("caught up", has("x", "1")).await;
    assert!(file_in(&folder).with_extension("stale").exists());
    assert_eq!(a.store.read().await.unwrap().by_name.len(), 1);
}

#[test]
fn ages_and_members_outlive_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let mut disk = Disk::new(file_in(&folder), "a".into());
        disk.open().unwrap();
        disk
    };
    let mut disk = open();
    write(&mut disk, &put("x", "1", Condition::None)).unwrap();
    let (made, _) = write(&mut disk, &delete("x")).unwrap();
    let half_ms = REMOVAL_LIFETIME_MS / 2;
    disk.in_touch(made.revision, half_ms);
    let name = |name: &str| Arc::from(name);
    let both = || Members {
        counted: [name("a"), name("b")].into(),
        living: [name("a"), name("b")].into(),
        ..Members::default()
    };
    disk.complete(&mut both(), 1_000);
    // The file is written anew, too.
    for text in ["2", "3"] {
        let large = text.repeat(2 << 20);
        write(&mut disk, &put("large", &large, Condition::None)).unwrap();
    }
    drop(disk);
    let mut disk = open();
    let held = disk.replica.held("x").unwrap();
    assert_eq!((held.age_ms, held.entry.content.is_none()), (half_ms, true));
    let past = disk.replica.past();
    assert_eq!((past.mark, past.forgotten), (Some(made.revision), 0));
    let mut alone = Members::default();
    disk.complete(&mut alone, 2_000);
    assert_eq!((alone.counted.len(), alone.present), (2, 1));
    disk.in_touch(made.revision, half_ms);
    assert!(disk.replica.get("x").is_none());
    let revision = disk.replica.revision();
    drop(disk);
    let disk = open();
    assert_eq!(disk.replica.past().forgotten, made.revision);
    assert_eq!(disk.replica.revision(), revision);
}

#[tokio::test]
async fn ten_thousand_at_once() {
    let net = Arc::new(Net::default());
    let [a, b, _c] = ["a", "b", "c"].map(|name| Node::start(&net, name));
    let text = "scrape_configs:\n- job_name: x\n".repeat(60);
    let batch = (0..10_000).flat_map(|n| put(&format!("config-{n}"), &text, Condition::None));
    let since = std::time::Instant::now();
    a.store.apply(batch.collect()).await.unwrap();
    let stored = since.elapsed();
    b.until("all", |state| state.configs.by_name.len() == 10_000)
        .await;
    let since = std::time::Instant::now();
    b.store
        .apply(put("one", "1", Condition::None))
        .await
        .unwrap();
    let one = since.elapsed();
    let d = Node::start(&net, "d");
    d.until("a new node", |state| state.configs.by_name.len() == 10_001)
        .await;
    eprintln!(
        "10,000 ({} MB): stored in {stored:?}, one put in {one:?}",
        text.len() / 100
    );
    // What does not become smaller is refused before anything is stored.
    let mut random = vec![0; 24 << 20];
    rand::TryRng::try_fill_bytes(&mut rand::rngs::SysRng, &mut random).unwrap();
    let text: String = random
        .iter()
        .map(|byte| char::from(b' ' + byte % 64))
        .collect();
    let refused = a.store.apply(put("random", &text, Condition::None)).await;
    assert!(
        matches!(refused, Err(StoreError::Refused(_))),
        "{refused:?}"
    );
}

#[test]
fn a_damaged_file_is_moved_aside_and_what_can_be_read_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = file_in(&folder);
    let open = || {
        let mut disk = Disk::new(file.clone(), "a".into());
        disk.open().unwrap();
        disk
    };
    let mut disk = open();
    let mut lens = Vec::new();
    for name in ["x", "y", "z"] {
        write(&mut disk, &put(name, "1", Condition::None)).unwrap();
        lens.push(std::fs::metadata(&file).unwrap().len() as usize);
    }
    let mut bytes = std::fs::read(&file).unwrap();
    for cut in 0..bytes.len() {
        std::fs::write(&file, &bytes[..cut]).unwrap();
        let whole = lens.iter().filter(|len| **len <= cut).count();
        assert_eq!(open().configs.by_name.len(), whole, "cut at {cut}");
    }
    bytes[lens[0] + 14] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let disk = open();
    assert!(!disk.is_whole && disk.configs.by_name.len() == 2);
    assert_eq!(
        std::fs::read(file.with_extension("damaged")).unwrap(),
        bytes
    );
}
