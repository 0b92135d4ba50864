//! `/proc` and `--version` -> the facts about machine and programs that a record needs.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

/// What figures were measured on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Model name of the processor.
    pub cpu: String,
    /// Cores that the processes may use.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Release of the kernel.
    pub kernel: String,
}

impl Machine {
    /// This machine; unknown facts are empty.
    pub(super) fn here() -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Machine {
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: field(&read("/proc/meminfo"), "MemTotal")
                .split(' ')
                .next()
                .and_then(|kib| kib.parse::<u64>().ok())
                .map_or(0, |kib| kib / 1024),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// The value behind the first `name` and its colon.
fn field(text: &str, name: &str) -> String {
    let mut values = text.lines().filter_map(|line| line.split_once(':'));
    values
        .find(|(key, _)| key.trim() == name)
        .map_or(String::new(), |(_, value)| value.trim().to_owned())
}

/// What a core has done since the system started, in clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct CoreTimes {
    idle: u64,
    total: u64,
}

impl CoreTimes {
    /// The times of a core; zeros for one that is not there.
    pub(super) fn of(core: usize) -> CoreTimes {
        read_core(&fs::read_to_string("/proc/stat").unwrap_or_default(), core)
    }

    /// The share of the time up to `later` that the core was busy, 0 to 1.
    pub(super) fn busy_since(self, later: CoreTimes) -> f64 {
        let total = later.total.saturating_sub(self.total).max(1);
        1.0 - later.idle.saturating_sub(self.idle) as f64 / total as f64
    }
}

/// Source: proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal.
fn read_core(stat: &str, core: usize) -> CoreTimes {
    let name = format!("cpu{core} ");
    let line = stat.lines().find_map(|line| line.strip_prefix(&name));
    let times: Vec<u64> = line
        .unwrap_or_default()
        .split_whitespace()
        .take(8)
        .filter_map(|ticks| ticks.parse().ok())
        .collect();
    CoreTimes {
        idle: times.iter().skip(3).take(2).sum(),
        total: times.iter().sum(),
    }
}

/// What `program --version` says it is; empty if it does not.
///
/// # Errors
/// The program cannot be started.
pub(super) fn version(program: &Path) -> io::Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok(read_version(&String::from_utf8_lossy(&text)))
}

/// The first word of the first line that has a digit, without what is in brackets.
fn read_version(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    let mut words = line.unwrap_or_default().split(' ');
    words
        .find(|word| word.contains(|c: char| c.is_ascii_digit()) && !word.starts_with('('))
        .map_or(String::new(), |word| word.trim_matches(',').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, version) in [
            (
                "prometheus, version 2.42.0+ds (branch: x, revision: 1)\n",
                "2.42.0+ds",
            ),
            ("ringscrape 0.1.0\n", "0.1.0"),
            (
                "\n\nvmagent-20260101-tags-v1.145.0\n",
                "vmagent-20260101-tags-v1.145.0",
            ),
            ("\n", ""),
        ] {
            assert_eq!(read_version(text), version);
        }
    }

    #[test]
    fn busy_shares_of_cores() {
        let stat = "cpu  9 9 9 9\ncpu0 1 0 1 6 2 0 0 0 7 0\ncpu1 10 0 10 70 10 0 0 0 0 0\n";
        let (zero, one) = (read_core(stat, 0), read_core(stat, 1));
        assert_eq!(
            (zero, one),
            (
                CoreTimes { idle: 8, total: 10 },
                CoreTimes {
                    idle: 80,
                    total: 100
                }
            )
        );
        assert!((zero.busy_since(one) - 0.2).abs() < 1e-9);
        assert_eq!(read_core(stat, 2), CoreTimes::default());
    }

    #[test]
    fn fields_of_proc() {
        let text = "processor\t: 0\nmodel name\t: X 3000\nmodel name\t: Y\n";
        assert_eq!(field(text, "model name"), "X 3000");
        assert_eq!(field(text, "none"), "");
        assert!(Machine::here().cores > 0);
    }
}
