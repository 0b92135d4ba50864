//! The parser against a plain model: bodies are generated together with what they mean.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::fuzz;

/// A body's text and its meaning.
#[derive(Debug, Clone)]
struct Body {
    text: String,
    rows: Vec<Row>,
}

/// One sample with the lines before it.
#[derive(Debug, Clone)]
struct Line {
    comments: String,
    kind: Option<FamilyKind>,
    series: String,
    labels: Vec<(String, String)>,
    value: (String, f64),
    timestamp: Option<(String, i64)>,
    /// Its text, and how a test shows it.
    exemplar: Option<(String, String)>,
}

fn metric_name() -> impl Strategy<Value = String> {
    "[a-zA-Z_:][a-zA-Z0-9_:]{0,12}"
}

fn label_name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z_][a-zA-Z0-9_]{0,8}".prop_map(|name| name),
        1 => Just("le".to_owned()),
        1 => Just("quantile".to_owned()),
    ]
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-z0-9/._-]{0,10}",
        1 => "[\\\\\"n\n{},=# ü€\r\t]{0,8}",
        1 => "[0-9]{1,3}(\\.[0-9]{1,3})?",
    ]
}

/// A text between quotes; `n` stands for the escapes that the value needs.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('\n', "\\n"))
}

fn number() -> impl Strategy<Value = (String, f64)> {
    prop_oneof![
        any::<i32>().prop_map(|value| (value.to_string(), f64::from(value))),
        (0..1_000_000_i64).prop_map(|value| {
            let value = value as f64 / 1000.0;
            (format!("{value}"), value)
        }),
        any::<f64>().prop_map(|value| {
            let value = if value.is_nan() { 0.5 } else { value };
            (format!("{value:e}"), value)
        }),
        select(vec![
            ("NaN".to_owned(), f64::from_bits(0x7ff8_0000_0000_0001)),
            ("+Inf".to_owned(), f64::INFINITY),
            ("-inf".to_owned(), f64::NEG_INFINITY),
        ]),
    ]
}

/// The label list as exposed and what it means; names are unique.
fn label_list(dialect: Dialect) -> impl Strategy<Value = (String, Vec<(String, String)>, bool)> {
    let label = (label_name(), any_text(), any::<bool>(), any_blank(dialect));
    let name = (metric_name(), "[.ü -]{0,2}", any::<bool>());
    let labels = proptest::collection::vec(label, 0..5);
    (name, labels, any::<bool>(), any_blank(dialect)).prop_map(
        move |((name, odd, inside), mut labels, trailing, blank)| {
            let mut seen = std::collections::BTreeSet::new();
            labels.retain(|(name, ..)| seen.insert(name.clone()));
            let inside = inside || !odd.is_empty();
            let full = if inside { name + &odd } else { name };
            let mut parts = Vec::new();
            if inside {
                parts.push(quoted(&full));
            }
            let mut meaning = vec![("__name__".to_owned(), full.clone())];
            for (name, value, quote, blank) in labels {
                let shown = if quote { quoted(&name) } else { name.clone() };
                parts.push(format!("{shown}{blank}={blank}{}", quoted(&value)));
                meaning.push((name, value));
            }
            let comma = if trailing && !parts.is_empty() {
                ","
            } else {
                ""
            };
            let list = format!(
                "{{{blank}{}{comma}{blank}}}",
                parts.join(&format!("{blank},{blank}"))
            );
            let head = if inside { String::new() } else { full };
            let bare = parts.is_empty() && trailing;
            let series = if bare {
                head
            } else {
                format!("{head}{blank}{list}")
            };
            (series, meaning, inside)
        },
    )
}

/// Blanks where the text format takes them.
fn any_blank(dialect: Dialect) -> impl Strategy<Value = String> {
    match dialect {
        Dialect::Text => "[ \t]{0,2}".boxed(),
        Dialect::OpenMetrics | Dialect::Protobuf => Just(String::new()).boxed(),
    }
}

