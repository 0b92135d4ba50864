//! What Grafana Agent's API lacks.

use super::*;
use serde_json::json;

/// SHA-256 of `abc`, from FIPS 180-2, appendix B.1.
const HASH_OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn tokens(role: &str) -> Access {
    Access::parse(&format!("ci {role} {HASH_OF_ABC}")).unwrap()
}

#[tokio::test]
async fn etags_are_revisions() {
    let api = Api::start(Setup::default()).await;
    let created = api.put("a", &with_job("x")).await;
    let tag = created.header("etag").unwrap().to_owned();
    assert_eq!(tag, "\"1\"");
    let read = api.get("configs/a").await;
    assert_eq!(read.header("etag"), Some(&*tag));
    let same = api
        .ask("GET", "configs/a", "", &[("If-None-Match", &tag)])
        .await;
    assert_eq!(
        (same.status, &*same.text, same.header("etag")),
        (304, "", Some(&*tag))
    );
    let unchanged = api.put("a", &with_job("x")).await;
    assert_eq!(unchanged.header("etag"), Some(&*tag));
    let updated = api.put("a", &with_job("y")).await;
    assert_eq!(updated.header("etag"), Some("\"2\""));
    let list = api
        .ask("GET", "configs", "", &[("If-None-Match", "\"2\"")])
        .await;
    assert_eq!(list.status, 304);
}

#[tokio::test]
async fn conditions_that_do_not_hold_are_412() {
    let api = Api::start(Setup::default()).await;
    let put = async |text: &str, header: (&str, &str)| {
        let answer = api.ask("PUT", "config/a", &with_job(text), &[header]).await;
        (answer.status, answer.json()["data"]["error"].clone())
    };
    let (status, error) = put("x", ("If-Match", "*")).await;
    assert_eq!(
        (status, error),
        (412, json!("configuration a is not there any more"))
    );
    assert_eq!(put("x", ("If-None-Match", "*")).await.0, 201);
    assert_eq!(put("y", ("If-None-Match", "*")).await.0, 412);
    let (status, error) = put("y", ("If-Match", "\"7\"")).await;
    let wanted = "configuration a was changed meanwhile: its revision is 1";
    assert_eq!((status, error), (412, json!(wanted)));
    assert_eq!(put("y", ("If-Match", "\"1\"")).await.0, 200);
    assert_eq!(put("z", ("If-Match", "nonsense")).await.0, 400);
    let delete = async |tag: &str| {
        let answer = api
            .ask("DELETE", "config/a", "", &[("If-Match", tag)])
            .await;
        answer.status
    };
    assert_eq!(delete("\"1\"").await, 412);
    assert_eq!(delete("\"2\"").await, 200);
}

#[tokio::test]
async fn lists_with_contents_come_in_pages() {
    let api = Api::start(Setup::default()).await;
    for name in ["a", "b", "c"] {
        let path = format!("config/{name}?managed_by=me");
        api.ask("PUT", &path, &with_job(name), &[]).await;
    }
    let page = api.get("configs?limit=2&contents=true").await.data();
    assert_eq!(
        (&page["configs"], &page["next"]),
        (&json!(["a", "b"]), &json!("b"))
    );
    assert_eq!((&page["total"], &page["revision"]), (&json!(3), &json!(3)));
    let item = &page["items"][1];
    assert_eq!(item["value"], "name: b\nscrape_configs:\n- job_name: b\n");
    assert_eq!(
        (&item["revision"], &item["managed_by"]),
        (&json!(2), &json!("me"))
    );
    assert_eq!(item["changed_by"], "127.0.0.1");
    assert!(item["changed_ms"].as_i64().unwrap() > 1_600_000_000_000);
    let rest = api.get("configs?limit=2&after=b").await.data();
    assert_eq!((&rest["configs"], rest.get("next")), (&json!(["c"]), None));
    assert!(rest["items"][0].get("value").is_none());
    assert_eq!(api.get("configs?limit=none").await.status, 400);
}

#[tokio::test]
async fn contents_need_the_flag_of_reading() {
    let api = Api::start(Setup {
        options: ApiOptions::default(),
        ..Setup::default()
    })
    .await;
    let answer = api.get("configs?contents=true").await;
    assert_eq!(
        (answer.status, &*answer.text),
        (404, "404 - config endpoint is disabled")
    );
    assert_eq!(api.get("configs?details=true").await.status, 200);
}

