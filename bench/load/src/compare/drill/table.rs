//! How agents came through -> a Markdown table: a column for each.

use std::fmt::Write as _;

use super::{DrillRecord, Drilled};

/// A row's name and its cell.
type Row = (&'static str, fn(&Drilled) -> String);

const ROWS: &[Row] = &[
    ("version", |it| it.version.clone()),
    ("live samples/s", |it| {
        format!("{:.0}", it.live_samples_per_second)
    }),
    ("outage, s", |it| format!("{:.0}", it.outage_seconds)),
    ("samples in the outage", |it| it.outage_samples.to_string()),
    ("samples delivered", |it| it.delivered.to_string()),
    ("samples lost", |it| it.lost.to_string()),
    ("samples out of order", |it| it.out_of_order.to_string()),
    ("samples again", |it| it.again.to_string()),
    ("memory before, MiB", |it| mib(it.memory_steady_bytes)),
    ("… most in the outage, MiB", |it| {
        mib(it.memory_outage_bytes)
    }),
    ("… most after it, MiB", |it| mib(it.memory_catch_up_bytes)),
    ("… ratio", |it| format!("{:.2}x", it.memory_ratio())),
    ("catch-up, s", |it| {
        let seconds = it.catch_up_seconds;
        seconds.map_or("not in time".into(), |seconds| format!("{seconds:.1}"))
    }),
    ("… samples/s", |it| {
        format!("{:.0}", it.catch_up_samples_per_second)
    }),
    ("… to the live rate", |it| {
        format!("{:.1}x", it.catch_up_ratio())
    }),
    ("… CPU-seconds per million samples", |it| {
        format!("{:.3}", it.catch_up_cpu_seconds_per_million)
    }),
    ("lag by 10 s after the return, s", |it| {
        let lags: Vec<String> = it
            .lag_seconds
            .iter()
            .map(|lag| format!("{lag:.1}"))
            .collect();
        lags.join(" ")
    }),
    ("lag falls all the time", |it| {
        let text = if it.lag_falls() { "yes" } else { "no" };
        text.to_owned()
    }),
    ("other receiver's lag p99 before / since, ms", |it| {
        format!("{:.0} / {:.0}", it.other_lag_steady_ms, it.other_lag_ms)
    }),
    ("scrapes missed since", |it| it.slots_missed.to_string()),
    ("scrape jitter p99 since, ms", |it| {
        format!("{:.2}", it.jitter_ms)
    }),
    ("findings", |it| plain(&it.findings)),
    ("shortcomings", |it| match it.shortcomings() {
        none if none.is_empty() => "none".into(),
        found => found.join(", "),
    }),
    ("ended with", |it| plain(&it.complaint)),
];

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

/// Text that stays within its cell.
fn plain(text: &str) -> String {
    text.replace('|', "/").replace('\n', " ")
}

pub(super) fn markdown(record: &DrillRecord) -> String {
    let mut out = format!(
        "\nOutage drill: {} targets x {} series every {} s, one of two receivers down\n\n|  |",
        record.targets, record.series, record.interval_seconds
    );
    for agent in &record.agents {
        let _ = write!(out, " {} |", agent.name);
    }
    let columns = "---:|".repeat(record.agents.len());
    let _ = writeln!(out, "\n|---|{columns}");
    for (name, cell) in ROWS {
        let _ = write!(out, "| {name} |");
        for agent in &record.agents {
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
        let odd = Drilled {
            complaint: "a|b\nc".into(),
            ..Drilled::default()
        };
        let record = DrillRecord {
            agents: vec![Drilled::default(), odd],
            ..DrillRecord::default()
        };
        let text = markdown(&record);
        let rows: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), ROWS.len() + 2);
        assert!(
            rows.iter().all(|row| row.matches('|').count() == 4),
            "{text}"
        );
    }
}
