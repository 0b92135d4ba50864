//! Requests over HTTP, and a store in memory -> the answers that clients of Grafana Agent expect,
//! and those that are added.

mod added;
mod agent;
mod races;
mod store;

pub(super) use store::configs;
use store::{Memory, Mode};

use super::{Access, Service, Shared, Validate};
use crate::api::{ApiOptions, Query, TargetStatus, TargetsView, router};
use crate::config::Config;
use crate::server::{Sites, serve};
use crate::service::instance::InstanceRules;
use crate::service::reader::Reader;
use crate::service::status::{NodeConfig, NodeConfigs};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// Rules by which each line of a text is a job; one called `bad` is refused.
#[derive(Debug, Default)]
pub(super) struct Lines {
    asked: AtomicUsize,
}

impl Lines {
    /// How many texts were read.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Validate for Lines {
    fn jobs(&self, _: &Arc<str>, text: &Arc<str>) -> Result<Vec<String>, Vec<String>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if text.contains("bad") {
            return Err(vec!["bad".to_owned()]);
        }
        Ok(text.lines().map(str::to_owned).collect())
    }
}

/// The rules of a node whose file has one job.
fn rules() -> InstanceRules {
    let text = "scrape_configs: [{job_name: of-file}]\n\
                scraping_service: {enabled: true, kvstore: {store: local}}\n";
    let config = Config::parse(Path::new("c.yml"), text, &|_| None).unwrap();
    let settings = config.scraping_service.clone().unwrap();
    InstanceRules::new(&config, &settings, BTreeMap::new())
}

/// What a node says of what is stored, if it has taken over all of it.
fn node_configs(service: &Service) -> NodeConfigs {
    let state = service.store.state.borrow();
    let configs = state.configs.by_name.iter().map(|(name, stored)| {
        let jobs = service.rules.jobs(name, &stored.text);
        let config = NodeConfig {
            revision: stored.revision,
            refusals: jobs.as_ref().err().cloned().unwrap_or_default(),
            jobs: jobs.unwrap_or_default(),
            ..NodeConfig::default()
        };
        (name.to_string(), config)
    });
    NodeConfigs {
        configs: configs.collect(),
        ..NodeConfigs::default()
    }
}

/// What a test wants of the node.
struct Setup {
    options: ApiOptions,
    access: Access,
    mode: Mode,
    is_on: bool,
    is_embedded: bool,
    config_bytes_max: u64,
    configs_max: u64,
    targets: fn() -> Vec<TargetStatus>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            options: ApiOptions {
                reads_configs: true,
                ..ApiOptions::default()
            },
            access: Access::default(),
            mode: Mode::Works,
            is_on: true,
            is_embedded: false,
            config_bytes_max: 10_000,
            configs_max: 0,
            targets: Vec::new,
        }
    }
}

/// A node's API, by HTTP.
struct Api {
    url: String,
    client: reqwest::Client,
    memory: Memory,
    shared: Arc<Shared>,
}

struct Answer {
    status: u16,
    headers: reqwest::header::HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    fn data(&self) -> Value {
        self.json()["data"].clone()
    }

    fn error(&self) -> String {
        self.json()["data"]["error"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Api {
    async fn start(setup: Setup) -> Self {
        let (queries, mut asked) = mpsc::channel(8);
        let memory = Memory::start(setup.mode);
        let service = setup.is_on.then(|| Service {
            store: memory.handle.clone(),
            rules: Arc::new(Reader::new(rules())),
            access: Arc::new(setup.access),
            is_readable: false,
            is_embedded: setup.is_embedded,
            config_bytes_max: setup.config_bytes_max,
            configs_max: setup.configs_max,
        });
        tokio::spawn(async move {
            while let Some(query) = asked.recv().await {
                match query {
                    Query::Service(answer) => drop(answer.send(service.clone())),
                    Query::Configs { answer, .. } => {
                        drop(answer.send(service.as_ref().map(node_configs).unwrap_or_default()));
                    }
                    Query::Targets(answer) => {
                        let statuses = (setup.targets)();
                        let view = TargetsView {
                            statuses,
                            ..TargetsView::default()
                        };
                        drop(answer.send(view));
                    }
                    other => panic!("{other:?}"),
                }
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::<Shared>::default();
        let sites = Sites::load(None).unwrap();
        let api = router(queries, setup.options, shared.clone(), sites.clone());
        tokio::spawn(serve(listener, api, sites));
        Self {
            url,
            client: reqwest::Client::new(),
            memory,
            shared,
        }
    }

    async fn ask(&self, method: &str, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let path = format!("{}/agent/api/v1/{path}", self.url);
        let mut request = self.client.request(method, path).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", &[]).await
    }

    async fn put(&self, name: &str, text: &str) -> Answer {
        self.ask("PUT", &format!("config/{name}"), text, &[]).await
    }

    async fn delete(&self, name: &str) -> Answer {
        self.ask("DELETE", &format!("config/{name}"), "", &[]).await
    }

    async fn batch(&self, query: &str, body: &Value) -> Answer {
        self.ask("POST", &format!("configs{query}"), &body.to_string(), &[])
            .await
    }

    /// The names that are stored.
    fn names(&self) -> Vec<String> {
        let state = self.memory.handle.state.borrow();
        state
            .configs
            .by_name
            .keys()
            .map(|name| name.to_string())
            .collect()
    }
}

/// A configuration with one job.
fn with_job(job: &str) -> String {
    format!("scrape_configs:\n- job_name: {job}\n")
}
