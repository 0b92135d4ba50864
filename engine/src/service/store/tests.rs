//! The store of one node against a plain model, and its file cut at every byte.

use super::*;
use proptest::prelude::*;
use std::path::Path;

fn place(folder: &Path) -> StorePlace {
    StorePlace {
        storage_path: folder.to_owned(),
    }
}

fn start_local(place: &StorePlace) -> StoreHandle {
    let settings = StoreSettings {
        prefix: "configurations/".to_owned(),
        kind: StoreKind::Local,
    };
    start(&settings, place).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

fn put(name: &str, text: &str) -> Change {
    Change::Put {
        name: name.into(),
        text: text.into(),
        origin: Origin {
            changed_by: "test".to_owned(),
            ..Origin::default()
        },
        condition: Condition::None,
    }
}

fn delete(name: &str) -> Change {
    Change::Delete {
        name: name.into(),
        condition: Condition::None,
    }
}

/// Texts by name.
fn texts(configs: &Configs) -> BTreeMap<String, String> {
    let all = configs.by_name.values();
    all.map(|one| (one.name.to_string(), one.text.to_string()))
        .collect()
}

fn change() -> impl Strategy<Value = Change> {
    let condition = prop_oneof![
        4 => Just(Condition::None),
        1 => Just(Condition::Absent),
        1 => Just(Condition::Present),
        1 => (0..12_u64).prop_map(Condition::Revision),
    ];
    (0..5_u8, 0..4_u8, any::<bool>(), condition).prop_map(|(name, text, is_put, condition)| {
        let name: Arc<str> = format!("config-{name}").into();
        match is_put {
            true => Change::Put {
                name,
                text: format!("text: {text}").into(),
                origin: Origin::default(),
                condition,
            },
            false => Change::Delete { name, condition },
        }
    })
}

/// Name -> text and revision; the whole store as it should be.
#[derive(Debug, Default, Clone, PartialEq)]
struct Model {
    revision: u64,
    configs: BTreeMap<String, (String, u64)>,
}

impl Model {
    fn apply(&mut self, changes: &[Change]) -> bool {
        let mut next = self.clone();
        let mut is_changed = false;
        let mut seen = Vec::new();
        for change in changes {
            let (name, condition, text) = match change {
                Change::Put {
                    name,
                    condition,
                    text,
                    ..
                } => (name.to_string(), condition, Some(text.to_string())),
                Change::Delete { name, condition } => (name.to_string(), condition, None),
            };
            let before = self.configs.get(&name);
            let holds = match condition {
                Condition::None => true,
                Condition::Absent => before.is_none(),
                Condition::Present => before.is_some(),
                Condition::Revision(revision) => before.is_some_and(|one| one.1 == *revision),
            };
            if !holds || seen.contains(&name) || text.is_none() && before.is_none() {
                return false;
            }
            match text {
                Some(text) if before.is_some_and(|before| before.0 == text) => {}
                Some(text) => {
                    is_changed = true;
                    next.configs.insert(name.clone(), (text, self.revision + 1));
                }
                None => {
                    is_changed = true;
                    next.configs.remove(&name);
                }
            }
            seen.push(name);
        }
        next.revision += u64::from(is_changed);
        *self = next;
        true
    }

    fn of(configs: &Configs) -> Self {
        let all = configs.by_name.values();
        Self {
            revision: configs.revision,
            configs: all
                .map(|one| (one.name.to_string(), (one.text.to_string(), one.revision)))
                .collect(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn local_is_as_the_model_and_so_after_each_restart(
        batches in prop::collection::vec(
            (prop::collection::vec(change(), 1..4), prop::bool::weighted(0.3)), 1..12)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let runtime = runtime();
        runtime.block_on(async {
            let mut model = Model::default();
            let mut store = start_local(&place(folder.path()));
            for (changes, restarts) in batches {
                let before = model.revision;
                let is_made = model.apply(&changes);
                let applied = store.apply(changes).await;
                prop_assert_eq!(applied.is_ok(), is_made, "{:?}", applied);
                if let Ok(applied) = applied {
                    prop_assert_eq!(applied.revision, model.revision);
                }
                prop_assert!(model.revision == before || is_made);
                if restarts {
                    store = start_local(&place(folder.path()));
                }
                prop_assert_eq!(&Model::of(&store.state.borrow().configs), &model);
                prop_assert_eq!(&Model::of(&store.read().await.unwrap()), &model);
                prop_assert!(store.state.borrow().is_connected);
            }
            Ok(())
        })?;
    }
}

#[test]
fn local_cut_at_every_byte_has_whole_batches() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime();
    runtime.block_on(async {
        let file = place(folder.path()).file("local");
        let store = start_local(&place(folder.path()));
        let batches = [
            vec![put("a", "1"), put("b", "1")],
            vec![put("a", "2"), delete("b"), put("c", "2")],
            vec![delete("a"), put("b", "3")],
        ];
        // After each batch: the length of the file, and what is stored.
        let mut steps = vec![(0, BTreeMap::new())];
        for batch in batches {
            store.apply(batch).await.unwrap();
            let len = std::fs::metadata(&file).unwrap().len() as usize;
            steps.push((len, texts(&store.state.borrow().configs)));
        }
        let bytes = std::fs::read(&file).unwrap();
        for cut in 0..=bytes.len() {
            std::fs::write(&file, &bytes[..cut]).unwrap();
            let store = start_local(&place(folder.path()));
            let state = store.state.borrow().clone();
            let step = steps.iter().rfind(|(len, _)| *len <= cut).unwrap();
            assert!(state.is_connected, "cut at {cut}: {}", state.last_error);
            assert_eq!(texts(&state.configs), step.1, "cut at {cut}");
            // It goes on from there.
            store.apply(vec![put("d", "4")]).await.unwrap();
            let again = start_local(&place(folder.path()));
            let mut expected = step.1.clone();
            expected.insert("d".to_owned(), "4".to_owned());
            assert_eq!(
                texts(&again.state.borrow().configs),
                expected,
                "cut at {cut}"
            );
        }
    });
}

#[test]
fn a_damaged_file_stays_in_force_and_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime();
    runtime.block_on(async {
        let file = place(folder.path()).file("local");
        let store = start_local(&place(folder.path()));
        store.apply(vec![put("a", "1")]).await.unwrap();
        let first = std::fs::metadata(&file).unwrap().len() as usize;
        store.apply(vec![put("b", "1")]).await.unwrap();
        store.apply(vec![put("c", "1")]).await.unwrap();
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[first + 20] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        let store = start_local(&place(folder.path()));
        let state = store.state.borrow().clone();
        let expected = ["a", "c"].map(|name| (name.to_owned(), "1".to_owned()));
        assert_eq!(texts(&state.configs), BTreeMap::from(expected));
        assert!(!state.is_connected && state.last_error.contains("damaged"));
        let refused = store.apply(vec![put("d", "1")]).await;
        assert!(
            matches!(refused, Err(StoreError::NotConnected(_))),
            "{refused:?}"
        );
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "it is left as it is");
        std::fs::remove_file(&file).unwrap();
        store.apply(vec![put("d", "1")]).await.unwrap();
        assert!(store.state.borrow().is_connected);
    });
}

#[test]
fn a_long_file_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime();
    runtime.block_on(async {
        let store = start_local(&place(folder.path()));
        let text = "x".repeat(100_000);
        for round in 0..40 {
            let text = format!("{round} {text}");
            store
                .apply(vec![put("a", &text), put("b", "1")])
                .await
                .unwrap();
        }
        let file = place(folder.path()).file("local");
        assert!(std::fs::metadata(&file).unwrap().len() < 2_000_000);
        let before = store.read().await.unwrap();
        let store = start_local(&place(folder.path()));
        assert_eq!(*store.state.borrow().configs, *before);
        assert_eq!(before.revision, 40);
    });
}

