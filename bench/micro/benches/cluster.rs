//! Members of a cluster, and targets -> time to find out who owns what, as after each change of the
//! cluster: the views made anew and every target looked up.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringscrape_cluster::member::{JobId, JobVersion, Stage};
use ringscrape_cluster::view::{Active, View};
use ringscrape_cluster::{TargetKey, Timeline};

const NODES: usize = 20;
const TARGETS: usize = 100_000;
const JOBS: u64 = 10;
const CONFIG_HASH: u64 = 7;
const NOW_MS: i64 = 1_700_000_000_000;

fn members(nodes: usize) -> Vec<Active> {
    let job = |number| JobVersion {
        job: JobId(number),
        config_hash: CONFIG_HASH,
        since_ms: 0,
    };
    let jobs: Arc<[JobVersion]> = (1..=JOBS).map(job).collect();
    let active = |node| Active {
        name: Arc::from(format!("node-{node}")),
        zone: Arc::from(""),
        stage: Stage {
            from_ms: 0,
            is_active: true,
            weight: 1,
            jobs: jobs.clone(),
            heavy: [].into(),
        },
    };
    (0..nodes).map(active).collect()
}

/// How many targets `node-3` owns, or will.
fn owned(timeline: &Timeline, targets: &[Vec<TargetKey>]) -> usize {
    let of_job = |(job, keys): (u64, &Vec<TargetKey>)| {
        let timeline = timeline.of_job(JobId(job));
        let windows = keys
            .iter()
            .map(|key| timeline.window(CONFIG_HASH, *key, NOW_MS));
        windows.flatten().count()
    };
    (1..).zip(targets).map(of_job).sum()
}

fn ownership(c: &mut Criterion) {
    let targets: Vec<Vec<TargetKey>> = (1..=JOBS)
        .map(|job| {
            let url = |n| format!("http://10.0.0.{n}:9100/metrics");
            let key = |n: usize| TargetKey::new(&job.to_string(), &url(n), []);
            (0..TARGETS / JOBS as usize).map(key).collect()
        })
        .collect();
    let mut group = c.benchmark_group("ownership");
    group.throughput(Throughput::Elements(TARGETS as u64));
    group.bench_function("100k_targets_20_nodes", |b| {
        b.iter(|| {
            let view = Arc::new(View::new(members(NODES)));
            let timeline = Timeline::new("node-3".into(), vec![(i64::MIN, view)]);
            black_box(owned(&timeline, &targets))
        });
    });
    group.bench_function("100k_targets_20_nodes_and_one_joins", |b| {
        b.iter(|| {
            let before = Arc::new(View::new(members(NODES)));
            let after = Arc::new(View::new(members(NODES + 1)));
            let views = vec![(i64::MIN, before), (NOW_MS + 3_000, after)];
            let timeline = Timeline::new("node-3".into(), views);
            black_box(owned(&timeline, &targets))
        });
    });
    group.finish();
}

criterion_group!(benches, ownership);
criterion_main!(benches);
