//! Bodies of a known target -> time per scrape: all lines known (`steady`), a twentieth of them new
//! each time (`churn_5_percent`), none known (`first`), none known of this target but all of
//! another one (`first_replica`); many targets in turn, so that nothing of them is in the caches,
//! each like the others (`cold_like`) or with text of its own (`cold_unlike`); beside the least
//! that a match must do (`floor`): compare the text and read the numbers.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringscrape_engine::parse::{Dialect, Next, next_piece, plain_value};
use ringscrape_micro::{Scraper, churned, kube_like, node_like, unknown_target};

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

fn match_benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("match");
    for (name, one, two) in [
        ("node", node_like(SAMPLES, 1), node_like(SAMPLES, 99)),
        ("kube", kube_like(SAMPLES, 1), kube_like(SAMPLES, 99)),
    ] {
        let (text, ends) = prefixes(one.as_bytes());
        group.throughput(Throughput::Elements(ends.len() as u64));
        group.bench_function(format!("{name}/steady"), |bench| {
            let mut scraper = Scraper::default();
            scraper.scrape(&one);
            let matched = scraper.scrape(&two);
            assert_eq!(matched as usize, ends.len(), "all lines match");
            let mut bodies = [&one, &two].into_iter().cycle();
            bench.iter(|| bodies.next().map(|body| scraper.scrape(black_box(body))));
        });
        group.bench_function(format!("{name}/churn_5_percent"), |bench| {
            let mut scraper = Scraper::default();
            let bodies = [churned(&one, 3), churned(&two, 11)];
            let mut bodies = bodies.iter().cycle();
            bench.iter(|| bodies.next().map(|body| scraper.scrape(black_box(body))));
        });
        group.bench_function(format!("{name}/first"), |bench| {
            bench.iter(|| Scraper::default().scrape(black_box(&one)));
        });
        group.bench_function(format!("{name}/first_replica"), |bench| {
            let mut scraper = Scraper::default();
            scraper.scrape(&one);
            bench.iter(|| {
                scraper.state = unknown_target();
                scraper.scrape(black_box(&one))
            });
        });
        let own = |number: usize, body: &str| body.replace("=\"", &format!("=\"{number}-"));
        for (kind, count) in [("like", LIKE_TARGETS), ("unlike", UNLIKE_TARGETS)] {
            let mut scraper = Scraper::default();
            let bodies: Vec<_> = match kind {
                "like" => vec![one.clone(); 8],
                _ => (0..count).map(|number| own(number, &one)).collect(),
            };
            let mut states: Vec<_> = (0..count).map(|_| unknown_target()).collect();
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
