//! Scrapes of one target -> time to append them to a shard's log, writes to files left out, beside
//! what the memory alone costs: a copy of the values. `steady`: values as counters and gauges move;
//! `random`: no value has anything to do with the one before.

use std::hint::black_box;
use std::sync::Arc;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use ringscrape_micro::{Logged, START_MS, kube_like, log_without_files, node_like, write_pending};
use ringscrape_wal::scrape::Scrape;

const SAMPLES: usize = 1_000;
const SCRAPES: u32 = 32;
/// Number of samples and seed -> a body.
type Body = fn(usize, u64) -> String;

/// Appends the scrapes one after the other, again and again.
fn append(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, scrapes: &[Arc<Scrape>]) {
    let mut log = log_without_files();
    let mut next = 0;
    group.bench_function(name, |bench| {
        bench.iter(|| {
            let scrape = scrapes[next % scrapes.len()].clone();
            next += 1;
            let now_ms = next as i64;
            let position = log.append(black_box(scrape), now_ms);
            write_pending(&mut log, now_ms);
            position
        });
    });
}

fn wal_append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wal_append");
    let bodies: [(&str, Body); 2] = [("node", node_like), ("kube", kube_like)];
    for (name, body) in bodies {
        let logged = Logged::new(&body(SAMPLES, 1));
        let first = logged.scrape(&body(SAMPLES, 1), START_MS);
        group.throughput(Throughput::Elements(first.values.len() as u64));
        let steady: Vec<_> = (0..SCRAPES)
            .map(|step| logged.later(&first, step))
            .collect();
        append(&mut group, &format!("{name}/steady"), &steady);
        let random = |seed: u32| logged.scrape(&body(SAMPLES, 1 + u64::from(seed) * 2), 0);
        let random: Vec<_> = (0..SCRAPES).map(random).collect();
        append(&mut group, &format!("{name}/random"), &random);
        let mut copy = vec![0.0; first.values.len()];
        group.bench_function(format!("{name}/copy"), |bench| {
            bench.iter(|| {
                copy.copy_from_slice(black_box(&first.values));
                black_box(copy[0])
            });
        });
    }
    group.finish();
}

criterion_group!(benches, wal_append);
criterion_main!(benches);
