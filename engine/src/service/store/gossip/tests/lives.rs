//! Nodes that have forgotten all, or have just started: what they do before others vouch for them.

use super::*;

/// A node that only answers and is told what to do.
fn quiet(net: &Arc<Net>, name: &str, folder: &tempfile::TempDir) -> Arc<Shared> {
    let (sender, questions) = mpsc::channel(64);
    let (me, net) = (Arc::from(name), net.clone());
    net.nodes.lock().unwrap().insert(Arc::clone(&me), sender);
    let links = TestLinks { me, net };
    Gossip::start(file_in(folder), links, questions, Publisher::new()).0
}

fn entries_of(disk: &mut Disk, name: &str) -> Vec<Arc<Entry>> {
    write(disk, &put(name, "1", Condition::None)).unwrap().1
}

impl Shared {
    fn names(&self) -> Vec<String> {
        let disk = self.disk.lock().unwrap();
        disk.configs
            .by_name
            .keys()
            .map(ToString::to_string)
            .collect()
    }
}

#[tokio::test]
async fn what_was_found_stale_is_forgotten_once() {
    let (net, folder) = (Arc::default(), tempfile::tempdir().unwrap());
    let node = quiet(&net, "a", &folder);
    entries_of(&mut node.disk.lock().unwrap(), "old");
    // Two members find it at the same time.
    node.forget(0).await.unwrap();
    assert_eq!(node.names(), [""; 0]);
    entries_of(&mut node.disk.lock().unwrap(), "new");
    node.forget(0).await.unwrap();
    assert_eq!(node.names(), ["new"]);
    let aside = file_in(&folder).with_extension("stale");
    let mut stale = Disk::new(aside, "a".into());
    stale.open().unwrap();
    assert!(stale.configs.by_name.contains_key("old"));
    // What others vouched for before does not count.
    let members = node.members().await.unwrap();
    assert_eq!(node.catch_up(&members).await, Ok(1));
    assert!(node.disk.lock().unwrap().check_life(0).is_err());
}

#[tokio::test]
async fn who_has_not_compared_since_its_start_has_no_vote() {
    let net = Arc::default();
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [a, b] = [("a", 0), ("b", 1)].map(|(name, at)| quiet(&net, name, &folders[at]));
    let written = entries_of(&mut a.disk.lock().unwrap(), "x");
    let is_stored = |answer| matches!(answer, Answer::Stored { .. });
    let push = || Question::push(written.clone());
    assert!(!is_stored(b.answer(push()).await));
    assert_eq!(b.names(), [""; 0]);
    // Who writes compares before: also a member without a mark, with one that has nothing.
    let members = a.members().await.unwrap();
    a.catch_up(&members).await.unwrap();
    assert_eq!(b.names(), ["x"]);
    assert!(is_stored(b.answer(push()).await));
    b.forget(0).await.unwrap();
    assert!(!is_stored(b.answer(push()).await));
    b.sync(&"a".into()).await.unwrap();
    assert!(is_stored(b.answer(push()).await));
}

#[tokio::test]
async fn who_has_forgotten_is_whole_again_with_a_majority_only() {
    let net = Arc::new(Net::default());
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let names = [("a", 0), ("b", 1), ("c", 2)];
    let [a, b, _c] = names.map(|(name, at)| quiet(&net, name, &folders[at]));
    let is_whole = |node: &Shared| node.disk.lock().unwrap().is_whole;
    assert!(!is_whole(&a), "an empty file says nothing");
    let members = a.members().await.unwrap();
    a.catch_up(&members).await.unwrap();
    assert!(is_whole(&a), "a first start");
    a.with_disk(|disk, _| Ok(entries_of(disk, "x")))
        .await
        .unwrap();
    let published = a.publisher.state();
    a.forget(0).await.unwrap();
    net.split(&[("a", 1), ("b", 1)]);
    net.counted
        .lock()
        .unwrap()
        .insert(1, ["a", "b", "c", "d", "e"].map(Arc::from).into());
    let members = a.members().await.unwrap();
    // Another one, as empty.
    a.sync(&"b".into()).await.unwrap();
    assert!(a.catch_up(&members).await.is_err());
    assert!(!is_whole(&a) && a.publish(&members).await.is_err());
    assert!(
        published.borrow().configs.by_name.contains_key("x"),
        "still in force"
    );
    entries_of(&mut b.disk.lock().unwrap(), "y");
    net.counted.lock().unwrap().clear();
    a.publish(&members_of_two(&members)).await.unwrap();
    assert_eq!(a.names(), ["y"]);
    let state = published.borrow();
    assert!(state.is_connected && state.configs.by_name.contains_key("y"));
}

fn members_of_two(members: &Members) -> Members {
    Members {
        counted: ["a", "b"].map(Arc::from).into(),
        ..members.clone()
    }
}

#[test]
fn a_file_with_entries_and_without_a_past_may_be_of_any_age() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let mut disk = Disk::new(file_in(&folder), "a".into());
        disk.open().unwrap();
        disk
    };
    assert_eq!(open().replica.past().mark, None);
    entries_of(&mut open(), "x");
    let mut disk = open();
    assert_eq!(disk.replica.past().mark, Some(0));
    assert!(!disk.is_whole);
    disk.in_touch(5, 0);
    let disk = open();
    assert_eq!(disk.replica.past().mark, Some(5), "it was saved");
    assert!(disk.is_whole);
}
