//! Random bodies, edits of them, rules and steps.

use super::relabel;
use crate::config::model::ScrapeRules;
use crate::parse::Dialect;
use crate::relabel::Action;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// One line of a body, as ingredients.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) family: u8,
    /// Which comments come before; 0: none.
    pub(super) comments: u8,
    pub(super) name: &'static str,
    pub(super) labels: Vec<(&'static str, &'static str)>,
    pub(super) value: u8,
    /// Milliseconds relative to the scrape.
    pub(super) time: Option<i64>,
    pub(super) exemplar: u8,
    /// Spaces, CR and the like.
    pub(super) style: u8,
}

/// A change of a body.
#[derive(Debug, Clone)]
pub(super) enum Edit {
    Add(Index, Line),
    Remove(Index),
    RemoveMany(Index, u8),
    Move(Index, Index),
    Double(Index, Index),
    Rotate(Index),
    RepeatFamily(Index),
    Time(Index, Option<i64>),
    Exemplar(Index, u8),
    Comments(Index, u8),
    Style(Index, u8),
    Relabel(Index, &'static str),
    Values(u8),
    /// Every line gets or loses a timestamp.
    AllTimes(Option<i64>),
}

/// What stands at the end of a body.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Ending {
    Whole,
    NoNewline,
    Comment,
    Garbage,
    Truncated(u8),
    Nul,
}

/// One scrape of both targets.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Body(Vec<Edit>, Ending),
    /// A bad line in the middle.
    Broken(Vec<Edit>, Index),
    Same,
    Empty,
    OnlyComments,
    Fail,
    BodyLimit,
    Rules(Box<ScrapeRules>),
}

const NAMES: [&str; 6] = ["a_total", "b", "c_bucket", "up", "d", "x:y"];
const LABELS: [&str; 8] = [
    "instance",
    "job",
    "env",
    "le",
    "quantile",
    "l",
    "exported_job",
    "exported_instance",
];
const VALUES: [&str; 6] = ["1", "j", "", "i1", "0.50", "vé"];
const NUMBERS: [&str; 100] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
    "17", "18", "19", "20", "21", "22", "23", "24", "25", "26", "27", "28", "29", "30", "31", "32",
    "33", "34", "35", "36", "37", "38", "39", "40", "41", "42", "43", "44", "45", "46", "47", "48",
    "49", "50", "51", "52", "53", "54", "55", "56", "57", "58", "59", "60", "61", "62", "63", "64",
    "65", "66", "67", "68", "69", "70", "71", "72", "73", "74", "75", "76", "77", "78", "79", "80",
    "81", "82", "83", "84", "85", "86", "87", "88", "89", "90", "91", "92", "93", "94", "95", "96",
    "97", "98", "99",
];
/// Relative to a scrape: the last two are too far ahead and just not.
const TIMES: [i64; 8] = [-40_000, -16_000, -15_000, -7_000, -1, 0, 600_001, 599_000];

fn time() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![3 => Just(None), 1 => select(&TIMES[..]).prop_map(Some)]
}

prop_compose! {
    fn line()(
        family in 0u8..4,
        comments in prop_oneof![4 => Just(0u8), 2 => 1u8..12],
        name in select(&NAMES[..]),
        labels in prop::collection::vec((select(&LABELS[..]), select(&VALUES[..])), 0..4),
        value in any::<u8>(),
        time in prop_oneof![8 => Just(None), 1 => time()],
        exemplar in prop_oneof![3 => Just(0u8), 1 => 1u8..8],
        style in prop_oneof![4 => Just(0u8), 1 => 1u8..6],
    ) -> Line {
        let mut unique: Vec<(&'static str, &'static str)> = Vec::new();
        for (label, value) in labels {
            if unique.iter().all(|(have, _)| *have != label) {
                unique.push((label, value));
            }
        }
        Line { family, comments, name, labels: unique, value, time, exemplar, style }
    }
}

