//! Targets with replicas -> who owns each, and why.

use super::*;

#[test]
fn replicas_are_told_apart() {
    let replicated = || {
        let text = "scrape_configs:\n- job_name: node\n  clustering: {replication_factor: 3, \
                    replica_label: replica}\n";
        let config = Config::parse(Path::new("c.yml"), text, &|_| None).unwrap();
        let group = crate::discovery::TargetGroup {
            source: "s".into(),
            targets: vec![Labels::from_pairs([("__address__", "10.0.0.1:9100")])],
            labels: Labels::default(),
        };
        targets(&config.scrape_configs[0], &[Arc::new(group)]).targets
    };
    let said = |timeline: Option<Arc<Timeline>>| {
        let mut fleet = fleet(timeline, 0);
        fleet.targets = replicated();
        let query = TargetQuery::parse("http://10.0.0.1:9100/metrics").unwrap();
        owners(&mut fleet, &query, None).unwrap().owners
    };
    let of_two = said(Some(Arc::new(Timeline::new(
        "a".into(),
        vec![(0, plain(&["a", "b"]))],
    ))));
    let numbers: Vec<&str> = of_two.iter().map(|one| &*one.labels["replica"]).collect();
    assert_eq!(numbers, ["0", "1", "2"]);
    let owners: BTreeSet<&str> = of_two[..2]
        .iter()
        .filter_map(|one| one.owner.as_deref())
        .collect();
    assert_eq!(owners, BTreeSet::from(["a", "b"]));
    assert!(
        of_two[1].why.starts_with("replica 1 (of 3): of 2 members"),
        "{}",
        of_two[1].why
    );
    assert_eq!(of_two[2].owner, None);
    assert_eq!(
        of_two[2].why,
        "replica 2 (of 3): each active member that has job node and a weight has another replica; \
         it waits for one more"
    );
    let alone = said(None);
    let owners: Vec<Option<&str>> = alone.iter().map(|one| one.owner.as_deref()).collect();
    assert_eq!(owners, [Some("a"), None, None]);
    assert!(
        alone[1]
            .why
            .contains("runs without a cluster: it scrapes replica 0")
    );
}