fn comment(dialect: Dialect) -> BoxedStrategy<(String, Option<FamilyKind>)> {
    use FamilyKind::{Counter, Gauge, GaugeHistogram, Histogram, Info, Summary, Unknown};
    let help = (metric_name(), any_text()).prop_map(|(name, text)| {
        let text = text.replace('\\', "\\\\").replace('\n', "\\n");
        (format!("# HELP {name} {text}\n"), None)
    });
    let (words, others): (Vec<(&str, FamilyKind)>, Vec<&str>) = match dialect {
        Dialect::Text => (
            vec![("counter", Counter), ("gauge", Gauge), ("untyped", Unknown)],
            vec![
                "\n",
                " \t\n",
                "# any \\ thing\r\n",
                "#\n",
                "#HELP\n",
                "# TYPED x\n",
            ],
        ),
        Dialect::OpenMetrics | Dialect::Protobuf => (
            vec![
                ("info", Info),
                ("gaugehistogram", GaugeHistogram),
                ("unknown", Unknown),
            ],
            vec!["# UNIT a_b b\n", "# UNIT a \n"],
        ),
    };
    let words = [words, vec![("histogram", Histogram), ("summary", Summary)]].concat();
    let kind = (metric_name(), select(words))
        .prop_map(|(name, (word, kind))| (format!("# TYPE {name} {word}\n"), Some(kind)));
    let other = select(others).prop_map(|line| (line.to_owned(), None));
    prop_oneof![help, kind, other].boxed()
}

fn line(dialect: Dialect) -> impl Strategy<Value = Line> {
    let comments = proptest::collection::vec(comment(dialect), 0..3);
    let timestamp = prop_oneof![2 => Just(None), 1 => any::<u32>().prop_map(Some)];
    let exemplar = proptest::option::of((label_name(), any_text(), any::<i16>()));
    (comments, label_list(dialect), number(), timestamp, exemplar).prop_map(
        move |(comments, (series, labels, _), value, timestamp, exemplar)| {
            let om = dialect == Dialect::OpenMetrics;
            Line {
                kind: comments.iter().rev().find_map(|(_, kind)| *kind),
                comments: comments.into_iter().map(|(text, _)| text).collect(),
                series,
                labels,
                value,
                timestamp: timestamp.map(|ms| {
                    let seconds = format!("{}.{:03}", ms / 1000, ms % 1000);
                    // The same arithmetic as the specification of the format gives.
                    let from_float = (seconds.parse::<f64>().unwrap() * 1000.0) as i64;
                    let text = if om { seconds } else { ms.to_string() };
                    (text, if om { from_float } else { i64::from(ms) })
                }),
                exemplar: exemplar.filter(|_| om).map(|(name, text, value)| {
                    let shown = format!("{:?} {value} None", [(&name, &text)]);
                    (format!(" # {{{name}={}}} {value}", quoted(&text)), shown)
                }),
            }
        },
    )
}

fn body(dialect: Dialect) -> impl Strategy<Value = Body> {
    let lines = proptest::collection::vec((line(dialect), any_blank(dialect)), 0..6);
    let tail = proptest::collection::vec(comment(dialect), 0..2);
    (lines, tail, any::<bool>()).prop_map(move |(lines, tail, newline)| {
        let (mut text, mut rows) = (String::new(), Vec::new());
        let mut kind = FamilyKind::Unknown;
        for (line, blank) in lines {
            kind = line.kind.unwrap_or(kind);
            text += &format!("{}{blank}{} {}", line.comments, line.series, line.value.0);
            let mut row = row(&meaning(&line.labels, kind), line.value.1);
            if let Some((shown, timestamp_ms)) = line.timestamp {
                text += &format!(" {blank}{shown}");
                row.timestamp_ms = Some(timestamp_ms);
            }
            if let Some((shown, exemplar)) = line.exemplar {
                text += &shown;
                row.exemplar = Some(exemplar);
            }
            text += &format!("{blank}\n");
            rows.push(row);
        }
        text.extend(tail.into_iter().map(|(text, _)| text));
        if dialect == Dialect::OpenMetrics {
            text += "# EOF\n";
        }
        if !newline && text.ends_with('\n') {
            text.pop();
        }
        Body { text, rows }
    })
}

