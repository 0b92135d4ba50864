//! The cluster's paths asked by HTTP, with a control loop and another node that are played.

use super::*;
use crate::server::{Sites, serve};

/// Another node that says how all of its targets are, and how much it logs.
#[derive(Debug)]
struct OtherNode;

impl Peers for OtherNode {
    fn ask(&self, node: &str, question: Vec<u8>) -> Answering {
        let is_there = node == "b";
        Box::pin(async move {
            if !is_there {
                return Err("no connection".to_owned());
            }
            let (queries, asked) = mpsc::channel(8);
            tokio::spawn(answer_all(asked));
            Ok(peers::answer(&queries, &question).await)
        })
    }
}

/// Plays the control loop.
async fn answer_all(mut asked: mpsc::Receiver<Query>) {
    while let Some(query) = asked.recv().await {
        match query {
            Query::Cluster(answer) => {
                let (view, mut fleet) = some_view();
                fleet.peers = Some(Arc::new(OtherNode));
                answer.send((view, fleet)).ok().unwrap();
            }
            Query::Fleet(answer) => {
                let mut fleet = some_view().1;
                fleet.peers = Some(Arc::new(OtherNode));
                fleet.timeline = Some(Arc::new(Timeline::new(
                    "a".into(),
                    vec![(0, plain(&["a", "b", "gone"]))],
                )));
                answer.send(fleet).ok().unwrap();
            }
            Query::Health { keys, answer } => {
                let targets = some_targets(10).into_iter();
                let wanted = |key: u64| keys.as_ref().is_none_or(|keys| keys.contains(&key));
                let status = |target: Arc<Target>| TargetStatus {
                    health: match target.labels.get("instance") {
                        "10.0.0.3:9100" => Health::Down,
                        _ => Health::Up,
                    },
                    target,
                    last_error: "refused".to_owned(),
                    last_scrape_ms: Some(NOW_MS - 1),
                    last_duration_s: 0.25,
                };
                let found = targets.filter(|one| wanted(one.key.0)).map(status);
                answer.send(found.collect()).unwrap();
            }
            Query::Overview(answer) => {
                let view = OverviewView {
                    samples_per_second: 1_234.5,
                    ..OverviewView::default()
                };
                answer.send(view).unwrap();
            }
            Query::Drain { is_drained, answer } => {
                let result = if is_drained {
                    Ok(())
                } else {
                    Err("not drained".to_owned())
                };
                answer.send(result).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
}

struct Api {
    url: String,
    client: reqwest::Client,
}

impl Api {
    async fn start(lifecycle: bool) -> Self {
        let (queries, asked) = mpsc::channel(8);
        tokio::spawn(answer_all(asked));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let options = ApiOptions {
            lifecycle,
            ..ApiOptions::default()
        };
        let sites = Sites::load(None).unwrap();
        let api = router(queries, options, Arc::default(), sites.clone());
        tokio::spawn(serve(listener, api, sites));
        Self {
            url,
            client: reqwest::Client::new(),
        }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let url = format!("{}{path}", self.url);
        let response = self.client.get(url).send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap())
    }

    async fn post(&self, path: &str, origin: &str) -> u16 {
        let url = format!("{}{path}", self.url);
        let request = self.client.post(url).header("Origin", origin);
        request.send().await.unwrap().status().as_u16()
    }
}

#[tokio::test]
async fn the_page_of_the_cluster() {
    let api = Api::start(false).await;
    let (status, answer) = api.get("/api/v1/cluster?scope=all").await;
    assert_eq!(status, 200, "{answer}");
    let golden: Value = serde_json::from_str(include_str!("cluster.json")).unwrap();
    let text = serde_json::to_string_pretty(&answer).unwrap();
    assert_eq!(answer, golden, "{text}");
    let read: ClusterView = serde_json::from_value(answer["data"].clone()).unwrap();
    assert_eq!(read.members.len(), 4);
    let (_, peers) = api.get("/api/v0/web/peers").await;
    let golden = json!([
        {"name": "a", "addr": "10.0.0.1:7946", "isSelf": true, "state": "terminating"},
        {"name": "b", "addr": "10.0.0.1:7946", "isSelf": false, "state": "participant"},
        {"name": "c", "addr": "10.0.0.1:7946", "isSelf": false, "state": "viewer"},
    ]);
    assert_eq!(peers, golden, "the dead are not listed");
}

#[tokio::test]
async fn pages_of_targets() {
    let api = Api::start(false).await;
    let (_, own) = api.get("/api/v1/cluster/targets?limit=1000").await;
    let list = own["data"]["targets"].as_array().unwrap();
    assert_eq!((list.len(), own["data"]["total"].as_u64()), (11, Some(11)));
    for target in list {
        assert_eq!(
            target["health"].is_null(),
            target["owner"] != "a",
            "{target}"
        );
    }
    let (_, all) = api
        .get("/api/v1/cluster/targets?limit=1000&scope=all")
        .await;
    for target in all["data"]["targets"].as_array().unwrap() {
        assert_eq!(
            target["health"].is_null(),
            target["owner"] == "gone",
            "{target}"
        );
    }
    assert_eq!(all["data"]["warnings"], json!(["gone: no connection"]));
    let (_, page) = api.get("/api/v1/cluster/targets?offset=9&limit=1").await;
    assert_eq!(page["data"]["targets"][0], list.get(9).cloned().unwrap());
    let (_, down) = api
        .get("/api/v1/cluster/targets?state=down&scope=all")
        .await;
    assert_eq!(down["data"]["matched"], 1);
    assert_eq!(down["data"]["targets"][0]["health"]["lastError"], "refused");
    let (_, found) = api
        .get("/api/v1/cluster/targets?search=0.7:&job=node")
        .await;
    assert_eq!(
        found["data"]["targets"][0]["url"],
        "http://10.0.0.7:9100/metrics"
    );
    let (_, of_node) = api.get("/api/v1/cluster/targets?node=gone").await;
    let owners = of_node["data"]["targets"].as_array().unwrap();
    assert!(!owners.is_empty() && owners.iter().all(|target| target["owner"] == "gone"));
    for bad in ["state=ill", "limit=x", "scope=none"] {
        let (status, answer) = api.get(&format!("/api/v1/cluster/targets?{bad}")).await;
        assert_eq!(
            (status, &answer["errorType"]),
            (400, &json!("bad_data")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn owner_and_what_if_by_http() {
    let api = Api::start(false).await;
    let (status, one) = api
        .get("/api/v1/cluster/owner?target=10.0.0.7:9100&without=a")
        .await;
    assert_eq!(status, 200, "{one}");
    assert_eq!(one["data"]["matched"], 1);
    assert_eq!(one["data"]["owners"][0]["without"]["node"], "a");
    for (path, expected) in [
        ("owner?target=http://nowhere/", 404),
        ("owner", 400),
        ("owner?target=10.0.0.7:9100&without=x", 400),
        ("what-if", 400),
        ("what-if?leave=x", 404),
        ("what-if?leave=b", 200),
    ] {
        let (status, answer) = api.get(&format!("/api/v1/cluster/{path}")).await;
        assert_eq!(status, expected, "{path}: {answer}");
    }
}

#[tokio::test]
async fn draining_needs_permission_and_the_same_origin() {
    let closed = Api::start(false).await;
    assert_eq!(closed.post("/api/v1/cluster/drain", &closed.url).await, 403);
    let open = Api::start(true).await;
    assert_eq!(open.post("/api/v1/cluster/drain", &open.url).await, 200);
    assert_eq!(open.post("/api/v1/cluster/undrain", &open.url).await, 409);
    assert_eq!(
        open.post("/api/v1/cluster/drain", "http://evil.example")
            .await,
        403
    );
    let get = open
        .client
        .get(format!("{}/api/v1/cluster/drain", open.url));
    assert_eq!(get.send().await.unwrap().status().as_u16(), 405);
}
