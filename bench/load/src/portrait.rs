//! A profile -> what its bodies are made of, so that the bias of a load is stated and not guessed.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Args, ValueEnum as _};

use crate::body::{self, Churn, Encoder, Format, Skeleton};
use crate::error::Error;
use crate::output;
use crate::profile::{Profile, families};
use crate::scheme::CYCLE_MAX;

/// Print what the bodies of each profile are made of.
#[derive(Args, Clone, Debug)]
pub struct ProfileArgs {
    /// Series that each target exposes, the fleet's own two included.
    #[arg(long, default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u32).range(3..=1_000_000))]
    pub series: u32,
    /// Share of the series, in percent, that profile `churn` replaces per scrape.
    #[arg(long, value_name = "PERCENT", default_value = "5", value_parser = crate::units::parse_percent)]
    pub churn_percent: f64,
}

/// What two scrapes of one target and one of another target say.
#[derive(Debug, Default)]
struct Portrait {
    name: String,
    series: usize,
    labels_per_series: f64,
    bytes_per_line: f64,
    /// Of all bytes of the body, comments included.
    bytes_per_series: f64,
    gzip_ratio: f64,
    /// Shares of the series, in percent.
    changing: f64,
    replaced: f64,
    integers: f64,
    long_values: f64,
    shared: f64,
}

/// Values with so many significant digits cannot be written shorter.
const LONG_DIGITS: usize = 15;

