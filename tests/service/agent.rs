//! A file and an instance as Grafana Agent's documentation has them -> they run, unchanged.

use std::fs::File;
use std::process::Command;

use ringscrape_tests::engine::{Engine, Running};
use ringscrape_tests::process::Process;
use ringscrape_tests::recorder::Recorder;
use ringscrape_tests::{debian, http, net};

use super::{LIMIT, one_at_a_time, put, until};

#[test]
fn an_agent_file_and_an_instance_with_one_url_run_unchanged() {
    let _one = one_at_a_time();
    if debian::program("etcd", "etcd-server").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (client, peer) = (net::free_address(), net::free_address());
    let peer = format!("http://{peer}");
    let url = format!("http://{client}");
    let mut command = Command::new("etcd");
    command
        .args(["--name", "test", "--logger", "zap", "--log-level", "warn"])
        .args([
            "--listen-client-urls",
            &url,
            "--advertise-client-urls",
            &url,
        ])
        .args(["--listen-peer-urls", &peer])
        .args(["--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("test={peer}")])
        .arg("--data-dir")
        .arg(dir.path().join("etcd"))
        .stderr(File::create(dir.path().join("etcd.log")).unwrap());
    let etcd = Process::spawn("etcd", &mut command);
    until("etcd answers", LIMIT, || {
        http::get(client, "/health")
            .is_ok_and(|r| r.status == 200)
            .then_some(())
    });

    let file = format!(
        "server:
  log_level: debug

metrics:
  global:
    scrape_interval: 1s
  scraping_service:
    enabled: true
    kvstore:
      store: etcd
      etcd:
        endpoints:
          - {client}
    lifecycler:
      ring:
        replication_factor: 1
        kvstore:
          store: etcd
          etcd:
            endpoints:
              - {client}
"
    );
    let path = dir.path().join("agent.yaml");
    std::fs::write(&path, file).unwrap();
    let address = net::free_address();
    let flags = ["--web.enable-lifecycle"];
    let mut node = Running::start_on(Engine::Ringscrape, dir.path(), &path, address, &flags);
    node.wait_ready();
    let receiver = Recorder::start();
    let instance = format!(
        "scrape_configs:
  - job_name: self-scrape
    static_configs:
      - targets: ['{address}']
        labels:
          process: 'agent'
remote_write:
  - url: {}
",
        receiver.url("/api/prom/push")
    );
    let (status, text) = put(address, "agent", &instance);
    assert_eq!((status, text.as_str()), (201, "{\"status\":\"success\"}"));
    until("its samples arrive", LIMIT, || {
        let up = |sample: &ringscrape_tests::recorder::Sample| {
            sample.name() == "up"
                && sample.label("job") == Some("self-scrape")
                && sample.label("process") == Some("agent")
                && sample.value() == 1.0
        };
        (receiver.count("/api/prom/push", up) > 0).then_some(())
    });
    assert_eq!(put(address, "agent", &instance).0, 200);

    // The node starts again without etcd: what it knew last runs.
    drop(etcd);
    node.process.terminate(LIMIT);
    receiver.clear();
    let mut node = Running::start_on(Engine::Ringscrape, dir.path(), &path, address, &flags);
    node.wait_ready();
    until("samples without etcd", LIMIT, || {
        (receiver.count("/api/prom/push", |sample| sample.name() == "up") > 0).then_some(())
    });
    assert!(
        receiver.violations().is_empty(),
        "{:?}",
        receiver.violations()
    );
}