#[test]
fn a_store_that_lost_its_data_stops_nothing() {
    let publisher = Publisher::new();
    let state = publisher.state();
    let one = StoredConfig {
        name: "a".into(),
        text: "1".into(),
        revision: 8,
        origin: Origin::default(),
    };
    let with_one = |revision| {
        let by_name = BTreeMap::from([(one.name.clone(), Arc::new(one.clone()))]);
        Arc::new(Configs { revision, by_name })
    };
    let empty = |revision| {
        let by_name = BTreeMap::new();
        Arc::new(Configs { revision, by_name })
    };
    publisher.configs(with_one(9));
    assert!(state.borrow().is_connected);
    publisher.configs(empty(2));
    assert_eq!(state.borrow().configs, with_one(9));
    assert!(state.borrow().last_error.contains("lost its data"));
    publisher.configs(with_one(3));
    assert_eq!(state.borrow().configs, with_one(3));
    publisher.configs(empty(4));
    assert_eq!(state.borrow().configs, empty(4), "emptied by somebody");
}

#[test]
fn what_is_asked_is_counted_and_what_is_known_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime();
    runtime.block_on(async {
        let store = start_local(&place(folder.path()));
        let figures = store.figures();
        assert_eq!((figures.kind, figures.is_connected), ("local", true));
        assert!(figures.succeeded_ms.is_some() && !figures.is_from_disk);
        store.apply(vec![put("a", "12345")]).await.unwrap();
        store.apply(vec![put("bc", "1")]).await.unwrap();
        store.apply(vec![delete("d")]).await.unwrap_err();
        store.read().await.unwrap();
        let figures = store.figures();
        assert_eq!((figures.entries, figures.bytes), (2, 9));
        assert_eq!(figures.revision, 2);
        let counted = figures.operations.iter().filter(|one| one.2 > 0);
        let counted: Vec<_> = counted.copied().collect();
        let expected = [
            ("read", "ok", 1),
            ("apply", "ok", 2),
            ("apply", "missing", 1),
        ];
        assert_eq!(counted, expected);
        // A file that cannot be read to its end is what the disk holds, and no more.
        let file = place(folder.path()).file("local");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[30] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        let figures = start_local(&place(folder.path())).figures();
        assert!(figures.is_from_disk && !figures.is_connected);
        assert_eq!(figures.succeeded_ms, None);
    });
}
