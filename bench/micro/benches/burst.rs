//! Targets with text of their own appear, are scraped and vanish -> bytes of memory per series by
//! purpose, and what goes back to the system. Prints once; there is nothing to repeat.

use std::sync::Arc;

use ringscrape_engine::config::model::ScrapeRules;
use ringscrape_engine::matcher::{MemoryUse, Tables};
use ringscrape_engine::memory;
use ringscrape_engine::parse::Dialect;
use ringscrape_engine::scrape::{Report, TargetState, Walk};
use ringscrape_micro::{kube_like, node_like};
use ringscrape_wal::definition::{Target, next_id};

/// Number of samples and seed -> a body.
type Body = fn(usize, u64) -> String;

/// Memory of the process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number
        .and_then(|kib| kib.parse::<usize>().ok())
        .unwrap_or(0)
        << 10
}

fn report(name: &str, series: usize, base: usize, memory: &MemoryUse) {
    let per = |bytes: usize| bytes as f64 / series as f64;
    eprintln!(
        "{name}: resident {:.1}/series; text {:.1}, hashed {:.1}, derived {:.1}, layouts {:.1}",
        per(resident().saturating_sub(base)),
        per(memory.text_bytes),
        per(memory.hashed_bytes),
        per(memory.derived_bytes),
        per(memory.layout_bytes),
    );
}

fn burst(name: &str, body: Body, targets: usize, samples: usize) {
    memory::trim();
    let base = resident();
    let rules = Arc::new(ScrapeRules::default());
    let mut tables = Tables::new();
    let one = body(samples, 1);
    let mut states: Vec<TargetState> = (0..targets)
        .map(|number| {
            let target = Target {
                id: next_id(),
                key: number as u64,
                labels: Box::new([
                    ("instance".into(), format!("{number}:9100").into()),
                    ("job".into(), "j".into()),
                ]),
            };
            TargetState::new(Arc::new(target), rules.clone())
        })
        .collect();
    let mut series = 0;
    let mut round = |tables: &mut Tables, states: &mut [TargetState], time: i64| {
        series = 0;
        for (number, state) in states.iter_mut().enumerate() {
            let own = one.replace("=\"", &format!("=\"{number:03}-"));
            let mut walk = Walk::begin(tables, state, Dialect::Text);
            let report = Report {
                timestamp_ms: time * 1_000,
                now_ms: time * 1_000,
                duration_s: 0.0,
                timeout_s: 1.0,
                body_bytes: 0,
            };
            walk.feed(own.as_bytes(), true).expect("BUG: a good body");
            series += walk.finish(tables, state, &report).layout.len as usize;
        }
        series
    };
    let series = round(&mut tables, &mut states, 1);
    report(
        &format!("{name}, as text"),
        series,
        base,
        &tables.memory_use(),
    );
    for time in 2..40 {
        tables.sweep();
        round(&mut tables, &mut states, time);
    }
    memory::trim();
    report(
        &format!("{name}, hashed"),
        series,
        base,
        &tables.memory_use(),
    );
    states.clear();
    (0..3).for_each(|_| tables.sweep());
    tables.trim();
    report(&format!("{name}, gone"), series, base, &tables.memory_use());
    let started = std::time::Instant::now();
    memory::trim();
    report(
        &format!("{name}, trimmed"),
        series,
        base,
        &tables.memory_use(),
    );
    eprintln!("trim took {:?}", started.elapsed());
}

fn main() {
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let (targets, samples) = if quick { (2, 100) } else { (50, 5_000) };
    burst("node", node_like, targets, samples);
    burst("kube", kube_like, targets, samples);
}
