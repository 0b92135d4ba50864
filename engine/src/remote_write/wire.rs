//! Protobuf fields of remote write 1.0 <-> bytes: only what sending needs, written by hand.
//!
//! Source: prometheus/prometheus prompb/remote.proto and prompb/types.proto;
//! encoding: <https://protobuf.dev/programming-guides/encoding/>.

pub(super) use crate::protobuf::{
    Malformed, field_len, get_content, get_varint, put_bytes, put_varint, varint_len,
};
use std::ops::Range;

/// `WriteRequest.timeseries` and `TimeSeries.labels`: field 1, length-delimited.
pub(super) const TAG_FIELD_1: u8 = 0x0a;
/// `TimeSeries.samples`: field 2, length-delimited.
pub(super) const TAG_SAMPLES: u8 = 0x12;
/// `TimeSeries.exemplars` and `WriteRequest.metadata`: field 3, length-delimited.
pub(super) const TAG_FIELD_3: u8 = 0x1a;
/// `TimeSeries.histograms`: field 4, length-delimited.
pub(super) const TAG_HISTOGRAMS: u8 = 0x22;

/// Appends one label as a `labels` field: `0x0a len { 0x0a len name 0x12 len value }`.
pub(super) fn put_label(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(TAG_FIELD_1);
    let len = field_len(name.len()) + field_len(value.len());
    put_varint(out, len as u64);
    put_bytes(out, 0x0a, name.as_bytes());
    put_bytes(out, 0x12, value.as_bytes());
}

fn get_field(bytes: &[u8], tag: u8, at: &mut usize) -> Result<Range<usize>, Malformed> {
    if bytes.get(*at) != Some(&tag) {
        return Err(Malformed);
    }
    *at += 1;
    get_content(bytes, at)
}

/// Reads the `labels` field at `at`: name and value. `at` moves past it.
///
/// # Errors
/// `Malformed` if no complete label with UTF-8 name and value stands there.
pub(super) fn get_label<'a>(
    bytes: &'a [u8],
    at: &mut usize,
) -> Result<(&'a str, &'a str), Malformed> {
    let content = get_field(bytes, TAG_FIELD_1, at)?;
    let label = &bytes[content];
    let mut inner = 0;
    let name = get_field(label, 0x0a, &mut inner)?;
    let value = get_field(label, 0x12, &mut inner)?;
    if inner != label.len() {
        return Err(Malformed);
    }
    let text = |range: Range<usize>| std::str::from_utf8(&label[range]).map_err(|_| Malformed);
    Ok((text(name)?, text(value)?))
}

/// Where the parts of a `labels` field are: `0x0a len` **name_field** `0x0a len` **name** `0x12`
/// **value_len** `len` **value** … **end**.
pub(super) struct LabelParts {
    pub(super) name_field: usize,
    pub(super) name: Range<usize>,
    pub(super) value_len: usize,
    pub(super) value: usize,
    pub(super) end: usize,
}

/// The parts of the `labels` field at `at`; `None` if no complete one stands there.
pub(super) fn label_parts(bytes: &[u8], at: usize) -> Option<LabelParts> {
    let mut at = at;
    let content = get_field(bytes, TAG_FIELD_1, &mut at).ok()?;
    let mut inner = content.start;
    let name = get_field(bytes, 0x0a, &mut inner).ok()?;
    let value_len = inner + 1;
    let value = get_field(bytes, 0x12, &mut inner).ok()?;
    (inner == content.end).then_some(LabelParts {
        name_field: content.start,
        name,
        value_len,
        value: value.start,
        end: content.end,
    })
}

/// Walks the `timeseries` of an encoded `WriteRequest`.
///
/// Yields, per series, the range of the whole field in `raw` (tag included) and the range of its
/// label fields. Stops at the first byte that is not a `timeseries` field.
pub(super) struct SeriesWalk<'a> {
    raw: &'a [u8],
    at: usize,
}

impl<'a> SeriesWalk<'a> {
    pub(super) fn new(raw: &'a [u8]) -> Self {
        Self { raw, at: 0 }
    }
}

impl Iterator for SeriesWalk<'_> {
    type Item = (Range<usize>, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at;
        let content = get_field(self.raw, TAG_FIELD_1, &mut self.at).ok()?;
        let mut labels_end = content.start;
        while labels_end < content.end && self.raw[labels_end] == TAG_FIELD_1 {
            let mut at = labels_end;
            get_field(self.raw, TAG_FIELD_1, &mut at).ok()?;
            labels_end = at;
        }
        Some((start..content.end, content.start..labels_end))
    }
}

/// Label fields as text, `{a="b", c="d"}`, cut to about `len_max` bytes: for logs.
pub(super) fn labels_text(labels: &[u8], len_max: usize) -> String {
    let mut text = String::from("{");
    let mut at = 0;
    while at < labels.len() {
        let Ok((name, value)) = get_label(labels, &mut at) else {
            text.push_str("<malformed>");
            break;
        };
        if text.len() > 1 {
            text.push_str(", ");
        }
        if text.len() + name.len() + value.len() > len_max {
            text.push('…');
            break;
        }
        text.push_str(name);
        text.push_str(&format!("={value:?}"));
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_bytes_are_malformed_not_a_panic() {
        let mut label = Vec::new();
        put_label(&mut label, "job", "node");
        for cut in 0..label.len() {
            assert_eq!(get_label(&label[..cut], &mut 0), Err(Malformed), "{cut}");
        }
        let huge = [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(get_label(&huge, &mut 0), Err(Malformed));
        assert_eq!(SeriesWalk::new(&huge).count(), 0);
    }

    #[test]
    fn labels_are_shown_as_text() {
        let mut labels = Vec::new();
        put_label(&mut labels, "__name__", "up");
        put_label(&mut labels, "job", "a\"b");
        assert_eq!(labels_text(&labels, 100), r#"{__name__="up", job="a\"b"}"#);
        assert_eq!(labels_text(&labels, 14), r#"{__name__="up", …}"#);
    }
}
