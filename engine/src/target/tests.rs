//! Groups and settings -> targets, by table.

use super::*;
use crate::config::Config;
use std::path::Path;

fn job(yaml: &str) -> Arc<ScrapeConfig> {
    let text = format!("scrape_configs:\n- job_name: j\n{yaml}");
    let config = Config::parse(Path::new("c.yml"), &text, &|_| None);
    config
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
        .scrape_configs[0]
        .clone()
}

fn group(labels: &[(&str, &str)], addresses: &[&str]) -> Arc<TargetGroup> {
    Arc::new(TargetGroup {
        source: "s".into(),
        targets: addresses
            .iter()
            .map(|a| Labels::from_pairs([(ADDRESS, *a)]))
            .collect(),
        labels: Labels::from_pairs(labels.iter().copied()),
    })
}

#[track_caller]
fn one(yaml: &str, labels: &[(&str, &str)], address: &str) -> Arc<Target> {
    let result = targets(&job(yaml), &[group(labels, &[address])]);
    assert_eq!(result.failed, []);
    result.targets[0].clone()
}

fn show(labels: &Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join(" ")
}

#[test]
fn labels_are_filled_in_before_relabelling() {
    let target = one(
        "  params: {p: [1, 2], q: []}\n",
        &[("a", "1"), ("job", "own")],
        "h:1",
    );
    assert_eq!(
        show(&target.discovered),
        "__address__=h:1 __always_scrape_classic_histograms__=false \
         __convert_classic_histograms_to_nhcb__=false __metrics_path__=/metrics __param_p=1 \
         __scheme__=http __scrape_interval__=1m __scrape_native_histograms__=false \
         __scrape_timeout__=10s a=1 job=own"
    );
    assert_eq!(show(&target.labels), "a=1 instance=h:1 job=own");
    assert_eq!((target.interval_ms, target.timeout_ms), (60_000, 10_000));
    assert_eq!(target.scrape_url, "http://h:1/metrics?p=1&p=2");
}

#[test]
fn a_targets_own_labels_win_over_its_groups() {
    let group = TargetGroup {
        source: "s".into(),
        targets: vec![Labels::from_pairs([(ADDRESS, "h:1"), ("a", "own")])],
        labels: Labels::from_pairs([("a", "group"), ("b", "group"), (ADDRESS, "g:1")]),
    };
    let result = targets(&job(""), &[Arc::new(group)]);
    assert_eq!(
        show(&result.targets[0].labels),
        "a=own b=group instance=h:1 job=j"
    );
}

#[test]
fn rules_see_meta_labels_and_results_do_not() {
    let yaml = "  relabel_configs:
  - {source_labels: [__meta_x], target_label: x}
  - {source_labels: [__meta_x], target_label: __tmp}
  - {source_labels: [__tmp], target_label: __metrics_path__, replacement: /$1}
  - {source_labels: [__meta_x], target_label: __param_t}
  - {source_labels: [__meta_x], target_label: instance}
";
    let target = one(yaml, &[("__meta_x", "v w")], "h");
    assert_eq!(show(&target.labels), "instance=v w job=j x=v w");
    assert_eq!(target.scrape_url, "http://h/v%20w?t=v+w");
    assert!(show(&target.discovered).contains("__meta_x=v w"));
}

#[test]
fn intervals_may_come_from_labels() {
    let labels = [
        ("__scrape_interval__", "5s"),
        ("__scrape_timeout__", "500ms"),
    ];
    let target = one("", &labels, "h:1");
    assert_eq!((target.interval_ms, target.timeout_ms), (5_000, 500));
}

#[test]
fn a_label_cannot_make_an_interval_shorter_than_the_least() {
    let mut config = (*job("")).clone();
    config.interval_min_ms = 1_000;
    let config = Arc::new(config);
    let found = |interval| {
        let labels = [
            ("__scrape_interval__", interval),
            ("__scrape_timeout__", "1ms"),
        ];
        targets(&config, &[group(&labels, &["h:1"])])
    };
    assert_eq!(found("1s").targets.len(), 1);
    let result = found("999ms");
    assert_eq!((result.targets.len(), result.failed_count), (0, 1));
    let reason = "scrape interval 999ms is shorter than the job's least, 1s";
    assert_eq!(result.failed[0].reason, reason);
}

