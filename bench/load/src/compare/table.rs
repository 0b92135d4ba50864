//! Figures of several agents -> a Markdown table with a column for each.

use std::fmt::Write as _;

use super::measure::Measured;
use crate::fleet::FleetArgs;

type Row = (&'static str, fn(&Measured) -> String);

const ROWS: &[Row] = &[
    ("samples/s", |m| format!("{:.0}", m.samples_per_second)),
    ("CPU-seconds per million samples", |m| {
        format!(
            "{:.3}",
            m.user_seconds_per_million + m.system_seconds_per_million
        )
    }),
    ("… user", |m| format!("{:.3}", m.user_seconds_per_million)),
    ("… system", |m| {
        format!("{:.3}", m.system_seconds_per_million)
    }),
    ("resident MiB", |m| format!("{:.1}", m.resident_mib)),
    ("resident bytes per series", |m| {
        format!("{:.0}", m.resident_bytes_per_series)
    }),
    ("wire bytes per sample", |m| {
        format!("{:.2}", m.wire_bytes_per_sample)
    }),
    ("disk bytes per sample", |m| {
        format!("{:.2}", m.disk_bytes_per_sample)
    }),
    ("slot jitter p50 / p99, ms", |m| {
        format!("{:.2} / {:.2}", m.jitter.p50_ms, m.jitter.p99_ms)
    }),
    ("slots missed", |m| m.slots_missed.to_string()),
    ("lag p50 / p99, ms", |m| {
        format!("{:.0} / {:.0}", m.lag.p50_ms, m.lag.p99_ms)
    }),
    ("start to first sample, s", |m| {
        format!("{:.2}", m.first_sample_seconds)
    }),
    ("slots delivered", |m| {
        format!("{:.3} %", m.completeness * 100.0)
    }),
    ("samples missing", |m| m.gaps.to_string()),
    ("wrong values", |m| m.wrong_values.to_string()),
    ("inexact values", |m| m.inexact_values.to_string()),
    ("findings", |m| {
        m.reason.replace('|', "/").replace('\n', " ")
    }),
];

/// The table of one scenario.
pub(super) fn markdown(scenario: &str, fleet: &FleetArgs, agents: &[Measured]) -> String {
    let mut out = format!(
        "\n{scenario}: {} targets x {} series every {:?}, medians of {} windows\n\n|  |",
        fleet.targets,
        fleet.series,
        fleet.scrape_interval,
        agents.first().map_or(0, |agent| agent.windows.len())
    );
    for agent in agents {
        let _ = write!(out, " {} |", agent.name);
    }
    out.push_str("\n|---|");
    out.push_str(&"---:|".repeat(agents.len()));
    out.push('\n');
    for (name, cell) in ROWS {
        let _ = write!(out, "| {name} |");
        for agent in agents {
            let _ = write!(out, " {} |", cell(agent));
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_cell_for_each_agent() {
        let agents = [
            Measured::default(),
            Measured {
                reason: "a|b".into(),
                ..Measured::default()
            },
        ];
        let text = markdown("x", &FleetArgs::default(), &agents);
        let rows: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), ROWS.len() + 2);
        assert!(
            rows.iter().all(|row| row.matches('|').count() == 4),
            "{text}"
        );
    }
}