/// Labels as a series must show them: no empty ones, sorted, bounds in the form of a float.
fn meaning(labels: &[(String, String)], kind: FamilyKind) -> String {
    let mut builder = LabelsBuilder::new();
    for (name, value) in labels {
        let bound = match kind {
            FamilyKind::Histogram => name == "le",
            FamilyKind::Summary => name == "quantile",
            _ => false,
        };
        let number = value
            .parse::<f64>()
            .ok()
            .filter(|_| bound && !value.is_empty());
        let text = number.map_or(value.clone(), |number| format!("{number:?}"));
        builder.set_text(name, &text);
    }
    shown(&builder)
}

/// Gives the pieces of a body that arrives as two windows, cut at `cut`.
fn cut_at(dialect: Dialect, body: &[u8], cut: usize) -> Vec<Piece<'_>> {
    let (mut at, mut there, mut pieces) = (0, cut, Vec::new());
    loop {
        match next_piece(dialect, &body[at..there], there == body.len()).unwrap() {
            Next::NeedMore => {
                assert_ne!(there, body.len());
                there = body.len();
            }
            Next::Sample(piece) => {
                at += piece.len;
                pieces.push(piece);
            }
            Next::End { .. } => return pieces,
        }
    }
}

fn check_body(dialect: Dialect, body: &Body) -> Result<(), TestCaseError> {
    prop_assert_eq!(rows(dialect, &body.text), Ok(body.rows.clone()));
    let bytes = body.text.as_bytes();
    let (whole, tail) = pieces(dialect, bytes).unwrap();
    let used: usize = whole.iter().map(|piece| piece.len).sum();
    prop_assert_eq!(used + tail.len(), bytes.len());
    for cut in 0..bytes.len() {
        let parts: Vec<(&[u8], usize)> = cut_at(dialect, bytes, cut)
            .iter()
            .map(|piece| (piece.prefix, piece.len))
            .collect();
        let expected: Vec<(&[u8], usize)> = whole
            .iter()
            .map(|piece| (piece.prefix, piece.len))
            .collect();
        prop_assert_eq!(parts, expected, "cut at {}", cut);
    }
    check_bytes(bytes);
    Ok(())
}

fn check_bytes(bytes: &[u8]) {
    fuzz::text(bytes);
    fuzz::openmetrics(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn text_bodies_mean_what_they_say(body in body(Dialect::Text)) {
        check_body(Dialect::Text, &body)?;
    }

    #[test]
    fn openmetrics_bodies_mean_what_they_say(body in body(Dialect::OpenMetrics)) {
        check_body(Dialect::OpenMetrics, &body)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_bytes_keep_the_promises(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        check_bytes(&bytes);
    }

    /// Few letters, so that most of the grammar is met.
    #[test]
    fn near_misses_keep_the_promises(
        text in "([ab_]|\\{|\\}|[=\",1\n \t]|\"[a\\\\]?\"|# (TYPE|HELP|UNIT|EOF)?|\0|\r|é|1e5){0,24}"
    ) {
        check_bytes(text.as_bytes());
    }

    /// A good body with a few bytes changed, cut or doubled.
    #[test]
    fn damaged_bodies_keep_the_promises(
        body in prop_oneof![body(Dialect::Text), body(Dialect::OpenMetrics)],
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4), 0..4),
    ) {
        let mut bytes = body.text.into_bytes();
        for (index, byte, edit) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = index.index(bytes.len());
            match edit {
                0 => bytes[at] = byte,
                1 => bytes.truncate(at),
                2 => {
                    bytes.remove(at);
                }
                _ => bytes.insert(at, b"\n\" {}#\0\\"[byte as usize % 8]),
            }
        }
        check_bytes(&bytes);
    }
}