#[test]
fn what_is_no_target_fails_with_a_reason() {
    for (labels, address, reason) in [
        (&[][..], "", "no address"),
        (&[], "http://h:1", "holds a \"/\""),
        (
            &[("__scrape_interval__", "5")],
            "h:1",
            "label `__scrape_interval__`: \"5\" is not",
        ),
        (
            &[("__scrape_interval__", "0s")],
            "h:1",
            "label `__scrape_interval__` must not be 0",
        ),
        (
            &[("__scrape_timeout__", "0")],
            "h:1",
            "label `__scrape_timeout__` must not be 0",
        ),
        (
            &[("__scrape_timeout__", "2m")],
            "h:1",
            "scrape timeout 2m is longer than",
        ),
    ] {
        let result = targets(&job(""), &[group(labels, &[address])]);
        assert_eq!(result.failed_count, 1, "{address} {labels:?}");
        assert!(
            result.failed[0].reason.contains(reason),
            "{}",
            result.failed[0].reason
        );
        assert_eq!(result.failed[0].source, "s");
    }
}

#[test]
fn dropped_targets_are_counted_and_some_kept() {
    let yaml = "  keep_dropped_targets: 2\n  relabel_configs:
  - {source_labels: [__address__], regex: 'x.*', action: drop}\n";
    let result = targets(&job(yaml), &[group(&[], &["x1", "x2", "a", "x3"])]);
    assert_eq!(
        (
            result.targets.len(),
            result.dropped.len(),
            result.dropped_count
        ),
        (1, 2, 3)
    );
    assert_eq!(result.dropped[1].get(ADDRESS), "x2");
    assert_eq!(result.dropped[1].get("job"), "j");
}

#[test]
fn equal_targets_are_one_and_the_limit_counts_what_is_left() {
    let groups = [
        group(&[], &["h:1", "h:2"]),
        group(&[], &["h:1"]),
        group(&[("a", "")], &["h:2"]),
    ];
    let result = targets(&job("  target_limit: 2\n"), &groups);
    assert_eq!((result.targets.len(), result.duplicate_count), (2, 2));
    assert!(!result.target_limit_exceeded);
    let result = targets(&job("  target_limit: 1\n"), &groups);
    assert_eq!(result.targets.len(), 2);
    assert!(result.target_limit_exceeded);
    // One address under two paths is two targets.
    let groups = [
        group(&[("__metrics_path__", "/b")], &["h:1"]),
        group(&[], &["h:1"]),
    ];
    let result = targets(&job(""), &groups);
    assert_eq!(result.targets.len(), 2);
    assert_eq!(result.targets[0].labels, result.targets[1].labels);
}

#[test]
fn addresses_are_taken_apart() {
    for (address, host, port, authority) in [
        ("h:9100", "h", 9100, "h:9100"),
        ("h", "h", 80, "h"),
        ("h:", "h", 80, "h:"),
        ("10.0.0.1:80", "10.0.0.1", 80, "10.0.0.1:80"),
        ("[::1]:9100", "::1", 9100, "[::1]:9100"),
        ("[2001:db8::1]", "2001:db8::1", 80, "[2001:db8::1]"),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1, "[fe80::1]:1"),
        ("a_b.c-d:1", "a_b.c-d", 1, "a_b.c-d:1"),
        (
            "bücher.example:1",
            "xn--bcher-kva.example",
            1,
            "xn--bcher-kva.example:1",
        ),
    ] {
        let target = one("", &[], address);
        assert_eq!(target.blocked, None, "{address}");
        assert_eq!(target.labels.get("instance"), address);
        let url = &target.url;
        assert_eq!(
            (url.host.as_str(), url.port, url.authority.as_str()),
            (host, port, authority)
        );
    }
    for (address, reason) in [
        ("::1", "must stand in brackets"),
        ("::1:9100", "must stand in brackets"),
        ("[::1:9100", "not closed"),
        ("[h]:1", "not an IPv6 address"),
        ("[::1]9100", "no `:`"),
        ("h:http", "not a number"),
        ("h:65536", "above 65535"),
        (":80", "empty"),
        ("a b:1", "not valid"),
        ("u@h:1", "not valid"),
        ("h\r\nX: y", "not valid"),
        ("h\r\n", "not valid"),
        ("h?x", "not valid"),
        ("h#x", "not valid"),
    ] {
        let blocked = one("", &[], address).blocked.clone().unwrap_or_default();
        assert!(blocked.contains(reason), "{address:?}: {blocked}");
    }
    for scheme in ["https", "ftp"] {
        let target = one("", &[("__scheme__", scheme)], "h:1");
        assert!(
            target
                .blocked
                .as_ref()
                .is_some_and(|b| b.contains("not supported")),
            "{scheme}"
        );
        assert_eq!(target.scrape_url, format!("{scheme}://h:1/metrics"));
    }
}