#[tokio::test]
async fn a_batch_is_made_as_a_whole() {
    let api = Api::start(Setup::default()).await;
    api.put("old", &with_job("moves")).await;
    let batch = json!({"managed_by": "sync", "changes": [
        {"action": "put", "name": "a", "value": with_job("moves"), "if_absent": true},
        {"action": "put", "name": "b", "value": with_job("b")},
        {"action": "delete", "name": "old", "if_revision": 1},
    ]});
    let answer = api.batch("", &batch).await;
    let wanted = json!({"revision": 2, "dry_run": false, "changes": [
        {"name": "a", "outcome": "created"},
        {"name": "b", "outcome": "created"},
        {"name": "old", "outcome": "deleted", "revision_before": 1},
    ]});
    assert_eq!(
        (answer.status, answer.data()),
        (200, wanted),
        "a job may move within a batch"
    );
    assert_eq!(api.names(), ["a", "b"]);
    assert_eq!(api.get("configs?managed_by=sync").await.data()["total"], 2);
    assert_eq!(api.shared.counters.read(), [3, 0, 1]);
}

#[tokio::test]
async fn of_a_batch_with_a_fault_nothing_is_made() {
    let api = Api::start(Setup::default()).await;
    api.put("a", &with_job("a")).await;
    let good = json!({"action": "put", "name": "good", "value": with_job("good")});
    let put = |name: &str, text: &str| json!({"action": "put", "name": name, "value": text});
    for (status, changes) in [
        (400, vec![put("b", "["), put("c", "x: 1")]),
        (400, vec![put("b", &with_job("a"))]),
        (
            400,
            vec![put("b", &with_job("j")), put("c", &with_job("j"))],
        ),
        (
            400,
            vec![put("b", &with_job("j")), put("b", &with_job("k"))],
        ),
        (400, vec![put("", &with_job("j"))]),
        (400, vec![json!({"action": "put", "name": "b"})]),
        (
            400,
            vec![json!({"action": "delete", "name": "a", "value": ""})],
        ),
        (
            400,
            vec![json!({"action": "delete", "name": "a", "if_revision": 1, "if_absent": true})],
        ),
        (404, vec![json!({"action": "delete", "name": "none"})]),
        (
            412,
            vec![json!({"action": "delete", "name": "a", "if_revision": 9})],
        ),
    ] {
        let mut all = vec![good.clone()];
        all.extend(changes);
        let batch = json!({"changes": all});
        for query in ["", "?dry_run=true"] {
            let answer = api.batch(query, &batch).await;
            assert_eq!(answer.status, status, "{batch}: {}", answer.text);
            assert_eq!(api.names(), ["a"], "{batch}");
        }
    }
    let answer = api
        .batch("", &json!({"changes": [put("b", "["), put("c", "x: 1")]}))
        .await;
    let errors = answer.data()["errors"].clone();
    assert_eq!(
        (&errors[0]["name"], &errors[1]["name"]),
        (&json!("b"), &json!("c"))
    );
    assert!(
        answer.error().contains("nothing was changed"),
        "{}",
        answer.text
    );
    assert_eq!(
        api.batch("", &json!({"changes": [], "more": 1}))
            .await
            .status,
        400
    );
    assert_eq!(api.batch("", &json!({"changes": []})).await.status, 200);
}

#[tokio::test]
async fn a_dry_run_tells_and_changes_nothing() {
    let api = Api::start(Setup::default()).await;
    let secret = "remote_write: [{url: 'http://h/', headers: {X: HUSH}}]\n";
    api.put("a", &format!("{}{secret}", with_job("a"))).await;
    api.put("b", &with_job("b")).await;
    let put = |name: &str, text: String| json!({"action": "put", "name": name, "value": text});
    let batch = json!({"managed_by": "sync", "changes": [
        put("a", format!("{}{secret}", with_job("other"))),
        put("b", with_job("b")),
        put("c", with_job("c")),
    ]});
    let answer = api.batch("?dry_run=true", &batch).await;
    assert!(!answer.text.contains("HUSH"), "{}", answer.text);
    let data = answer.data();
    let diff = data["changes"][0]["diff"].as_str().unwrap();
    assert!(
        diff.contains("-- job_name: a\n+- job_name: other\n"),
        "{diff}"
    );
    let label = "managed_by is \"\", becomes \"sync\"\n";
    assert_eq!(data["changes"][1]["diff"], label);
    assert_eq!(
        data["changes"][2],
        json!({"name": "c", "outcome": "created"})
    );
    assert_eq!(
        (&data["dry_run"], api.names()),
        (&json!(true), vec!["a".into(), "b".into()])
    );
    let one = api
        .ask("PUT", "config/b?dry_run=true", &with_job("b"), &[])
        .await;
    assert_eq!(
        (one.status, &one.data()["changes"][0]["outcome"]),
        (200, &json!("unchanged"))
    );
    let bad = api.ask("PUT", "config/b?dry_run=true", "x: 1", &[]).await;
    assert_eq!(bad.status, 400);
    let gone = api.ask("DELETE", "config/none?dry_run=true", "", &[]).await;
    assert_eq!(gone.status, 404);
    assert_eq!(api.shared.counters.read(), [2, 0, 0]);
}

