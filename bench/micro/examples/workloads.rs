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

use ringscrape_engine::config::model::ScrapeRules;
use ringscrape_engine::fetch::inflate::Gunzip;
use ringscrape_engine::matcher::Tables;
use ringscrape_engine::parse::Dialect;
use ringscrape_engine::relabel::Rules;
use ringscrape_engine::remote_write::construct::Template;
use ringscrape_engine::remote_write::edits::{Edits, EditsBuilder};
use ringscrape_engine::remote_write::encode::{Options, TargetLabels, positions};
use ringscrape_engine::remote_write::request::{Compression, Compressor, OpenRequest};
use ringscrape_engine::scrape::{Report, TargetState, Walk};
use ringscrape_micro::{Logged, kube_like, node_like};
use ringscrape_wal::definition::{Target, next_id};
use ringscrape_wal::log::{LogOptions, ShardLog, Write};
use ringscrape_wal::scrape::{Position, Scrape};

const SAMPLES: usize = 1_000;
const START_MS: i64 = 1_700_000_000_000;

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

/// A target, scraped again and again.
struct Scraper {
    tables: Tables,
    state: TargetState,
    timestamp_ms: i64,
}

impl Scraper {
    fn new() -> Self {
        let labels = [("instance", "node-0042.example:9100"), ("job", "node")];
        let target = Target {
            id: next_id(),
            key: 1,
            labels: Box::new(labels.map(|(name, value)| (name.into(), value.into()))),
        };
        Self {
            tables: Tables::new(),
            state: TargetState::new(Arc::new(target), Arc::new(rules())),
            timestamp_ms: START_MS,
        }
    }

    fn scrape(&mut self, body: &str) {
        self.timestamp_ms += 15_000;
        let report = Report {
            timestamp_ms: self.timestamp_ms,
            now_ms: self.timestamp_ms,
            duration_s: 0.01,
            timeout_s: 10.0,
            body_bytes: body.len() as u64,
        };
        let mut walk = Walk::begin(&mut self.tables, &self.state, Dialect::Text);
        walk.feed(body.as_bytes(), true)
            .expect("BUG: the body is fine");
        let outcome = walk.finish(&mut self.tables, &mut self.state, &report);
        black_box(&outcome.values);
    }
}

fn rules() -> ScrapeRules {
    ScrapeRules {
        honor_labels: false,
        honor_timestamps: true,
        track_timestamps_staleness: false,
        metric_relabel_configs: Rules::default(),
        sample_limit: 0,
        label_limit: 0,
        label_name_length_limit: 0,
        label_value_length_limit: 0,
        body_size_limit_bytes: 0,
        extra_scrape_metrics: false,
        enable_compression: true,
        follow_redirects: true,
        scrape_protocols: Vec::new(),
        fallback_scrape_protocol: None,
    }
}

fn lines(body: &str) -> u32 {
    body.lines().filter(|line| !line.starts_with('#')).count() as u32
}

/// `body` with every 20th sample's first label value changed, from line `first` on.
fn churned(body: &str, first: usize) -> String {
    let mut samples = 0;
    let mut out = String::with_capacity(body.len() * 2);
    for line in body.lines() {
        samples += usize::from(!line.starts_with('#'));
        if !line.starts_with('#') && samples % 20 == first {
            out += &line.replacen("=\"", "=\"churned-", 1);
        } else {
            out += line;
        }
        out.push('\n');
    }
    out
}

fn matching(runs: u32, bodies: &[String; 2]) -> u32 {
    let mut scraper = Scraper::new();
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
        Scraper::new().scrape(black_box(&body));
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
    let options = LogOptions {
        tail_bytes_max: 4 << 20,
        ..LogOptions::default()
    };
    let mut log = ShardLog::new(options, 1);
    for (now_ms, scrape) in (0..i64::from(runs)).zip(scrapes.iter().cycle()) {
        log.append(black_box(scrape.clone()), now_ms);
        if log.pending_bytes() > 1 << 20 {
            write(&mut log, now_ms);
        }
    }
    first.values.len() as u32
}

/// Takes what the log wants written and says that it is.
fn write(log: &mut ShardLog, now_ms: i64) {
    for write in log.take_writes(now_ms) {
        if let Write::Bytes {
            segment,
            offset,
            bytes,
        } = write
        {
            let end = Position {
                segment,
                offset: offset + black_box(bytes).len() as u32,
            };
            log.written(end);
            log.synced(end);
        }
    }
}

fn encode_and_compress(runs: u32) -> u32 {
    let (logged, scrape) = logged();
    let target = TargetLabels::new(logged.target());
    let range = 0..positions(&scrape);
    let mut request = OpenRequest::new(Compression::Zstd);
    let mut compressor = Compressor::new();
    let edits: Vec<(u64, Arc<Edits>)> = edits_of(&scrape);
    for _ in 0..runs {
        request.encode(
            black_box(&scrape),
            &target,
            range.clone(),
            Options::default(),
            |block| Template {
                block: None,
                edits: edits
                    .iter()
                    .find(|(id, _)| *id == block.id)
                    .map(|(_, edits)| edits.clone()),
            },
        );
        black_box(request.finish(&mut compressor));
    }
    range.end
}

/// The edits that a sender keeps of the blocks that targets share.
fn edits_of(scrape: &Scrape) -> Vec<(u64, Arc<Edits>)> {
    let mut builder = EditsBuilder::default();
    let blocks = scrape.layout.runs.iter().map(|run| &run.block);
    blocks
        .filter_map(|block| {
            let edits = Edits::new(block, &mut builder).ok()?;
            Some((block.id, Arc::new(edits)))
        })
        .collect()
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
