//! Ten thousand stored configurations -> time of a put, of lists and of a change of the members, on
//! one core: each has to stay below 100 ms.
//!
//! A put is the whole way of a request but for HTTP and the store's disk or network. `rebuild` is
//! what a reload costs, and what each put would if all was planned anew. `first put` is the one
//! after all 10,000 were stored at once, which this node has taken over.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ringscrape_engine::ConfigTrial;

const CONFIGS: usize = 10_000;
const TARGETS_OF_EACH: usize = 5;

fn configs(c: &mut Criterion) {
    let mut group = c.benchmark_group("configs");
    group.sample_size(10);
    let fresh = || ConfigTrial::new(CONFIGS, TARGETS_OF_EACH, 1);
    group.bench_function("first put", |b| {
        b.iter_batched_ref(
            fresh,
            |trial| black_box(trial.put(0)),
            BatchSize::PerIteration,
        );
    });
    let mut trial = fresh();
    let mut index = 0;
    group.bench_function("put", |b| {
        b.iter(|| {
            index = (index + 7_919) % CONFIGS;
            black_box(trial.put(index))
        });
    });
    group.bench_function("rebuild", |b| b.iter(|| black_box(trial.rebuild())));
    group.bench_function("list", |b| b.iter(|| black_box(trial.list())));
    group.bench_function("page", |b| b.iter(|| black_box(trial.page())));
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
