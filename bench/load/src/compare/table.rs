//! Figures of several agents -> a Markdown table: a column for each, and their ratios to the first.

use std::fmt::Write as _;

use super::figures::Measured;
use crate::fleet::FleetArgs;

/// A row's name, its cell, and the number that ratios are made of where they mean something.
type Row = (
    &'static str,
    fn(&Measured) -> String,
    Option<fn(&Measured) -> f64>,
);

const ROWS: &[Row] = &[
    ("version", |m| m.version.clone(), None),
    ("protocol", |m| m.protocol.clone(), None),
    (
        "samples/s",
        |m| format!("{:.0}", m.samples_per_second),
        None,
    ),
    (
        "CPU-seconds per million samples",
        |m| format!("{:.3}", m.cpu_seconds_per_million),
        Some(|m| m.cpu_seconds_per_million),
    ),
    (
        "… user",
        |m| format!("{:.3}", m.user_seconds_per_million),
        Some(|m| m.user_seconds_per_million),
    ),
    (
        "… system",
        |m| format!("{:.3}", m.system_seconds_per_million),
        Some(|m| m.system_seconds_per_million),
    ),
    ("resident MiB", |m| format!("{:.1}", m.resident_mib), None),
    (
        "resident bytes per series",
        |m| format!("{:.0}", m.resident_bytes_per_series),
        Some(|m| m.resident_bytes_per_series),
    ),
    (
        "wire bytes per sample",
        |m| format!("{:.2}", m.wire_bytes_per_sample),
        Some(|m| m.wire_bytes_per_sample),
    ),
    (
        "disk bytes per sample",
        |m| format!("{:.2}", m.disk_bytes_per_sample),
        Some(|m| m.disk_bytes_per_sample),
    ),
    (
        "log's CPU, ns per sample",
        |m| match m.log_cpu_ns_per_sample {
            Some(ns) => format!("{ns:.0} ({})", m.log_cpu_by),
            None => String::new(),
        },
        Some(|m| m.log_cpu_ns_per_sample.unwrap_or(f64::NAN)),
    ),
    (
        "slot jitter p50 / p99, ms",
        |m| format!("{:.2} / {:.2}", m.jitter.p50_ms, m.jitter.p99_ms),
        Some(|m| m.jitter.p99_ms),
    ),
    ("slots missed", |m| m.slots_missed.to_string(), None),
    (
        "lag p50 / p99, ms",
        |m| format!("{:.0} / {:.0}", m.lag.p50_ms, m.lag.p99_ms),
        Some(|m| m.lag.p99_ms),
    ),
    (
        "start to first sample, s",
        |m| format!("{:.2}", m.cold.first_sample_seconds),
        Some(|m| m.cold.first_sample_seconds),
    ),
    (
        "… CPU-seconds until then",
        |m| format!("{:.2}", m.cold.first_sample_cpu_seconds),
        Some(|m| m.cold.first_sample_cpu_seconds),
    ),
    (
        "start to a sample of every target, s",
        |m| format!("{:.2}", m.cold.all_targets_seconds),
        Some(|m| m.cold.all_targets_seconds),
    ),
    (
        "… CPU-seconds until then",
        |m| format!("{:.2}", m.cold.all_targets_cpu_seconds),
        Some(|m| m.cold.all_targets_cpu_seconds),
    ),
    (
        "slots delivered",
        |m| format!("{:.3} %", m.completeness * 100.0),
        None,
    ),
    ("samples missing", |m| m.gaps.to_string(), None),
    ("wrong values", |m| m.wrong_values.to_string(), None),
    ("inexact values", |m| m.inexact_values.to_string(), None),
    (
        "load's own CPU: sink ns per sample / fleet us per scrape",
        |m| {
            format!(
                "{:.0} / {:.0}",
                m.sink_cpu_ns_per_sample, m.fleet_cpu_us_per_scrape
            )
        },
        None,
    ),
    (
        "findings",
        |m| m.reason.replace('|', "/").replace('\n', " "),
        None,
    ),
];

/// The table of one scenario.
pub(super) fn markdown(
    scenario: &str,
    fleet: &FleetArgs,
    rounds: u32,
    agents: &[Measured],
) -> String {
    let mut out = format!(
        "\n{scenario}: {} targets x {} series every {:?}, medians of {} windows in {rounds} \
         round(s); ratios of p99 where there are two figures\n\n|  |",
        fleet.targets,
        fleet.series,
        fleet.scrape_interval,
        agents.first().map_or(0, |agent| agent.windows.len())
    );
    let Some((first, others)) = agents.split_first() else {
        return String::new();
    };
    for agent in agents {
        let _ = write!(out, " {} |", agent.name);
    }
    for agent in others {
        let _ = write!(out, " {} / {} |", agent.name, first.name);
    }
    out.push_str("\n|---|");
    out.push_str(&"---:|".repeat(agents.len() + others.len()));
    out.push('\n');
    for (name, cell, number) in ROWS {
        let _ = write!(out, "| {name} |");
        for agent in agents {
            let _ = write!(out, " {} |", cell(agent));
        }
        for agent in others {
            let ratio = number.map_or(String::new(), |number| ratio(number(agent), number(first)));
            let _ = write!(out, " {ratio} |");
        }
        out.push('\n');
    }
    out
}

/// Two digits are what such a quotient is good for; nothing for a division by 0.
fn ratio(value: f64, by: f64) -> String {
    let ratio = value / by;
    match ratio {
        _ if !ratio.is_finite() => String::new(),
        10.0.. => format!("{ratio:.0}x"),
        1.0.. => format!("{ratio:.1}x"),
        _ => format!("{ratio:.2}x"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_cell_for_each_agent_and_ratio() {
        let agents = [
            Measured::default(),
            Measured {
                reason: "a|b".into(),
                ..Measured::default()
            },
        ];
        let text = markdown("x", &FleetArgs::default(), 2, &agents);
        let rows: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), ROWS.len() + 2);
        assert!(
            rows.iter().all(|row| row.matches('|').count() == 5),
            "{text}"
        );
        assert_eq!(markdown("x", &FleetArgs::default(), 1, &[]), "");
    }

    #[test]
    fn ratios() {
        for (value, by, text) in [
            (2.0, 1.0, "2.0x"),
            (1.0, 3.0, "0.33x"),
            (250.0, 2.0, "125x"),
            (1.0, 0.0, ""),
            (0.0, 0.0, ""),
        ] {
            assert_eq!(ratio(value, by), text);
        }
    }
}