pub(super) fn lines() -> impl Strategy<Value = Vec<Line>> {
    prop_oneof![
        6 => prop::collection::vec(line(), 0..12),
        1 => (prop::collection::vec(line(), 0..12), 1u8..4).prop_map(|(mut lines, n)| {
            for i in 0..n * 25 {
                let labels = vec![("l", NUMBERS[usize::from(i) % 100])];
                let (family, name) = (n, NAMES[usize::from(n)]);
                let (comments, value) = (u8::from(i % 30 == 0), i);
                let (time, exemplar, style) = (None, 0, 0);
                lines.push(Line { family, comments, name, labels, value, time, exemplar, style });
            }
            lines
        }),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        (at(), line()).prop_map(|(i, line)| Edit::Add(i, line)),
        at().prop_map(Edit::Remove),
        (at(), 1u8..50).prop_map(|(i, count)| Edit::RemoveMany(i, count)),
        (at(), at()).prop_map(|(i, j)| Edit::Move(i, j)),
        (at(), at()).prop_map(|(i, j)| Edit::Double(i, j)),
        at().prop_map(Edit::Rotate),
        at().prop_map(Edit::RepeatFamily),
        (at(), time()).prop_map(|(i, time)| Edit::Time(i, time)),
        (at(), 0u8..8).prop_map(|(i, exemplar)| Edit::Exemplar(i, exemplar)),
        (at(), 0u8..12).prop_map(|(i, comments)| Edit::Comments(i, comments)),
        (at(), 0u8..6).prop_map(|(i, style)| Edit::Style(i, style)),
        (at(), select(&VALUES[..])).prop_map(|(i, value)| Edit::Relabel(i, value)),
        any::<u8>().prop_map(Edit::Values),
        time().prop_map(Edit::AllTimes),
    ]
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    prop::collection::vec(edit(), 0..4)
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        8 => Just(Ending::Whole),
        1 => Just(Ending::NoNewline),
        1 => Just(Ending::Comment),
        1 => Just(Ending::Garbage),
        1 => any::<u8>().prop_map(Ending::Truncated),
        1 => Just(Ending::Nul),
    ]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (edits(), ending()).prop_map(|(edits, ending)| Step::Body(edits, ending)),
        2 => (edits(), any::<Index>()).prop_map(|(edits, at)| Step::Broken(edits, at)),
        3 => Just(Step::Same),
        1 => Just(Step::Empty),
        1 => Just(Step::OnlyComments),
        1 => Just(Step::Fail),
        1 => Just(Step::BodyLimit),
        1 => scrape_rules().prop_map(|rules| Step::Rules(Box::new(rules))),
    ]
}

type Rule = (
    Action,
    &'static [&'static str],
    &'static str,
    &'static str,
    &'static str,
);

const RULES: [Rule; 18] = [
    (Action::Replace, &["env"], "(.+)", "l", "$1"),
    (
        Action::Replace,
        &["__name__", "l"],
        "(.*);(.*)",
        "__name__",
        "${1}_x$2",
    ),
    (Action::Replace, &["instance"], "(.*)", "from", "$1"),
    (Action::Replace, &[], "", "instance", "fixed"),
    (Action::Replace, &["le"], "", "le", ""),
    (
        Action::Keep,
        &["__name__"],
        "a_total|b|c_bucket|d",
        "",
        "$1",
    ),
    (Action::Drop, &["l"], "1", "", "$1"),
    (Action::Drop, &["__name__", "job"], "d;.*", "", "$1"),
    (Action::KeepEqual, &["job"], "", "l", "$1"),
    (Action::DropEqual, &["l"], "", "job", "$1"),
    (Action::HashMod, &["__name__", "l"], "", "shard", "$1"),
    (Action::LabelMap, &[], "l(.*)", "", "m$1"),
    (Action::LabelMap, &[], "(inst)ance", "", "$1"),
    (Action::LabelDrop, &[], "l|env|quantile", "", "$1"),
    (Action::LabelDrop, &[], "instance|__name__", "", "$1"),
    (Action::LabelKeep, &[], "__name__|job|l|le", "", "$1"),
    (Action::Lowercase, &["l"], "", "l", "$1"),
    (Action::Uppercase, &["job"], "", "job", "$1"),
];

