//! Scrapes -> time to make them a compressed remote write 1.0 request, by construction and by
//! searching, or a 2.0 request, beside what the memory alone costs: a copy of the request.
//!
//! The sizes are printed once, in bytes a sample.

use std::hint::black_box;
use std::sync::Arc;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use ringscrape_engine::remote_write::construct::Template;
use ringscrape_engine::remote_write::encode::{Options, TargetLabels, encode, positions};
use ringscrape_engine::remote_write::metadata::Metadata;
use ringscrape_engine::remote_write::references::References;
use ringscrape_engine::remote_write::request::{Compression, Compressor, Form, OpenRequest};
use ringscrape_micro::{KeptEdits, Logged, START_MS, kube_like, node_like};
use ringscrape_wal::scrape::Scrape;

const SAMPLES: usize = 1_000;
/// Scrapes in a request, each of a target of its own.
const SCRAPES: u32 = 10;

/// Scrapes of targets of one program, as a request gathers them.
struct Batch {
    scrapes: Vec<(Arc<Scrape>, TargetLabels)>,
    edits: KeptEdits,
    references: Vec<(u64, Arc<References>)>,
    samples: u32,
}

impl Batch {
    fn new(body: &str) -> Self {
        let logged = Logged::new(body);
        let first = logged.scrape(body, START_MS);
        let scrapes: Vec<_> = (0..SCRAPES)
            .map(|number| {
                let scrape = logged.of_another(&first, number);
                let labels = TargetLabels::new(&scrape.target);
                (scrape, labels)
            })
            .collect();
        let mut metadata = Metadata::default();
        metadata.observe(&first.layout);
        let runs = first.layout.runs.iter();
        let references = runs.map(|run| {
            let family = |name: &str| metadata.family(&run.block.families, name);
            let references = References::new(&run.block, family).expect("BUG: an odd block");
            (run.block.id, Arc::new(references))
        });
        Self {
            references: references.collect(),
            edits: KeptEdits::new(&first),
            samples: SCRAPES * positions(&first),
            scrapes,
        }
    }

    fn plain(&self, request: &mut Vec<u8>) {
        request.clear();
        for (scrape, labels) in &self.scrapes {
            let options = Options::default();
            encode(
                request,
                scrape,
                labels,
                0..positions(scrape),
                options,
                |_| None,
            );
        }
    }

    fn number(&self, request: &mut OpenRequest) {
        for (scrape, labels) in &self.scrapes {
            let options = Options::default();
            request.encode(scrape, labels, 0..positions(scrape), options, |block| {
                let found = self.references.iter().find(|(id, _)| *id == block.id);
                Template {
                    references: found.map(|(_, references)| references.clone()),
                    ..Template::default()
                }
            });
        }
    }

    fn construct(&self, request: &mut OpenRequest, kept: bool) {
        for (scrape, labels) in &self.scrapes {
            let options = Options::default();
            request.encode(
                scrape,
                labels,
                0..positions(scrape),
                options,
                |block| match kept {
                    true => self.edits.template(block),
                    false => Template::default(),
                },
            );
        }
    }
}

/// Requests of version 2.0: with the symbols of the request before, and without.
fn second(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    batch: &Batch,
    compression: Compression,
    compressor: &mut Compressor,
) {
    let form = compression.name();
    let mut request = OpenRequest::new(Form::v2(compression));
    group.bench_function(format!("{name}/2.0 {form}"), |bench| {
        bench.iter(|| {
            batch.number(&mut request);
            request.finish(compressor)
        });
    });
    group.bench_function(format!("{name}/2.0 new symbols {form}"), |bench| {
        bench.iter(|| {
            request.clear();
            batch.number(&mut request);
            request.finish(compressor)
        });
    });
    request.clear();
    batch.number(&mut request);
    let each = |len: usize| len as f64 / f64::from(batch.samples);
    let raw_len = each(request.raw_len());
    eprintln!("encode/{name}/2.0 write: {raw_len:.2} bytes a sample");
    let len = each(request.finish(compressor).len());
    eprintln!("encode/{name}/2.0 {form}: {len:.2} bytes a sample");
}

fn encode_benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    let mut compressor = Compressor::new();
    for (name, body) in [
        ("node", node_like(SAMPLES, 1)),
        ("kube", kube_like(SAMPLES, 1)),
    ] {
        let batch = Batch::new(&body);
        group.throughput(Throughput::Elements(u64::from(batch.samples)));
        let mut plain = Vec::new();
        group.bench_function(format!("{name}/write"), |bench| {
            bench.iter(|| batch.plain(black_box(&mut plain)));
        });
        batch.plain(&mut plain);
        let size = |form: &str, len: usize| {
            let each = len as f64 / f64::from(batch.samples);
            eprintln!("encode/{name}/{form}: {each:.2} bytes a sample");
        };
        size("write", plain.len());
        for compression in [Compression::Snappy, Compression::Zstd] {
            let form = compression.name();
            let mut request = OpenRequest::new(Form::v1(compression));
            group.bench_function(format!("{name}/construct only {form}"), |bench| {
                bench.iter(|| {
                    batch.construct(&mut request, true);
                    request.clear();
                });
            });
            for (kept, label) in [(true, "construct"), (false, "construct unkept")] {
                let label = format!("{label} {form}");
                group.bench_function(format!("{name}/{label}"), |bench| {
                    bench.iter(|| {
                        batch.construct(&mut request, kept);
                        request.finish(&mut compressor)
                    });
                });
                batch.construct(&mut request, kept);
                size(&label, request.finish(&mut compressor).len());
            }
        }
        for compression in [Compression::Snappy, Compression::Zstd] {
            second(&mut group, name, &batch, compression, &mut compressor);
        }
        group.bench_function(format!("{name}/search snappy"), |bench| {
            bench.iter(|| compressor.compress(black_box(&plain), Compression::Snappy));
        });
        let len = compressor.compress(&plain, Compression::Snappy).len();
        size("search snappy", len);
        for level in [-1, 1] {
            let mut context = zstd::bulk::Compressor::new(level).expect("BUG: a level of zstd");
            let label = format!("search zstd {level}");
            group.bench_function(format!("{name}/{label}"), |bench| {
                bench.iter(|| context.compress(black_box(&plain)));
            });
            let len = context.compress(&plain).map_or(0, |body| body.len());
            size(&label, len);
        }
        let mut copy = vec![0; plain.len()];
        group.bench_function(format!("{name}/copy"), |bench| {
            bench.iter(|| {
                copy.copy_from_slice(black_box(&plain));
                black_box(copy[0])
            });
        });
    }
    group.finish();
}

criterion_group!(benches, encode_benches);
criterion_main!(benches);
