//! A scrape -> time to write it as a remote write 1.0 request and to compress that, beside what the
//! memory alone costs: a copy of the request.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringscrape_engine::remote_write::encode::{Options, TargetLabels, encode, positions};
use ringscrape_micro::{Logged, kube_like, node_like};

const SAMPLES: usize = 1_000;

fn encode_benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for (name, body) in [
        ("node", node_like(SAMPLES, 1)),
        ("kube", kube_like(SAMPLES, 1)),
    ] {
        let logged = Logged::new(&body);
        let scrape = logged.scrape(&body, 1_700_000_000_000);
        let target = TargetLabels::new(logged.target());
        let range = 0..positions(&scrape);
        group.throughput(Throughput::Elements(u64::from(range.end)));
        let mut request = Vec::new();
        group.bench_function(format!("{name}/write"), |bench| {
            bench.iter(|| {
                request.clear();
                let options = Options::default();
                let counts = encode(
                    &mut request,
                    black_box(&scrape),
                    &target,
                    range.clone(),
                    options,
                    |_| None,
                );
                assert_eq!(counts.samples, range.end);
            });
        });
        let mut compressed = vec![0; snap::raw::max_compress_len(request.len())];
        let mut encoder = snap::raw::Encoder::new();
        group.bench_function(format!("{name}/snappy"), |bench| {
            bench.iter(|| encoder.compress(black_box(&request), &mut compressed));
        });
        let mut copy = vec![0; request.len()];
        group.bench_function(format!("{name}/copy"), |bench| {
            bench.iter(|| {
                copy.copy_from_slice(black_box(&request));
                black_box(copy[0])
            });
        });
    }
    group.finish();
}

criterion_group!(benches, encode_benches);
criterion_main!(benches);