pub(super) fn scrape_rules() -> impl Strategy<Value = ScrapeRules> {
    let limit = |max: u64| prop_oneof![6 => Just(0u64), 1 => 1..max];
    (
        any::<[bool; 2]>(),
        prop::bool::weighted(0.8),
        prop::collection::vec(select(&RULES[..]), 0..3),
        (limit(12), limit(8), limit(12), limit(6)),
        any::<bool>(),
    )
        .prop_map(
            |([honor_labels, track], honor_timestamps, configs, limits, extra)| ScrapeRules {
                honor_labels,
                honor_timestamps,
                track_timestamps_staleness: track,
                metric_relabel_configs: hashmod_relabel(&configs),
                sample_limit: limits.0,
                label_limit: limits.1,
                label_name_length_limit: limits.2,
                label_value_length_limit: limits.3,
                extra_scrape_metrics: extra,
                ..ScrapeRules::default()
            },
        )
}

fn hashmod_relabel(configs: &[Rule]) -> crate::relabel::Rules {
    use crate::relabel::{RuleConfig, Rules};
    if configs.iter().all(|config| config.0 != Action::HashMod) {
        return relabel(configs);
    }
    let configs = configs.iter().map(|config| {
        let plain = relabel(&[(Action::Replace, config.1, config.2, "x", config.4)]);
        let base = plain.configs().next().cloned().unwrap_or_default();
        RuleConfig {
            action: config.0,
            target_label: config.3.into(),
            modulus: u64::from(config.0 == Action::HashMod) * 3,
            ..base
        }
    });
    Rules::new(configs.collect()).unwrap()
}

/// Changes a body.
pub(super) fn apply(lines: &mut Vec<Line>, edit: &Edit) {
    if let Edit::Add(at, line) = edit {
        lines.insert(at.index(lines.len() + 1), line.clone());
        return;
    }
    if lines.is_empty() {
        return;
    }
    let len = lines.len();
    match edit {
        Edit::Add(..) => {}
        Edit::Remove(at) => {
            lines.remove(at.index(len));
        }
        Edit::RemoveMany(at, count) => {
            let from = at.index(len);
            lines.drain(from..len.min(from + usize::from(*count)));
        }
        Edit::Move(from, to) => {
            let line = lines.remove(from.index(len));
            lines.insert(to.index(len), line);
        }
        Edit::Double(from, to) => {
            let line = lines[from.index(len)].clone();
            lines.insert(to.index(len + 1), line);
        }
        Edit::Rotate(at) => lines[at.index(len)].labels.reverse(),
        Edit::RepeatFamily(at) => {
            let family = lines[at.index(len)].family;
            let repeated: Vec<_> = lines
                .iter()
                .filter(|line| line.family == family)
                .take(40)
                .cloned()
                .collect();
            lines.extend(repeated);
        }
        Edit::Time(at, time) => lines[at.index(len)].time = *time,
        Edit::Exemplar(at, exemplar) => lines[at.index(len)].exemplar = *exemplar,
        Edit::Comments(at, comments) => lines[at.index(len)].comments = *comments,
        Edit::Style(at, style) => lines[at.index(len)].style = *style,
        Edit::Relabel(at, value) => {
            if let Some(label) = lines[at.index(len)].labels.first_mut() {
                label.1 = value;
            }
        }
        Edit::Values(by) => {
            for line in lines {
                line.value = line.value.wrapping_add(*by);
            }
        }
        Edit::AllTimes(time) => {
            for line in lines {
                line.time = *time;
            }
        }
    }
}

