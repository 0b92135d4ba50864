//! A record -> the Markdown of the README's cost section.

use std::fmt::Write as _;

use super::Found;
use super::record::{Agent, Load, Record, thousands};

/// Stands for the figures of an agent that delivered nothing.
const FAILED: &str = "failed";

/// A row that is there if the record has one such figure.
const LOG_CPU: &str = "CPU of the log, ns per sample";

type Row = (&'static str, fn(&Agent) -> String);

const ROWS: &[Row] = &[
    ("protocol", |a| a.protocol.clone()),
    ("CPU-seconds per million samples", |a| {
        format!("{:.2}", a.cpu_seconds_per_million)
    }),
    ("resident bytes per series", |a| {
        thousands(a.resident_bytes_per_series)
    }),
    ("wire bytes per sample", |a| {
        format!("{:.1}", a.wire_bytes_per_sample)
    }),
    ("disk bytes per sample", |a| {
        format!("{:.1}", a.disk_bytes_per_sample)
    }),
    (LOG_CPU, |a| match a.log_cpu_ns_per_sample {
        Some(ns) => format!("{ns:.0}"),
        None => "not measured".to_owned(),
    }),
    ("lag from scrape to receiver, p50 / p99 ms", |a| {
        pair(a.lag_ms, 0)
    }),
    ("distance from the slot, p50 / p99 ms", |a| {
        pair(a.jitter_ms, 1)
    }),
    ("start to a sample of every target, s / CPU-s", |a| {
        pair(a.all_targets, 1)
    }),
    ("slots missed", |a| thousands(a.slots_missed)),
    ("samples missing or wrong", |a| match a.inexact {
        0.0 => thousands(a.missing_or_wrong),
        inexact => format!(
            "{} ({} off in the last bits)",
            thousands(a.missing_or_wrong),
            thousands(inexact)
        ),
    }),
];

fn pair([one, two]: [f64; 2], digits: usize) -> String {
    format!("{one:.digits$} / {two:.digits$}")
}

/// The section: the chart, the first load in full, the others in short.
pub(super) fn section(
    record: &Record,
    path: &str,
    chart: &str,
    saturation: Option<&Found>,
) -> String {
    let Some((first, others)) = record.loads.split_first() else {
        return String::new();
    };
    let mut out = format!(
        "{} ({}); all parts on one machine: {}. [The record]({path}) has every window, the \
         versions and the command lines; [the method](bench/METHODOLOGY.md) says what is measured \
         and what biases it.\n\n![CPU, memory and wire bytes by agent]({chart})\n\n",
        first.text, first.name, record.machine
    );
    head(&mut out, first, "");
    let has_log_cpu = first
        .agents
        .iter()
        .any(|a| a.log_cpu_ns_per_sample.is_some());
    for (name, cell) in ROWS {
        if *name == LOG_CPU && !has_log_cpu {
            continue;
        }
        let shown = |agent: &Agent| {
            if agent.delivered {
                cell(agent)
            } else {
                FAILED.to_owned()
            }
        };
        let cells: Vec<String> = first.agents.iter().map(shown).collect();
        row(&mut out, name, &cells);
    }
    if let Some(found) = saturation {
        let cells: Vec<String> = first
            .agents
            .iter()
            .map(|agent| held(found, agent))
            .collect();
        row(&mut out, "most samples/s held on one core", &cells);
    }
    if !others.is_empty() {
        out.push_str(
            "\nCPU-seconds per million samples / resident bytes per series of other loads:\n\n",
        );
        head(&mut out, first, "");
        for load in others {
            let cell = |agent: &Agent| {
                let found = load.agents.iter().find(|other| other.name == agent.name);
                found.map_or("not measured".to_owned(), |agent| {
                    if !agent.delivered {
                        return FAILED.to_owned();
                    }
                    format!(
                        "{:.2} / {}",
                        agent.cpu_seconds_per_million,
                        thousands(agent.resident_bytes_per_series)
                    )
                })
            };
            let cells: Vec<String> = first.agents.iter().map(cell).collect();
            row(&mut out, &load.name, &cells);
        }
    }
    out
}

fn head(out: &mut String, load: &Load, corner: &str) {
    let titles: Vec<String> = load.agents.iter().map(Agent::title).collect();
    row(out, corner, &titles);
    let _infallible = writeln!(out, "|---|{}", "---:|".repeat(titles.len()));
}

fn row(out: &mut String, name: &str, cells: &[String]) {
    let _infallible = writeln!(out, "| {name} | {} |", cells.join(" | "));
}

/// What an agent held at most, with `≥` where the load was the limit.
fn held(found: &Found, agent: &Agent) -> String {
    let all = found.content["saturation"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let own = all.iter().find(|one| one["name"] == agent.name.as_str());
    own.map_or("not measured".to_owned(), |own| {
        let rate = thousands(own["held_per_second"].as_f64().unwrap_or(0.0));
        let limit = own["limit"].as_str().unwrap_or_default();
        let sign = if limit.starts_with("at least") {
            "≥ "
        } else {
            ""
        };
        format!("{sign}{rate}")
    })
}

#[cfg(test)]
mod tests {
    use super::super::record;
    use super::*;

    #[test]
    fn every_row_has_a_cell_for_each_agent() {
        let content = serde_json::from_str(include_str!("fixture.json")).unwrap();
        let record = record::read(&content).unwrap();
        let saturation = Found {
            path: String::new(),
            content: serde_json::json!({"saturation": [
                {"name": "ringscrape", "held_per_second": 1e6, "limit": "at least: x"},
            ]}),
        };
        let text = section(&record, "p.json", "c.svg", Some(&saturation));
        let rows: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), ROWS.len() - 1 + 3 + 3);
        let bars = record.loads[0].agents.len() + 2;
        assert!(
            rows.iter().all(|row| row.matches('|').count() == bars),
            "{text}"
        );
        assert!(text.contains("| ≥ 1,000,000 | not measured |"), "{text}");
        assert!(
            text.contains("| busy | ") && !text.contains(FAILED),
            "{text}"
        );
        let mut content: serde_json::Value = content;
        content["scenarios"][0]["agents"][1]["log_cpu_ns_per_sample"] = 412.4.into();
        let with = section(&record::read(&content).unwrap(), "", "", None);
        assert!(!text.contains(LOG_CPU));
        let row = with.lines().find(|line| line.contains(LOG_CPU)).unwrap();
        assert!(
            row.contains("| not measured | 412 | not measured |"),
            "{row}"
        );
        content["scenarios"][1]["agents"][2]["samples_per_second"] = 0.0.into();
        let record = record::read(&content).unwrap();
        assert_eq!(section(&record, "", "", None).matches(FAILED).count(), 1);
    }
}
