//! Bodies -> time per body of the slow parser and of the number reader, beside what the memory
//! alone costs: a copy of the body and a scan for its newlines.

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use ringscrape_engine::labels::LabelsBuilder;
use ringscrape_engine::parse::{
    Dialect, Next, Piece, kind_in_force, next_piece, plain_value, series_labels,
};
use ringscrape_micro::{kube_like, node_like};
use ringscrape_wal::definition::FamilyKind;

const SAMPLES: usize = 1_000;

fn pieces(dialect: Dialect, body: &[u8], mut each: impl FnMut(&Piece<'_>)) -> usize {
    let (mut at, mut count) = (0, 0);
    loop {
        match next_piece(dialect, &body[at..], true) {
            Ok(Next::Sample(piece)) => {
                each(&piece);
                at += piece.len;
                count += 1;
            }
            Ok(Next::End { .. }) => return count,
            other => panic!("BUG: a generated body is {other:?}"),
        }
    }
}

/// The rests of the lines from the value on.
fn values(body: &[u8]) -> Vec<&[u8]> {
    let mut values = Vec::new();
    let mut at = 0;
    while let Ok(Next::Sample(piece)) = next_piece(Dialect::Text, &body[at..], true) {
        values.push(&body[at + piece.prefix.len()..]);
        at += piece.len;
    }
    values
}

fn body_benches(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, text: &str) {
    let openmetrics = format!("{text}# EOF\n");
    let body = text.as_bytes();
    let count = pieces(Dialect::Text, body, |_| ());
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function(format!("{name}/text"), |bench| {
        bench.iter(|| {
            pieces(Dialect::Text, black_box(body), |piece| {
                black_box(piece.len);
            })
        });
    });
    group.bench_function(format!("{name}/openmetrics"), |bench| {
        let body = openmetrics.as_bytes();
        bench.iter(|| {
            pieces(Dialect::OpenMetrics, black_box(body), |piece| {
                black_box(piece.len);
            })
        });
    });
    group.bench_function(format!("{name}/text_and_labels"), |bench| {
        let mut labels = LabelsBuilder::new();
        bench.iter(|| {
            let mut kind = FamilyKind::Unknown;
            pieces(Dialect::Text, black_box(body), |piece| {
                kind = kind_in_force(Dialect::Text, piece.prefix, kind);
                series_labels(Dialect::Text, piece.series, kind, &mut labels)
                    .expect("BUG: generated labels are fine");
                black_box(labels.len());
            })
        });
    });
    let values = values(body);
    group.bench_function(format!("{name}/plain_value"), |bench| {
        bench.iter(|| {
            let read = |rest: &&[u8]| plain_value(rest).map_or(0.0, |(value, _)| value);
            black_box(&values).iter().map(read).sum::<f64>()
        });
    });
    group.bench_function(format!("{name}/newlines"), |bench| {
        bench.iter(|| memchr::memchr_iter(b'\n', black_box(body)).count());
    });
    let mut copy = vec![0; body.len()];
    group.bench_function(format!("{name}/copy"), |bench| {
        bench.iter(|| {
            copy.copy_from_slice(black_box(body));
            black_box(copy[0])
        });
    });
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    body_benches(&mut group, "node", &node_like(SAMPLES, 1));
    body_benches(&mut group, "kube", &kube_like(SAMPLES, 1));
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