type Row = (&'static str, fn(&Portrait) -> String);

const ROWS: &[Row] = &[
    ("distinct label sets per target", |p| p.series.to_string()),
    ("labels per series, name included", |p| {
        format!("{:.1}", p.labels_per_series)
    }),
    ("bytes per sample line", |p| {
        format!("{:.0}", p.bytes_per_line)
    }),
    ("bytes of body per sample, comments included", |p| {
        format!("{:.0}", p.bytes_per_series)
    }),
    ("gzip ratio", |p| format!("{:.1}", p.gzip_ratio)),
    ("values that change from scrape to scrape", |p| {
        format!("{:.0} %", p.changing)
    }),
    ("series replaced per scrape", |p| {
        format!("{:.0} %", p.replaced)
    }),
    ("values that are whole numbers", |p| {
        format!("{:.0} %", p.integers)
    }),
    ("values of 15 digits and more", |p| {
        format!("{:.0} %", p.long_values)
    }),
    ("label sets that two targets share", |p| {
        format!("{:.0} %", p.shared)
    }),
];

/// `ringscrape load profile`: prints a Markdown table with a column for each profile, plain and
/// with `--unlike`.
///
/// # Errors
/// `Io` when standard output is closed.
pub fn run(args: ProfileArgs) -> Result<ExitCode, Error> {
    output::say(&markdown(&args))?;
    Ok(ExitCode::SUCCESS)
}

fn markdown(args: &ProfileArgs) -> String {
    let mut all = Vec::new();
    for profile in Profile::value_variants() {
        for unlike in [false, true] {
            // What differs is the host label: one example is enough, and busy targets are unlike.
            if unlike == matches!(profile, Profile::Busy) || (unlike && *profile == Profile::Node) {
                all.push(portrait(*profile, unlike, args));
            }
        }
    }
    let mut out = String::from("|  |");
    for portrait in &all {
        let _ = write!(out, " {} |", portrait.name);
    }
    let _ = writeln!(out, "\n|---|{}", "---:|".repeat(all.len()));
    for (name, cell) in ROWS {
        let _ = write!(out, "| {name} |");
        for portrait in &all {
            let _ = write!(out, " {} |", cell(portrait));
        }
        out.push('\n');
    }
    out
}

fn portrait(profile: Profile, unlike: bool, args: &ProfileArgs) -> Portrait {
    let churn = match profile {
        Profile::Churn => Churn::from_percent(args.churn_percent),
        _ => None,
    };
    let mut cycle = CYCLE_MAX;
    if let Some(churn) = churn {
        cycle = cycle / churn.life * churn.life;
    }
    let skeleton = Skeleton::new(&families(profile, args.series as usize - 2), cycle, churn);
    let body = |target: u32, place: u32| {
        let host = unlike.then(|| body::host(target));
        let mut out = Vec::new();
        body::front(
            target,
            u64::from(place) + 1,
            Format::Text,
            host.as_deref(),
            &mut out,
        );
        skeleton.render(place, Format::Text, host.as_deref(), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    };
    let (one, next, other) = (body(1, 0), body(1, 1), body(2, 0));
    let name = profile
        .to_possible_value()
        .map_or(String::new(), |it| it.get_name().to_owned());
    let mut portrait = measure(&one, &next, &other);
    portrait.name = if unlike {
        format!("{name}, unlike")
    } else {
        name
    };
    portrait
}

fn measure(one: &str, next: &str, other: &str) -> Portrait {
    let (lines, later) = (lines(one), lines(next));
    let count = lines.len().max(1) as f64;
    let percent = |part: usize| part as f64 * 100.0 / count;
    let number = |keep: &dyn Fn(&(&str, &str)) -> bool| {
        percent(lines.iter().filter(|line| keep(line)).count())
    };
    let series = |lines: &[(&str, &str)]| -> HashSet<String> {
        lines
            .iter()
            .map(|(series, _)| (*series).to_owned())
            .collect()
    };
    let (known, values) = (
        series(&later),
        later.iter().copied().collect::<HashSet<_>>(),
    );
    let elsewhere = series(&self::lines(other));
    let replaced = number(&|(series, _)| !known.contains(*series));
    let bytes: usize = lines
        .iter()
        .map(|(series, value)| series.len() + value.len() + 2)
        .sum();
    let labels: usize = lines
        .iter()
        .map(|(series, _)| 1 + series.matches("=\"").count())
        .sum();
    let gzip = Encoder::new().rest(one.as_bytes(), true);
    Portrait {
        name: String::new(),
        series: series(&lines).len(),
        labels_per_series: labels as f64 / count,
        bytes_per_line: bytes as f64 / count,
        bytes_per_series: one.len() as f64 / count,
        gzip_ratio: one.len() as f64 / gzip.bytes.len() as f64,
        changing: number(&|line| !values.contains(line)) - replaced,
        replaced,
        integers: number(&|(_, value)| value.parse().is_ok_and(|value: f64| value.fract() == 0.0)),
        long_values: number(&|(_, value)| digits(value) >= LONG_DIGITS),
        shared: number(&|(series, _)| elsewhere.contains(*series)),
    }
}

/// The sample lines as (series, value).
fn lines(body: &str) -> Vec<(&str, &str)> {
    let samples = body.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.rsplit_once(' ')).collect()
}

/// Significant digits of a decimal.
fn digits(value: &str) -> usize {
    let mantissa = value.split(['e', 'E']).next().unwrap_or_default();
    let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    let start = digits.iter().take_while(|digit| **digit == b'0').count();
    digits.len() - start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_known_bodies() {
        let one = "# HELP a b\na{x=\"1\"} 1\nb 0.123456789012345\nc 3\nd 1.5\n";
        let next = "# HELP a b\na{x=\"2\"} 1\nb 0.223456789012345\nc 3\nd 1.5\n";
        let other = "c 9\nb 1\nd 7\nz 0\n";
        let p = measure(one, next, other);
        assert_eq!(p.series, 4);
        assert_eq!((p.changing, p.replaced, p.integers), (25.0, 25.0, 50.0));
        assert_eq!(
            (p.long_values, p.shared, p.labels_per_series),
            (25.0, 75.0, 1.25)
        );
        assert_eq!(digits("-0.001020e+07"), 4);
    }

    #[test]
    fn the_busy_load_does_not_flatter() {
        let args = ProfileArgs {
            series: 1000,
            churn_percent: 5.0,
        };
        let busy = portrait(Profile::Busy, true, &args);
        assert!(busy.changing > 90.0 && busy.integers < 20.0, "{busy:?}");
        assert!(busy.shared < 0.5 && busy.bytes_per_line > 200.0, "{busy:?}");
        assert!(busy.long_values > 70.0, "{busy:?}");
        let churn = portrait(Profile::Churn, false, &args);
        assert!((churn.replaced - 5.0).abs() < 1.0, "{churn:?}");
        assert_eq!(markdown(&args).lines().count(), ROWS.len() + 2);
    }
}