/// Writes a body. `broken_at`: a bad line is put before this one.
pub(super) fn render(
    lines: &[Line],
    dialect: Dialect,
    timestamp_ms: i64,
    ending: Ending,
    broken_at: Option<usize>,
) -> Vec<u8> {
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        if broken_at == Some(index) {
            text.push_str("}broken\n");
        }
        write_line(&mut text, line, dialect, timestamp_ms);
    }
    if broken_at.is_some_and(|at| at >= lines.len()) {
        text.push_str("}broken\n");
    }
    if ending == Ending::Comment {
        text.push_str("# HELP late nothing follows\n");
    }
    if dialect == Dialect::OpenMetrics && ending != Ending::Garbage {
        text.push_str("# EOF\n");
    }
    let mut bytes = text.into_bytes();
    match ending {
        Ending::NoNewline => {
            bytes.pop();
        }
        Ending::Garbage => bytes.extend_from_slice(b"what{is=\"this\n"),
        Ending::Truncated(by) => {
            let len = bytes.len();
            bytes.truncate(len - usize::from(by) % (len + 1));
        }
        Ending::Nul => bytes.extend_from_slice(b"\0 ignored 1\n"),
        _ => {}
    }
    bytes
}

fn write_line(text: &mut String, line: &Line, dialect: Dialect, timestamp_ms: i64) {
    use std::fmt::Write;
    let openmetrics = dialect == Dialect::OpenMetrics;
    let name = line.name;
    let family = name.trim_end_matches("_bucket").trim_end_matches("_total");
    match line.comments {
        0 => {}
        1 => writeln!(text, "# HELP {family} one\n# TYPE {family} counter").unwrap(),
        2 => writeln!(text, "# HELP {family} two").unwrap(),
        3 => writeln!(text, "# TYPE {family} histogram").unwrap(),
        4 => writeln!(text, "# TYPE {family} summary").unwrap(),
        5 => writeln!(text, "# TYPE {family} gauge\n# HELP {family} \\\\x\\n").unwrap(),
        6 if !openmetrics => text.push_str("\n\n"),
        7 if !openmetrics => text.push_str("# just a comment\n"),
        8 if !openmetrics => text.push_str("   # HELP\n"),
        9 => writeln!(text, "# TYPE {family} unknown").unwrap(),
        10 if openmetrics => writeln!(text, "# UNIT {family} {family}").unwrap(),
        _ if !openmetrics => text.push_str("#\r\n"),
        _ => {}
    }
    let space = if line.style == 1 && !openmetrics {
        "  \t"
    } else {
        " "
    };
    if line.style == 2 {
        write!(text, "{{\"{name}\"").unwrap();
        for (label, value) in &line.labels {
            write!(text, ",{label}=\"{value}\"").unwrap();
        }
        text.push('}');
    } else {
        text.push_str(name);
        if !line.labels.is_empty() {
            let pairs = line
                .labels
                .iter()
                .map(|(label, value)| format!("{label}=\"{value}\""));
            let pairs: Vec<_> = pairs.collect();
            let comma = if line.style == 3 && !openmetrics {
                " , "
            } else {
                ","
            };
            write!(text, "{{{}}}", pairs.join(comma)).unwrap();
        }
    }
    let value = match line.value % 7 {
        0 => "NaN".to_owned(),
        1 => "+Inf".to_owned(),
        2 => format!("{}e-3", line.value),
        3 => format!("{}.25", line.value),
        _ => line.value.to_string(),
    };
    write!(text, "{space}{value}").unwrap();
    if let Some(time) = line.time {
        let at = timestamp_ms + time;
        match openmetrics {
            true => write!(text, " {}.{:03}", at / 1000, at % 1000).unwrap(),
            false => write!(text, "{space}{at}").unwrap(),
        }
    }
    if openmetrics && line.exemplar > 0 {
        let label = match line.exemplar {
            7 => format!("{{trace=\"{}\"}}", "é".repeat(124)),
            6 => "{}".to_owned(),
            n => format!("{{trace=\"{}\"}}", n % 3),
        };
        write!(text, " # {label} {}", line.exemplar).unwrap();
        if line.exemplar % 2 == 1 {
            write!(text, " {}", timestamp_ms / 1000 - i64::from(line.exemplar)).unwrap();
        }
    }
    text.push_str(if line.style == 4 && !openmetrics {
        " \n"
    } else {
        "\n"
    });
}
