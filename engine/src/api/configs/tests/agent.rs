//! What Grafana Agent's API does: docs/sources/static/api and the tests of its config store.

use super::*;
use crate::api::Health;
use crate::labels::Labels;
use crate::service::store::{Change, Condition, Origin};
use crate::target::targets;
use serde_json::json;

#[tokio::test]
async fn list_is_names_in_an_envelope() {
    let api = Api::start(Setup::default()).await;
    let answer = api.get("configs").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text, r#"{"data":{"configs":[]},"status":"success"}"#);
    for name in ["b", "a", "c"] {
        assert_eq!(api.put(name, &with_job(name)).await.status, 201);
    }
    let answer = api.get("configs").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let wanted = json!({"status": "success", "data": {"configs": ["a", "b", "c"]}});
    assert_eq!(answer.json(), wanted);
}

#[tokio::test]
async fn without_the_service_there_is_no_config_store() {
    let api = Api::start(Setup {
        is_on: false,
        ..Setup::default()
    })
    .await;
    let wanted = json!({"status": "error", "data": {"error": "no config store running"}});
    for (method, path) in [
        ("GET", "configs"),
        ("GET", "configs/a"),
        ("PUT", "config/a"),
        ("POST", "config/a"),
        ("DELETE", "config/a"),
        ("POST", "configs"),
    ] {
        let answer = api.ask(method, path, "", &[]).await;
        assert_eq!(
            (answer.status, answer.json()),
            (404, wanted.clone()),
            "{method} {path}"
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
}

#[tokio::test]
async fn get_of_one_is_disabled_without_its_flag() {
    for is_on in [true, false] {
        let api = Api::start(Setup {
            options: ApiOptions::default(),
            is_on,
            ..Setup::default()
        })
        .await;
        let answer = api.get("configs/exists").await;
        assert_eq!(answer.status, 404);
        assert_eq!(answer.text, "404 - config endpoint is disabled");
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
    }
}

#[tokio::test]
async fn get_of_one_is_yaml_under_its_name() {
    let api = Api::start(Setup::default()).await;
    api.put("exists", &with_job("a")).await;
    let answer = api.get("configs/exists").await;
    let value = "name: exists\nscrape_configs:\n- job_name: a\n";
    let wanted = json!({"status": "success", "data": {"value": value}});
    assert_eq!((answer.status, answer.json()), (200, wanted));
}

#[tokio::test]
async fn get_of_one_scrubs_secrets() {
    let api = Api::start(Setup::default()).await;
    let text = "remote_write:\n- url: http://me:SCRUBME@localhost/\n  headers: {X-A: SCRUBME}\n";
    assert_eq!(api.put("exists", text).await.status, 201);
    let answer = api.get("configs/exists").await;
    assert!(!answer.text.contains("SCRUBME"), "{}", answer.text);
    assert!(answer.text.contains("X-A: <secret>"), "{}", answer.text);
    let page = api.get("configs?contents=true").await;
    assert!(!page.text.contains("SCRUBME") && page.text.contains("<secret>"));
}

#[tokio::test]
async fn get_of_a_missing_one_is_404() {
    let api = Api::start(Setup::default()).await;
    let answer = api.get("configs/does-not-exist").await;
    let error = json!({"error": "configuration does-not-exist does not exist"});
    assert_eq!(answer.json(), json!({"status": "error", "data": error}));
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn put_and_post_create_with_201_and_update_with_200_without_data() {
    for method in ["PUT", "POST"] {
        let api = Api::start(Setup::default()).await;
        for (text, status) in [("a", 201), ("b", 200), ("b", 200)] {
            let answer = api.ask(method, "config/x", &with_job(text), &[]).await;
            assert_eq!(
                (answer.status, &*answer.text),
                (status, r#"{"status":"success"}"#)
            );
            assert_eq!(answer.header("content-type"), Some("application/json"));
        }
        assert_eq!(api.shared.counters.read(), [1, 2, 0]);
    }
}

#[tokio::test]
async fn names_are_percent_decoded() {
    let api = Api::start(Setup::default()).await;
    assert_eq!(api.put("hello%2Fworld", &with_job("a")).await.status, 201);
    assert_eq!(api.names(), ["hello/world"]);
    let answer = api.get("configs/hello%2Fworld").await;
    assert!(answer.text.contains("name: hello/world"), "{}", answer.text);
    assert_eq!(api.delete("hello%2fworld").await.status, 200);
    assert!(api.names().is_empty());
}

#[tokio::test]
async fn undecodable_names_are_400() {
    let api = Api::start(Setup::default()).await;
    for (method, path) in [
        ("GET", "configs/"),
        ("PUT", "config/"),
        ("DELETE", "config/"),
    ] {
        for name in ["a%zz", "a%ff", "%0a"] {
            let answer = api.ask(method, &format!("{path}{name}"), "", &[]).await;
            assert_eq!(answer.status, 400, "{method} {name}: {}", answer.text);
            assert_eq!(answer.json()["status"], "error");
        }
    }
}

#[tokio::test]
async fn the_name_in_the_url_wins() {
    let api = Api::start(Setup::default()).await;
    let text = format!("name: body\n{}", with_job("a"));
    assert_eq!(api.put("url", &text).await.status, 201);
    assert_eq!(api.names(), ["url"]);
}

#[tokio::test]
async fn what_is_no_yaml_is_400() {
    let api = Api::start(Setup::default()).await;
    let answer = api.put("a", "scrape_configs: [").await;
    assert_eq!(answer.status, 400);
    assert!(
        answer
            .error()
            .starts_with("could not unmarshal config: line"),
        "{}",
        answer.text
    );
    assert!(api.names().is_empty());
}

#[tokio::test]
async fn unknown_keys_are_400() {
    let api = Api::start(Setup::default()).await;
    let answer = api.put("a", "scrape_confugs: []").await;
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("scrape_confugs"), "{}", answer.text);
}

#[tokio::test]
async fn failed_validation_is_400() {
    let api = Api::start(Setup::default()).await;
    let answer = api.put("a", "scrape_configs: [{job_name: ''}]").await;
    assert_eq!(answer.status, 400);
    let error = answer.error();
    assert!(error.starts_with("failed to validate config: "), "{error}");
    assert!(error.contains("job_name"), "{error}");
}

#[tokio::test]
async fn a_job_name_of_another_config_is_400() {
    let api = Api::start(Setup::default()).await;
    assert_eq!(api.put("a", &with_job("one")).await.status, 201);
    let answer = api.put("b", &with_job("one")).await;
    let wanted = "failed to check uniqueness of config: found multiple scrape configs in config \
                  store with job name \"one\": configuration \"a\" has it";
    assert_eq!((answer.status, answer.error()), (400, wanted.to_owned()));
    let answer = api.put("b", &with_job("of-file")).await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.error().contains("the node's file"),
        "{}",
        answer.text
    );
    assert_eq!(
        api.put("a", &with_job("one")).await.status,
        200,
        "its own it may keep"
    );
    assert_eq!(api.names(), ["a"]);
}

#[tokio::test]
async fn two_at_once_cannot_take_one_job_name() {
    let api = Api::start(Setup::default()).await;
    let (a, b) = (with_job("one"), with_job("one"));
    let (a, b) = tokio::join!(api.put("a", &a), api.put("b", &b));
    let mut statuses = [a.status, b.status];
    statuses.sort_unstable();
    assert_eq!((statuses, api.names().len()), ([201, 400], 1));
}

#[tokio::test]
async fn delete_is_200_and_of_a_missing_one_404() {
    let api = Api::start(Setup::default()).await;
    api.put("deleteme", &with_job("a")).await;
    let answer = api.delete("deleteme").await;
    assert_eq!(
        (answer.status, &*answer.text),
        (200, r#"{"status":"success"}"#)
    );
    let answer = api.delete("deleteme").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.error(), "configuration deleteme does not exist");
    assert_eq!(api.shared.counters.read(), [1, 0, 1]);
}

#[tokio::test]
async fn a_store_that_fails_is_500() {
    let api = Api::start(Setup {
        mode: Mode::Gone,
        ..Setup::default()
    })
    .await;
    let text = with_job("a");
    for (answer, begins) in [
        (api.get("configs").await, "failed to list configs: "),
        (api.get("configs/a").await, "failed to get config a: "),
        (api.put("a", &text).await, "failed to put config: "),
        (api.delete("a").await, "error deleting configuration: "),
    ] {
        assert_eq!(answer.status, 500, "{}", answer.text);
        assert!(answer.error().starts_with(begins), "{}", answer.text);
    }
    assert_eq!(api.shared.counters.read(), [0; 3]);
    assert_eq!(api.get("configs?stale=true").await.status, 200);
    let page = api.get("configs?stale=true&details=true").await.data();
    assert_eq!(page["store_error"], "refused");
}

#[tokio::test]
async fn other_methods_are_405() {
    let api = Api::start(Setup::default()).await;
    for (method, path) in [
        ("GET", "config/a"),
        ("PUT", "configs/a"),
        ("DELETE", "configs/a"),
        ("PATCH", "config/a"),
        ("POST", "instances"),
    ] {
        let answer = api.ask(method, path, "", &[]).await;
        assert_eq!(answer.status, 405, "{method} {path}");
    }
    assert_eq!(api.get("config/a/b").await.status, 404);
}

#[tokio::test]
async fn instances_are_the_names_of_configs_in_use() {
    let api = Api::start(Setup::default()).await;
    for path in ["metrics/instances", "instances"] {
        let answer = api.get(path).await;
        assert_eq!(answer.json(), json!({"status": "success", "data": []}));
    }
    api.put("b", &with_job("x")).await;
    api.put("a", &with_job("y")).await;
    // What another program stored may be refused.
    let refused = Change::Put {
        name: "refused".into(),
        text: "x: 1".into(),
        origin: Origin::default(),
        condition: Condition::None,
    };
    api.memory.handle.apply(vec![refused]).await.unwrap();
    api.put("c", &with_job("z")).await;
    assert_eq!(api.names(), ["a", "b", "c", "refused"]);
    for path in ["metrics/instances", "instances"] {
        assert_eq!(api.get(path).await.data(), json!(["a", "b", "c"]));
    }
}

fn two_targets() -> Vec<TargetStatus> {
    let text = "scrape_configs:\n- job_name: mine\n- job_name: of-file\n";
    let config = Config::parse(Path::new("c.yml"), text, &|_| None).unwrap();
    let group = Arc::new(crate::discovery::TargetGroup {
        source: "s".into(),
        targets: vec![Labels::from_pairs([("__address__", "10.0.0.1:9100")])],
        labels: Labels::from_pairs([("rack", "r")]),
    });
    let status = |index: usize, health, last_error: &str, last_scrape_ms| TargetStatus {
        target: targets(&config.scrape_configs[index], std::slice::from_ref(&group)).targets[0]
            .clone(),
        health,
        last_error: last_error.to_owned(),
        last_scrape_ms,
        last_duration_s: 0.0125,
    };
    vec![
        status(0, Health::Down, "refused", Some(1_000)),
        status(1, Health::Unknown, "", None),
    ]
}

#[tokio::test]
async fn targets_have_the_fields_of_the_agent() {
    let api = Api::start(Setup {
        targets: two_targets,
        ..Setup::default()
    })
    .await;
    api.put("config", &with_job("mine")).await;
    let answer = api.get("metrics/targets").await;
    let mut list = answer.data();
    let discovered = list[1]["discovered_labels"].take();
    assert_eq!(discovered["__address__"], "10.0.0.1:9100");
    let wanted = json!({
        "instance": "config",
        "target_group": "mine",
        "endpoint": "http://10.0.0.1:9100/metrics",
        "state": "down",
        "discovered_labels": null,
        "labels": {"instance": "10.0.0.1:9100", "job": "mine", "rack": "r"},
        "last_scrape": "1970-01-01T00:00:01.000Z",
        "scrape_duration_ms": 12,
        "scrape_error": "refused",
    });
    assert_eq!(list[1], wanted);
    assert_eq!(
        (&list[0]["instance"], &list[0]["state"]),
        (&json!(""), &json!("unknown"))
    );
    assert_eq!(list[0]["last_scrape"], "0001-01-01T00:00:00Z");
    assert_eq!(api.get("targets").await.data(), answer.data());
}

#[tokio::test]
async fn without_the_service_targets_and_instances_answer() {
    let api = Api::start(Setup {
        is_on: false,
        targets: two_targets,
        ..Setup::default()
    })
    .await;
    assert_eq!(api.get("metrics/instances").await.data(), json!([]));
    assert_eq!(
        api.get("metrics/targets")
            .await
            .data()
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn lists_of_logs_are_empty() {
    let api = Api::start(Setup {
        targets: two_targets,
        ..Setup::default()
    })
    .await;
    api.put("config", &with_job("mine")).await;
    for path in ["logs/instances", "logs/targets"] {
        let answer = api.get(path).await;
        let wanted = json!({"status": "success", "data": []});
        assert_eq!((answer.status, answer.json()), (200, wanted), "{path}");
    }
}
