//! The name of a workload and how often to run it -> that work, and how many samples one run has.
//!
//! For tools that count instructions (`cargo xtask instructions`): the input is the same on every
//! run, nothing depends on time, and what setting up takes cancels out between two counts.

// The helpers are tools of a benchmark: an input that does not fit is a bug.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use ringscrape_engine::fetch::inflate::Gunzip;
use ringscrape_engine::remote_write::encode::{Options, TargetLabels, positions};
use ringscrape_engine::remote_write::request::{Compression, Compressor, Form, OpenRequest};
use ringscrape_micro::{
    KeptEdits, Logged, START_MS, Scraper, churned, kube_like, log_without_files, node_like,
    write_pending,
};
use ringscrape_wal::scrape::Scrape;

const SAMPLES: usize = 1_000;

/// Runs so often; gives the samples of one run.
type Workload = fn(u32) -> u32;

const WORKLOADS: &[(&str, Workload)] = &[
    ("match_node", |runs| {
        matching(runs, &[node_like(SAMPLES, 1), node_like(SAMPLES, 99)])
    }),
    ("match_kube", |runs| {
        matching(runs, &[kube_like(SAMPLES, 1), kube_like(SAMPLES, 99)])
    }),
    ("match_churn", |runs| {
        let (one, two) = (node_like(SAMPLES, 1), node_like(SAMPLES, 99));
        matching(runs, &[churned(&one, 3), churned(&two, 11)])
    }),
    ("first_scrape", first_scrape),
    ("log_append", log_append),
    ("encode_and_compress", encode_and_compress),
    ("inflate", inflate),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (name, runs) = match words.as_slice() {
        [] => {
            for (name, _) in WORKLOADS {
                println!("{name}");
            }
            return ExitCode::SUCCESS;
        }
        [name, runs] => (name, runs.parse()),
        _ => return ExitCode::from(2),
    };
    let workload = WORKLOADS.iter().find(|(known, _)| known == name);
    let (Some((_, workload)), Ok(runs)) = (workload, runs) else {
        return ExitCode::from(2);
    };
    println!("{}", workload(runs));
    ExitCode::SUCCESS
}

fn lines(body: &str) -> u32 {
    body.lines().filter(|line| !line.starts_with('#')).count() as u32
}

fn matching(runs: u32, bodies: &[String; 2]) -> u32 {
    let mut scraper = Scraper::default();
    for body in bodies {
        scraper.scrape(body);
    }
    for body in bodies.iter().cycle().take(runs as usize) {
        scraper.scrape(black_box(body));
    }
    lines(&bodies[0])
}

fn first_scrape(runs: u32) -> u32 {
    let body = node_like(SAMPLES, 1);
    for _ in 0..runs {
        Scraper::default().scrape(black_box(&body));
    }
    lines(&body)
}

fn logged() -> (Logged, Arc<Scrape>) {
    let body = node_like(SAMPLES, 1);
    let logged = Logged::new(&body);
    let scrape = logged.scrape(&body, START_MS);
    (logged, scrape)
}

fn log_append(runs: u32) -> u32 {
    let (logged, first) = logged();
    let scrapes: Vec<_> = (0..32).map(|step| logged.later(&first, step)).collect();
    let mut log = log_without_files();
    for (now_ms, scrape) in (0..i64::from(runs)).zip(scrapes.iter().cycle()) {
        log.append(black_box(scrape.clone()), now_ms);
        write_pending(&mut log, now_ms);
    }
    first.values.len() as u32
}

fn encode_and_compress(runs: u32) -> u32 {
    let (logged, scrape) = logged();
    let target = TargetLabels::new(logged.target());
    let range = 0..positions(&scrape);
    let mut request = OpenRequest::new(Form::v1(Compression::Zstd));
    let mut compressor = Compressor::new();
    let edits = KeptEdits::new(&scrape);
    for _ in 0..runs {
        request.encode(
            black_box(&scrape),
            &target,
            range.clone(),
            Options::default(),
            |block| edits.template(block),
        );
        black_box(request.finish(&mut compressor));
    }
    range.end
}

fn inflate(runs: u32) -> u32 {
    let body = node_like(SAMPLES, 1);
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    writer
        .write_all(body.as_bytes())
        .expect("BUG: memory takes all");
    let gzip = writer.finish().expect("BUG: memory takes all");
    let mut plain = vec![0; body.len() + 1];
    let mut gunzip = Gunzip::default();
    for _ in 0..runs {
        gunzip.reset();
        let progress = gunzip.inflate(black_box(&gzip), &mut plain);
        assert_eq!(
            progress.map(|it| it.written),
            Ok(body.len()),
            "BUG: other content"
        );
    }
    lines(&body)
}