#[tokio::test]
async fn an_owner_stays_unless_another_is_named() {
    let api = Api::start(Setup::default()).await;
    let owner =
        async || api.get("configs?details=true").await.data()["items"][0]["managed_by"].clone();
    api.ask("PUT", "config/a?managed_by=sync", &with_job("a"), &[])
        .await;
    api.put("a", &with_job("b")).await;
    assert_eq!(owner().await, "sync");
    api.ask("PUT", "config/a?managed_by=", &with_job("b"), &[])
        .await;
    assert_eq!(owner().await, "");
    let bad = api
        .ask("PUT", "config/a?managed_by=%0a", &with_job("b"), &[])
        .await;
    assert_eq!(bad.status, 400);
}

#[tokio::test]
async fn what_was_not_confirmed_is_503() {
    let api = Api::start(Setup {
        mode: Mode::Unconfirmed,
        ..Setup::default()
    })
    .await;
    let answer = api.put("a", &with_job("a")).await;
    assert_eq!(answer.status, 503);
    assert!(
        answer.error().contains("may still appear"),
        "{}",
        answer.text
    );
    let api = Api::start(Setup {
        mode: Mode::Gone,
        is_embedded: true,
        ..Setup::default()
    })
    .await;
    assert_eq!(
        api.put("a", &with_job("a")).await.status,
        503,
        "too few members"
    );
    let api = Api::start(Setup {
        mode: Mode::Refuses,
        ..Setup::default()
    })
    .await;
    assert_eq!(api.put("a", &with_job("a")).await.status, 400);
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let api = Api::start(Setup {
        config_bytes_max: 100,
        configs_max: 1,
        ..Setup::default()
    })
    .await;
    let long = format!("{}#{}", with_job("a"), "x".repeat(100));
    assert_eq!(api.put("a", &long).await.status, 413);
    let put = |name: &str, text: &str| json!({"action": "put", "name": name, "value": text});
    let answer = api.batch("", &json!({"changes": [put("a", &long)]})).await;
    assert_eq!((answer.status, api.names().len()), (400, 0));
    assert_eq!(api.put("a", &with_job("a")).await.status, 201);
    let answer = api.put("b", &with_job("b")).await;
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("may hold 1"), "{}", answer.text);
    assert_eq!(api.put("a", &with_job("c")).await.status, 200);
    let swap = json!({"changes": [put("b", &with_job("b")), {"action": "delete", "name": "a"}]});
    assert_eq!(api.batch("", &swap).await.status, 200);
}

#[tokio::test]
async fn tokens_decide_who_reads_and_writes() {
    let api = Api::start(Setup {
        access: tokens("read"),
        ..Setup::default()
    })
    .await;
    let answer = api.get("configs").await;
    assert_eq!(
        (answer.status, answer.header("www-authenticate")),
        (401, Some("Bearer"))
    );
    assert_eq!(answer.json()["status"], "error");
    let token = [("Authorization", "Bearer abc")];
    assert_eq!(api.ask("GET", "configs", "", &token).await.status, 200);
    let answer = api.ask("PUT", "config/a", &with_job("a"), &token).await;
    assert_eq!((answer.status, api.names().len()), (403, 0));

    let api = Api::start(Setup {
        access: tokens("write"),
        ..Setup::default()
    })
    .await;
    assert_eq!(
        api.ask("PUT", "config/a", &with_job("a"), &token)
            .await
            .status,
        201
    );
    let wrong = [("Authorization", "Bearer abd")];
    let batch = json!({"changes": []}).to_string();
    for (method, path, body) in [
        ("PUT", "config/b", with_job("b")),
        ("DELETE", "config/a", String::new()),
        ("POST", "configs", batch),
        ("GET", "configs/a", String::new()),
    ] {
        assert_eq!(
            api.ask(method, path, &body, &wrong).await.status,
            401,
            "{method} {path}"
        );
    }
    let page = api.ask("GET", "configs?details=true", "", &token).await;
    assert_eq!(page.data()["items"][0]["changed_by"], "ci");
}

#[tokio::test]
async fn closed_by_default_to_other_sites_and_hosts() {
    let api = Api::start(Setup::default()).await;
    let text = with_job("a");
    for headers in [
        ("Origin", "http://evil.example"),
        ("Host", "rebound.example"),
        ("X-Forwarded-For", "10.0.0.1"),
    ] {
        let answer = api.ask("PUT", "config/a", &text, &[headers]).await;
        assert_eq!(answer.status, 403, "{headers:?}");
    }
    assert!(api.names().is_empty());
    let api = Api::start(Setup {
        options: ApiOptions {
            lifecycle: true,
            ..ApiOptions::default()
        },
        ..Setup::default()
    })
    .await;
    let behind_proxy = [("X-Forwarded-For", "10.0.0.1")];
    assert_eq!(
        api.ask("PUT", "config/a", &text, &behind_proxy)
            .await
            .status,
        201
    );
    let foreign = [("Origin", "http://evil.example")];
    assert_eq!(
        api.ask("PUT", "config/a", &text, &foreign).await.status,
        403
    );
}
