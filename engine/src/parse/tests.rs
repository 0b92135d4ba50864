//! Tests of the parser: helpers; the cases stand in the files below.

mod numbers;
mod openmetrics_rules;
mod properties;
mod text_rules;

use super::*;
use crate::labels::Value;

/// A sample with its labels decoded, in a form that reads well in a table.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    /// `name{a="b",…}`, sorted, unescaped.
    series: String,
    /// Bits, so that NaN equals itself.
    value: u64,
    timestamp_ms: Option<i64>,
    exemplar: Option<String>,
}

/// All pieces of a whole body, and its tail.
fn pieces(dialect: Dialect, body: &[u8]) -> Result<(Vec<Piece<'_>>, &[u8]), ParseError> {
    let mut at = 0;
    let mut pieces = Vec::new();
    loop {
        match next_piece(dialect, &body[at..], true) {
            Ok(Next::Sample(piece)) => {
                assert!(piece.len > piece.prefix.len() && piece.len <= body.len() - at);
                at += piece.len;
                pieces.push(piece);
            }
            Ok(Next::End { tail }) => return Ok((pieces, tail)),
            Ok(Next::NeedMore) => panic!("more bytes than all"),
            Err(mut error) => {
                error.offset += at;
                return Err(error);
            }
        }
    }
}

/// Parses a whole body as a scrape does, labels included.
fn rows(dialect: Dialect, body: &str) -> Result<Vec<Row>, String> {
    rows_of_bytes(dialect, body.as_bytes())
}

fn rows_of_bytes(dialect: Dialect, body: &[u8]) -> Result<Vec<Row>, String> {
    let (pieces, _tail) = pieces(dialect, body).map_err(|error| error.to_string())?;
    let mut kind = FamilyKind::Unknown;
    let mut labels = LabelsBuilder::new();
    let mut rows = Vec::new();
    for piece in pieces {
        kind = kind_in_force(dialect, piece.prefix, kind);
        series_labels(dialect, piece.series, kind, &mut labels).map_err(|e| e.to_string())?;
        rows.push(Row {
            series: shown(&labels),
            value: piece.value.to_bits(),
            timestamp_ms: piece.timestamp_ms,
            exemplar: piece.exemplar.map(|exemplar| {
                let Exemplar {
                    labels,
                    value,
                    timestamp_ms,
                } = exemplar;
                format!("{:?} {value} {timestamp_ms:?}", exemplar_labels(labels))
            }),
        });
    }
    Ok(rows)
}

fn shown(labels: &LabelsBuilder) -> String {
    let pair = |(name, value): (&str, &Value)| match value {
        Value::Text(text) => format!("{name}={text:?}"),
        Value::Target(_) => panic!("a hole"),
    };
    let pairs: Vec<String> = labels.iter().map(pair).collect();
    pairs.join(",")
}

fn row(series: &str, value: f64) -> Row {
    Row {
        series: series.to_owned(),
        value: value.to_bits(),
        timestamp_ms: None,
        exemplar: None,
    }
}