#[test]
fn paths_and_queries_are_encoded_as_in_go() {
    for (path, encoded) in [
        ("/metrics", "/metrics"),
        ("metrics", "/metrics"),
        ("/a b?c#d%20", "/a%20b%3Fc%23d%2520"),
        ("/ä", "/%C3%A4"),
        (
            "/a:b@c,d;e=f&g+h$i!j*k'(l)",
            "/a:b@c,d;e=f&g+h$i%21j%2Ak%27%28l%29",
        ),
        ("/\r\nX", "/%0D%0AX"),
    ] {
        let target = one("", &[("__metrics_path__", path)], "h:1");
        assert_eq!(target.url.path_and_query, encoded);
        assert_eq!(target.scrape_url, format!("http://h:1{encoded}"));
    }
    let yaml = "  params: {z: [1], 'a b': ['x&y', 'ä+/?=~*'], e: ['']}\n";
    let target = one(yaml, &[], "h:1");
    assert_eq!(
        target.url.path_and_query,
        "/metrics?a+b=x%26y&a+b=%C3%A4%2B%2F%3F%3D~%2A&e=&z=1"
    );
    // An empty path is shown as it is and asked for as `/`.
    let target = one("  metrics_path: ''\n", &[], "h:1");
    assert_eq!(
        (
            target.scrape_url.as_str(),
            target.url.path_and_query.as_str()
        ),
        ("http://h:1", "/")
    );
}

#[test]
fn parameters_may_come_from_labels() {
    let yaml = "  params: {a: [1, 2], b: [3]}\n  relabel_configs:
  - {target_label: __param_a, replacement: x}
  - {target_label: __param_b, replacement: ''}
  - {target_label: __param_c, replacement: y}\n";
    let target = one(yaml, &[], "h:1");
    // A label that is gone leaves the configured value.
    assert_eq!(target.scrape_url, "http://h:1/metrics?a=x&a=2&b=3&c=y");
}

#[test]
fn keys_depend_on_labels_and_url_only() {
    let key = |yaml: &str, labels: &[(&str, &str)]| one(yaml, labels, "h:1").key;
    let plain = key("", &[]);
    assert_eq!(
        plain,
        key(
            "  sample_limit: 5\n  scrape_interval: 7s\n",
            &[("__meta_a", "1")]
        )
    );
    assert_ne!(plain, key("", &[("a", "1")]));
    assert_ne!(plain, key("  metrics_path: /x\n", &[]));
    let labels = [("instance", "h:1"), ("job", "j")];
    assert_eq!(plain, TargetKey::new("j", "http://h:1/metrics", labels));
}

#[test]
fn replicas_differ_in_their_label_place_and_slots() {
    let yaml = "  scrape_interval: 30s
  clustering: {replication_factor: 3, replica_label: __replica__}
";
    let built = |more: &str, addresses: &[&str]| {
        let labels = [("__replica__", "own"), ("a", "1")];
        targets(&job(&format!("{yaml}{more}")), &[group(&labels, addresses)])
    };
    let all = built("", &["h:1", "h:1"]);
    assert_eq!((all.targets.len(), all.duplicate_count), (3, 1));
    let alone = one("  scrape_interval: 30s\n", &[("a", "1")], "h:1");
    for (index, target) in all.targets.iter().enumerate() {
        let labels = format!("__replica__={index} a=1 instance=h:1 job=j");
        assert_eq!(show(&target.labels), labels);
        assert_eq!(
            target.key,
            TargetKey::new("j", "http://h:1/metrics", target.labels.iter())
        );
        assert_eq!(target.common_key, alone.key);
        assert_eq!(target.spot.place(), alone.spot.place());
        let replica = target.spot.replica;
        assert_eq!((usize::from(replica.index), replica.count), (index, 3));
        let later_ms =
            target.slots().next_ms(alone.slots().time_ms(100)) - alone.slots().time_ms(100);
        let grid_ms = 2 * ringscrape_cluster::slot::GRID_MS_MAX as i64;
        assert!(
            (later_ms - index as i64 * 10_000).abs() <= grid_ms,
            "{later_ms}"
        );
    }
    assert_eq!(all.targets[0].slots(), alone.slots());
    // A target counts once.
    assert!(!built("  target_limit: 2\n", &["h:1", "h:2"]).target_limit_exceeded);
    assert!(built("  target_limit: 2\n", &["h:1", "h:2", "h:3"]).target_limit_exceeded);
    // One replica with a label: its series are the same when there are more of them.
    let one = one(
        "  clustering: {replica_label: __replica__}\n",
        &[("a", "1")],
        "h:1",
    );
    assert_eq!(
        (one.key, &one.labels),
        (all.targets[0].key, &all.targets[0].labels)
    );
}
