//! Changes that others overtake.

use super::super::changes::{self, Wanted, What};
use super::*;
use crate::service::store::{Change, Condition, Origin};
use serde_json::json;

fn change(text: &str, label: &str) -> Change {
    Change::Put {
        name: "a".into(),
        text: text.into(),
        origin: Origin {
            managed_by: label.to_owned(),
            ..Origin::default()
        },
        condition: Condition::None,
    }
}

async fn overtaken_by(api: &Api, changes: Vec<Change>) {
    api.memory.overtaking.lock().unwrap().extend(changes);
}

async fn owner(api: &Api) -> Value {
    api.get("configs?details=true").await.data()["items"][0]["managed_by"].clone()
}

#[tokio::test]
async fn a_put_without_a_label_keeps_the_one_that_overtook_it() {
    let api = Api::start(Setup::default()).await;
    api.ask("PUT", "config/a?managed_by=me", &with_job("x"), &[])
        .await;
    overtaken_by(&api, vec![change(&with_job("y"), "them")]).await;
    assert_eq!(api.put("a", &with_job("z")).await.status, 200);
    assert_eq!(owner(&api).await, json!("them"));
    // Also one that was not there, as far as this node knew.
    let api = Api::start(Setup::default()).await;
    overtaken_by(&api, vec![change(&with_job("y"), "them")]).await;
    assert_eq!(api.put("a", &with_job("z")).await.status, 200);
    assert_eq!(owner(&api).await, json!("them"));
    let value = api.get("configs/a").await.data()["value"].clone();
    assert_eq!(value, format!("name: a\n{}", with_job("z")));
    // Who gives one wants that one.
    overtaken_by(&api, vec![change(&with_job("y"), "others")]).await;
    let path = "config/a?managed_by=me";
    let put = api.ask("PUT", path, &with_job("x"), &[]).await;
    assert_eq!((put.status, owner(&api).await), (200, json!("me")));
}

#[tokio::test]
async fn a_put_that_is_overtaken_again_and_again_gives_up() {
    let api = Api::start(Setup::default()).await;
    api.put("a", &with_job("x")).await;
    let others = (0..20).map(|n| change(&with_job(&format!("y{n}")), "them"));
    overtaken_by(&api, others.collect()).await;
    let answer = api.put("a", &with_job("z")).await;
    assert_eq!(answer.status, 412);
    assert!(
        answer.error().contains("was changed meanwhile"),
        "{}",
        answer.error()
    );
    let left = api.memory.overtaking.lock().unwrap().len();
    assert_eq!(left, 20 - 7, "each attempt was overtaken");
}

#[tokio::test]
async fn job_names_are_checked_against_what_overtook() {
    let api = Api::start(Setup::default()).await;
    api.put("a", &with_job("x")).await;
    // One change of another node takes the job, and one of the same name makes it look anew.
    let mut taken = change(&with_job("z"), "them");
    if let Change::Put { name, .. } = &mut taken {
        *name = "b".into();
    }
    api.memory.overtaking_at_once.store(true, Ordering::Relaxed);
    overtaken_by(&api, vec![taken, change(&with_job("y"), "them")]).await;
    let answer = api.put("a", &with_job("z")).await;
    assert_eq!(answer.status, 400, "{}", answer.text);
    assert!(
        answer.error().contains("job name \"z\""),
        "{}",
        answer.error()
    );
}

#[test]
fn a_label_is_taken_from_the_revision_that_is_asked_for() {
    let wanted = |condition, managed_by: Option<&str>| Wanted {
        name: "a".into(),
        what: What::Put {
            text: "".into(),
            managed_by: managed_by.map(str::to_owned),
        },
        condition,
    };
    let known = configs(&[("a", "x")]);
    let nothing = configs(&[]);
    for (condition, behind_known, behind_nothing) in [
        (Condition::None, false, false),
        (Condition::Absent, false, false),
        (Condition::Present, false, true),
        (Condition::Revision(1), false, true),
        (Condition::Revision(2), true, true),
    ] {
        let one = [wanted(condition, None)];
        let found = (
            changes::is_behind(&one, &known),
            changes::is_behind(&one, &nothing),
        );
        assert_eq!(found, (behind_known, behind_nothing), "{condition:?}");
        let labelled = [wanted(condition, Some("me"))];
        assert!(!changes::is_behind(&labelled, &nothing), "{condition:?}");
    }
    for (condition, if_there, if_gone) in [
        (Condition::None, true, true),
        (Condition::Absent, false, false),
        (Condition::Present, true, false),
        (Condition::Revision(1), false, false),
    ] {
        let one = [wanted(condition, None)];
        let again = |revision| changes::may_try_again(&one, "a", revision);
        assert_eq!(
            (again(Some(2)), again(None)),
            (if_there, if_gone),
            "{condition:?}"
        );
        let labelled = [wanted(condition, Some("me"))];
        assert!(
            !changes::may_try_again(&labelled, "a", Some(2)),
            "{condition:?}"
        );
    }
    let stored = |managed_by, configs: &_| {
        let one = [wanted(Condition::None, managed_by)];
        let changes = changes::for_store(&one, configs, "who", 0);
        let [Change::Put { condition, .. }] = changes[..] else {
            panic!("{changes:?}");
        };
        condition
    };
    assert_eq!(stored(None, &known), Condition::Revision(1));
    assert_eq!(stored(None, &nothing), Condition::Absent);
    assert_eq!(stored(Some("me"), &known), Condition::None);
}
