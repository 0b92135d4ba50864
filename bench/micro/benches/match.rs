//! Bodies of a known target -> time per scrape: all lines known (`steady`), a twentieth of them new
//! each time (`churn_5_percent`), none known (`first`), none known of this target but all of
//! another one (`first_replica`); many targets in turn, so that nothing of them is in the caches,
//! each like the others (`cold_like`) or with text of its own (`cold_unlike`); beside the least
//! that a match must do (`floor`): compare the text and read the numbers.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringscrape_engine::config::model::ScrapeRules;
use ringscrape_engine::matcher::Tables;
use ringscrape_engine::parse::{Dialect, Next, next_piece, plain_value};
use ringscrape_engine::relabel::Rules;
use ringscrape_engine::scrape::{Report, TargetState, Walk};
use ringscrape_micro::{kube_like, node_like};
use ringscrape_wal::definition::{Target, next_id};

const SAMPLES: usize = 1_000;
const LIKE_TARGETS: usize = 1_000;
const UNLIKE_TARGETS: usize = 200;
/// Rounds until text that is not shared has been given up.
const WARM_ROUNDS: usize = 12;

/// The prefixes of a body, one after the other, and where each ends.
fn prefixes(body: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let (mut text, mut ends) = (Vec::new(), Vec::new());
    let mut rest = body;
    while let Ok(Next::Sample(piece)) = next_piece(Dialect::Text, rest, true) {
        text.extend_from_slice(piece.prefix);
        ends.push(text.len());
        rest = &rest[piece.len..];
    }
    (text, ends)
}

/// Walks `body` along known prefixes; gives the sum of its values.
fn walk(text: &[u8], ends: &[usize], body: &[u8]) -> Option<f64> {
    let (mut start, mut at, mut sum) = (0, 0, 0.0);
    for &end in ends {
        let prefix = &text[start..end];
        if !body.get(at..)?.starts_with(prefix) {
            return None;
        }
        at += prefix.len();
        let (value, used) = plain_value(&body[at..])?;
        at += used;
        sum += value;
        start = end;
    }
    Some(sum)
}

/// Two scrapes of a target, in turn.
struct Scraper {
    tables: Tables,
    state: TargetState,
    scrapes: i64,
}

impl Scraper {
    fn new() -> Self {
        Self {
            tables: Tables::new(),
            state: state(),
            scrapes: 0,
        }
    }

    /// One scrape of `body`; gives how many lines took the fast path.
    fn scrape(&mut self, body: &str) -> u32 {
        self.scrapes += 1;
        let timestamp_ms = 1_700_000_000_000 + 15_000 * self.scrapes;
        let report = Report {
            timestamp_ms,
            now_ms: timestamp_ms,
            duration_s: 0.01,
            timeout_s: 10.0,
            body_bytes: body.len() as u64,
        };
        let mut walk = Walk::begin(&mut self.tables, &self.state, Dialect::Text);
        walk.feed(body.as_bytes(), true)
            .expect("BUG: the body is fine");
        let outcome = walk.finish(&mut self.tables, &mut self.state, &report);
        black_box(&outcome.values);
        outcome.stats.matched
    }
}

/// A target that was never scraped.
fn state() -> TargetState {
    let labels = [("instance", "node-0042.example:9100"), ("job", "node")];
    let target = Target {
        id: next_id(),
        key: 1,
        labels: Box::new(labels.map(|(name, value)| (name.into(), value.into()))),
    };
    TargetState::new(Arc::new(target), Arc::new(rules()))
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

/// `body` with every 20th sample's first label value changed, from line `first` on.
fn churned(body: &str, first: usize) -> String {
    let mut samples = 0;
    let mut out = String::with_capacity(body.len() * 2);
    for line in body.lines() {
        if !line.starts_with('#') {
            samples += 1;
            if samples % 20 == first {
                out += &line.replacen("=\"", "=\"churned-", 1);
                out.push('\n');
                continue;
            }
        }
        out += line;
        out.push('\n');
    }
    out
}

fn match_benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("match");
    for (name, one, two) in [
        ("node", node_like(SAMPLES, 1), node_like(SAMPLES, 99)),
        ("kube", kube_like(SAMPLES, 1), kube_like(SAMPLES, 99)),
    ] {
        let (text, ends) = prefixes(one.as_bytes());
        group.throughput(Throughput::Elements(ends.len() as u64));
        group.bench_function(format!("{name}/steady"), |bench| {
            let mut scraper = Scraper::new();
            scraper.scrape(&one);
            let matched = scraper.scrape(&two);
            assert_eq!(matched as usize, ends.len(), "all lines match");
            let mut bodies = [&one, &two].into_iter().cycle();
            bench.iter(|| bodies.next().map(|body| scraper.scrape(black_box(body))));
        });
        group.bench_function(format!("{name}/churn_5_percent"), |bench| {
            let mut scraper = Scraper::new();
            let bodies = [churned(&one, 3), churned(&two, 11)];
            let mut bodies = bodies.iter().cycle();
            bench.iter(|| bodies.next().map(|body| scraper.scrape(black_box(body))));
        });
        group.bench_function(format!("{name}/first"), |bench| {
            bench.iter(|| Scraper::new().scrape(black_box(&one)));
        });
        group.bench_function(format!("{name}/first_replica"), |bench| {
            let mut scraper = Scraper::new();
            scraper.scrape(&one);
            bench.iter(|| {
                scraper.state = state();
                scraper.scrape(black_box(&one))
            });
        });
        let own = |number: usize, body: &str| body.replace("=\"", &format!("=\"{number}-"));
        for (kind, count) in [("like", LIKE_TARGETS), ("unlike", UNLIKE_TARGETS)] {
            let mut scraper = Scraper::new();
            let bodies: Vec<_> = match kind {
                "like" => vec![one.clone(); 8],
                _ => (0..count).map(|number| own(number, &one)).collect(),
            };
            let mut states: Vec<_> = (0..count).map(|_| state()).collect();
            let mut next = 0;
            let mut scrape = |sweep: bool| {
                std::mem::swap(&mut scraper.state, &mut states[next]);
                let matched = scraper.scrape(&bodies[next % bodies.len()]);
                std::mem::swap(&mut scraper.state, &mut states[next]);
                next = (next + 1) % count;
                if sweep && next == 0 {
                    scraper.tables.sweep();
                }
                matched
            };
            (0..WARM_ROUNDS * count).for_each(|_| {
                scrape(true);
            });
            group.bench_function(format!("{name}/cold_{kind}"), |bench| {
                bench.iter(|| scrape(false));
            });
        }
        group.bench_function(format!("{name}/floor"), |bench| {
            bench.iter(|| walk(&text, &ends, black_box(two.as_bytes())).expect("BUG: other text"));
        });
    }
    group.finish();
}

criterion_group!(benches, match_benches);
criterion_main!(benches);
