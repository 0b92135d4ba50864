//! Ten thousand stored configurations -> time of a put, a list and a change of the members, on one
//! core: each has to stay below 100 ms.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ringscrape_engine::ConfigTrial;

const CONFIGS: usize = 10_000;
const TARGETS_OF_EACH: usize = 5;

fn configs(c: &mut Criterion) {
    let mut group = c.benchmark_group("configs");
    let mut trial = ConfigTrial::new(CONFIGS, TARGETS_OF_EACH, 1);
    let mut index = 0;
    group.bench_function("put", |b| {
        b.iter(|| {
            index = (index + 7_919) % CONFIGS;
            black_box(trial.put(index))
        });
    });
    group.bench_function("list", |b| b.iter(|| black_box(trial.list())));
    let mut nodes = 10;
    trial.reshard(nodes);
    group.bench_function("reshard", |b| {
        b.iter(|| {
            nodes = 21 - nodes;
            black_box(trial.reshard(nodes))
        });
    });
    group.finish();
}

criterion_group!(benches, configs);
criterion_main!(benches);
