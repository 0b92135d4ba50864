//! The JSON of `ringscrape load compare --report` -> the figures that README and chart show.

use serde_json::Value;

/// A record.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) machine: String,
    pub(super) loads: Vec<Load>,
}

/// One load with all its agents.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) agents: Vec<Agent>,
}

/// The figures of one agent under one load.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) protocol: String,
    /// Whether it delivered anything; else all figures are 0.
    pub(super) delivered: bool,
    pub(super) cpu_seconds_per_million: f64,
    pub(super) resident_bytes_per_series: f64,
    pub(super) wire_bytes_per_sample: f64,
    pub(super) disk_bytes_per_sample: f64,
    /// Nothing if it was not looked for.
    pub(super) log_cpu_ns_per_sample: Option<f64>,
    pub(super) lag_ms: [f64; 2],
    pub(super) jitter_ms: [f64; 2],
    pub(super) all_targets: [f64; 2],
    pub(super) missing_or_wrong: f64,
    pub(super) inexact: f64,
    pub(super) slots_missed: f64,
}

impl Agent {
    /// Name and version; the version is left out where the program does not tell it.
    pub(super) fn title(&self) -> String {
        let version = self.version.split(['+', '~']).next().unwrap_or_default();
        let name = self.name.split('-').next().unwrap_or_default();
        format!("{name} {version}").trim().to_owned()
    }
}

/// Reads a record; `None` if a figure is not there.
pub(super) fn read(content: &Value) -> Option<Record> {
    let machine = &content["machine"];
    let loads = content["scenarios"].as_array()?.iter().map(load);
    Some(Record {
        machine: format!(
            "{}, {} cores, Linux {}",
            machine["cpu"].as_str()?,
            machine["cores"].as_u64()?,
            machine["kernel"].as_str()?
        ),
        loads: loads.collect::<Option<_>>()?,
    })
}

fn load(value: &Value) -> Option<Load> {
    let number = |key: &str| value[key].as_u64();
    Some(Load {
        name: value["scenario"].as_str()?.to_owned(),
        text: format!(
            "{} targets x {} series every {} s; medians of {} windows of {} s",
            thousands(number("targets")? as f64),
            thousands(number("series")? as f64),
            value["interval_seconds"].as_f64()?,
            number("rounds")? * number("windows")?,
            number("window_seconds")?
        ),
        agents: value["agents"]
            .as_array()?
            .iter()
            .map(agent)
            .collect::<Option<_>>()?,
    })
}

fn agent(value: &Value) -> Option<Agent> {
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    let number = |key: &str| value[key].as_f64();
    let inner = |key: &str, inner: &str| value[key][inner].as_f64();
    Some(Agent {
        name: text("name")?,
        version: text("version")?,
        protocol: text("protocol")?,
        delivered: number("samples_per_second")? > 0.0,
        cpu_seconds_per_million: number("cpu_seconds_per_million")?,
        resident_bytes_per_series: number("resident_bytes_per_series")?,
        wire_bytes_per_sample: number("wire_bytes_per_sample")?,
        disk_bytes_per_sample: number("disk_bytes_per_sample")?,
        log_cpu_ns_per_sample: number("log_cpu_ns_per_sample"),
        lag_ms: [inner("lag", "p50_ms")?, inner("lag", "p99_ms")?],
        jitter_ms: [inner("jitter", "p50_ms")?, inner("jitter", "p99_ms")?],
        all_targets: [
            inner("cold", "all_targets_seconds")?,
            inner("cold", "all_targets_cpu_seconds")?,
        ],
        missing_or_wrong: number("gaps")? + number("wrong_values")?,
        inexact: number("inexact_values")?,
        slots_missed: number("slots_missed")?,
    })
}

/// A whole number with a comma for every three digits.
pub(super) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas() {
        for (value, text) in [(0.0, "0"), (999.6, "1,000"), (1234567.0, "1,234,567")] {
            assert_eq!(thousands(value), text);
        }
    }

    #[test]
    fn a_record_that_lacks_a_figure_is_none() {
        let fixture = include_str!("fixture.json");
        assert!(read(&serde_json::from_str(fixture).unwrap()).is_some());
        let lacking = fixture.replace("\"wrong_values\"", "\"x\"");
        assert!(read(&serde_json::from_str(&lacking).unwrap()).is_none());
    }
}
