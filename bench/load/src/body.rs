//! Families and a place in the cycle -> the bytes of a response body, plain or as one gzip member.
//!
//! A body is a short **front** that differs per response (the absolute count) and a **rest** that
//! like
//! targets share and that is therefore compressed once. In gzip the front is a stored block, so
//! that
//! the compressed rest can follow it unchanged: a stored block ends at a byte boundary and deflate
//! never refers back further than the block's own history allows (RFC 1951 3.2.4). The checksum of
//! both together is the combination of their own (RFC 1952 8).

use std::sync::Arc;

use libdeflater::{CompressionLvl, Compressor};

use crate::gofloat::{write_go_g, write_openmetrics};
use crate::profile::{Family, Kind, scatter};
use crate::scheme::{CYCLE, RESPONSES, Shape, identity, label_hash, law, responses_value, shape};

/// Exposition formats that the fleet speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

/// Series that are replaced while the cycle goes round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Churn {
    /// Places that a series lives; at least 1.
    pub(crate) life: u32,
    /// Every `nth` series is replaced at the end of its life; 1 is all.
    pub(crate) nth: u32,
}

impl Churn {
    /// The life and share of series that replace `percent` of all series per scrape; `None` for 0.
    pub(crate) fn from_percent(percent: f64) -> Option<Churn> {
        if percent <= 0.0 {
            return None;
        }
        let life = (100.0 / percent).round().clamp(1.0, 20.0);
        let nth = (100.0 / (percent * life)).round().max(1.0);
        Some(Churn {
            life: life as u32,
            nth: nth as u32,
        })
    }
}

enum Piece {
    /// Ranges of `text`: the comments in text format and in OpenMetrics.
    Comments([(u32, u32); 2]),
    /// Range of `text` with name and labels, the closing brace not included.
    Sample {
        text: (u32, u32),
        labelled: bool,
        label_hash_sum: u64,
        shape: Shape,
    },
}

/// What all targets of a fleet have in common; renders bodies.
pub(crate) struct Skeleton {
    text: Vec<u8>,
    pieces: Vec<Piece>,
    cycle: u32,
    churn: Option<Churn>,
}

/// The shared rest of a body in one encoding.
#[derive(Clone)]
pub(crate) struct Rest {
    /// Plain text, or a deflate stream when compressed.
    pub(crate) bytes: Arc<[u8]>,
    plain_len: u64,
    crc: u32,
}

impl Skeleton {
    /// `cycle` in responses, `1..=CYCLE_MAX`; a multiple of `churn.life` if series churn.
    pub(crate) fn new(families: &[Family], cycle: u32, churn: Option<Churn>) -> Skeleton {
        let mut skeleton = Skeleton {
            text: Vec::new(),
            pieces: Vec::new(),
            cycle,
            churn,
        };
        for family in families {
            let classic = skeleton.add(|out| comments(out, family, family.name));
            let name = match family.kind {
                Kind::Counter => family.name.trim_end_matches("_total"),
                _ => family.name,
            };
            let open = skeleton.add(|out| comments_openmetrics(out, family, name));
            skeleton.pieces.push(Piece::Comments([classic, open]));
            for sample in &family.samples {
                let mut sum = label_hash(b"__name__", sample.name.as_bytes());
                let text = skeleton.add(|out| {
                    out.extend_from_slice(sample.name.as_bytes());
                    for (place, (name, value)) in sample.labels.iter().enumerate() {
                        out.push(if place == 0 { b'{' } else { b',' });
                        write_label(out, name, value);
                        sum = sum.wrapping_add(label_hash(name.as_bytes(), value.as_bytes()));
                    }
                });
                skeleton.pieces.push(Piece::Sample {
                    text,
                    labelled: !sample.labels.is_empty(),
                    label_hash_sum: sum,
                    shape: shape(sample.name.as_bytes()),
                });
            }
        }
        skeleton
    }

    fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> (u32, u32) {
        let start = self.text.len() as u32;
        write(&mut self.text);
        (start, self.text.len() as u32)
    }

    /// Cycle length in responses.
    pub(crate) fn cycle(&self) -> u32 {
        self.cycle
    }

    /// Changes the cycle length; bodies rendered before are then void.
    pub(crate) fn set_cycle(&mut self, cycle: u32) {
        self.cycle = cycle;
    }

    /// Appends the rest of the body at `place`. `host` is a label that every series of an unlike
    /// target carries.
    pub(crate) fn render(&self, place: u32, format: Format, host: Option<&str>, out: &mut Vec<u8>) {
        let host_hash = host.map_or(0, |host| label_hash(b"host", host.as_bytes()));
        let at = |(from, to): (u32, u32)| &self.text[from as usize..to as usize];
        let mut index = 0u32;
        for piece in &self.pieces {
            let (text, labelled, sum, shape) = match piece {
                Piece::Comments([classic, open]) => {
                    out.extend_from_slice(at(if format == Format::Text {
                        *classic
                    } else {
                        *open
                    }));
                    continue;
                }
                Piece::Sample {
                    text,
                    labelled,
                    label_hash_sum,
                    shape,
                } => (*text, *labelled, *label_hash_sum, *shape),
            };
            out.extend_from_slice(at(text));
            let mut sum = sum;
            let mut open = labelled;
            if let Some(host) = host {
                out.push(if open { b',' } else { b'{' });
                write_label(out, "host", host);
                sum = sum.wrapping_add(host_hash);
                open = true;
            }
            if let Some(churn) = self.churn.filter(|churn| index.is_multiple_of(churn.nth)) {
                out.push(if open { b',' } else { b'{' });
                let round = (place + index / churn.nth) % self.cycle / churn.life;
                let value = container(index, round);
                write_label(out, "container_id", &value);
                sum = sum.wrapping_add(label_hash(b"container_id", value.as_bytes()));
                open = true;
            }
            out.extend_from_slice(if open { b"} " } else { b" " });
            self.value(law(shape, identity(sum)).at(place), format, out);
            index += 1;
        }
        let cycle = label_hash(b"__name__", CYCLE.as_bytes());
        debug_assert_ne!(cycle, 0);
        out.extend_from_slice(
            format!(
                "# HELP {CYCLE} Responses after which the bodies repeat.\n# TYPE {CYCLE} gauge\n"
            )
            .as_bytes(),
        );
        out.extend_from_slice(CYCLE.as_bytes());
        if let Some(host) = host {
            out.push(b'{');
            write_label(out, "host", host);
            out.push(b'}');
        }
        out.push(b' ');
        self.value(f64::from(self.cycle), format, out);
        if format == Format::OpenMetrics {
            out.extend_from_slice(b"# EOF\n");
        }
    }

    fn value(&self, value: f64, format: Format, out: &mut Vec<u8>) {
        match format {
            Format::Text => write_go_g(out, value),
            Format::OpenMetrics => write_openmetrics(out, value),
        }
        out.push(b'\n');
    }
}

/// The front of response `n` of `target`: one family of one series.
pub(crate) fn front(target: u32, n: u64, format: Format, host: Option<&str>, out: &mut Vec<u8>) {
    let family = match format {
        Format::Text => RESPONSES,
        Format::OpenMetrics => RESPONSES.trim_end_matches("_total"),
    };
    out.extend_from_slice(b"# HELP ");
    out.extend_from_slice(family.as_bytes());
    out.extend_from_slice(
        b" Responses completed, this one included, plus a million times the target.\n",
    );
    out.extend_from_slice(b"# TYPE ");
    out.extend_from_slice(family.as_bytes());
    out.extend_from_slice(b" counter\n");
    out.extend_from_slice(RESPONSES.as_bytes());
    if let Some(host) = host {
        out.push(b'{');
        write_label(out, "host", host);
        out.push(b'}');
    }
    out.push(b' ');
    match format {
        Format::Text => write_go_g(out, responses_value(target, n)),
        Format::OpenMetrics => write_openmetrics(out, responses_value(target, n)),
    }
    out.push(b'\n');
}

/// The host label of an unlike target.
pub(crate) fn host(target: u32) -> String {
    let id = scatter(u64::from(target));
    format!(
        "ip-10-{}-{}-{:08x}.eu-west-1.compute.internal",
        id & 255,
        id >> 8 & 255,
        target
    )
}

fn container(index: u32, round: u32) -> String {
    let id = scatter(u64::from(index) << 32 | u64::from(round));
    format!("containerd://{id:016x}{index:08x}")
}

fn write_label(out: &mut Vec<u8>, name: &str, value: &str) {
    debug_assert!(
        !value.contains(['"', '\\', '\n']),
        "BUG: value of {name} needs escaping"
    );
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

fn comments(out: &mut Vec<u8>, family: &Family, name: &str) {
    let kind = match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
        Kind::Summary => "summary",
        Kind::Untyped => "untyped",
    };
    out.extend_from_slice(
        format!("# HELP {name} {}\n# TYPE {name} {kind}\n", family.help).as_bytes(),
    );
}

fn comments_openmetrics(out: &mut Vec<u8>, family: &Family, name: &str) {
    let start = out.len();
    comments(out, family, name);
    if family.kind == Kind::Untyped {
        out.truncate(out.len() - "untyped\n".len());
        out.extend_from_slice(b"unknown\n");
    }
    debug_assert!(out.len() > start);
}

/// Compresses rests and puts fronts before them.
pub(crate) struct Encoder {
    compressor: Compressor,
}

impl Encoder {
    /// Level 1: what is compressed once and sent often should still be cheap to make.
    pub(crate) fn new() -> Encoder {
        let level = CompressionLvl::new(1).expect("BUG: level 1 exists");
        Encoder {
            compressor: Compressor::new(level),
        }
    }

    /// Takes a rendered rest as it is or compressed.
    pub(crate) fn rest(&mut self, plain: &[u8], gzip: bool) -> Rest {
        let plain_len = plain.len() as u64;
        if !gzip {
            return Rest {
                bytes: plain.into(),
                plain_len,
                crc: 0,
            };
        }
        let mut out = vec![0; self.compressor.deflate_compress_bound(plain.len())];
        let length = self
            .compressor
            .deflate_compress(plain, &mut out)
            .expect("BUG: the bound is enough by its contract");
        Rest {
            bytes: out[..length].into(),
            plain_len,
            crc: crc32fast::hash(plain),
        }
    }
}

/// Bytes before and after [`Rest::bytes`] that make the gzip member of `front` and rest.
///
/// `front.len()` at most 65,535. Layout: header 10, stored block header 5, front | rest | crc32 4,
/// length 4.
pub(crate) fn gzip_around(front: &[u8], rest: &Rest) -> (Vec<u8>, [u8; 8]) {
    let length = u16::try_from(front.len()).expect("BUG: a front is one line and its comments");
    let mut before = Vec::with_capacity(15 + front.len());
    before.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255]);
    before.push(0);
    before.extend_from_slice(&length.to_le_bytes());
    before.extend_from_slice(&(!length).to_le_bytes());
    before.extend_from_slice(front);
    let mut crc = crc32fast::Hasher::new();
    crc.update(front);
    crc.combine(&crc32fast::Hasher::new_with_initial_len(
        rest.crc,
        rest.plain_len,
    ));
    let mut after = [0; 8];
    after[..4].copy_from_slice(&crc.finalize().to_le_bytes());
    let total = front.len() as u64 + rest.plain_len;
    after[4..].copy_from_slice(&(total as u32).to_le_bytes());
    (before, after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Profile, families};
    use std::collections::HashSet;
    use std::io::Read as _;

    fn body(skeleton: &Skeleton, place: u32, format: Format, host: Option<&str>) -> String {
        let mut out = Vec::new();
        front(7, 1, format, host, &mut out);
        skeleton.render(place, format, host, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn series(body: &str) -> Vec<&str> {
        let lines = body.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.rsplit_once(' ').unwrap().0).collect()
    }

    #[test]
    fn gzip_member_is_front_and_rest() {
        let skeleton = Skeleton::new(&families(Profile::Node, 300), 256, None);
        let mut rest = Vec::new();
        skeleton.render(3, Format::Text, None, &mut rest);
        let mut first = Vec::new();
        front(5, 9, Format::Text, None, &mut first);
        let encoded = Encoder::new().rest(&rest, true);
        let (before, after) = gzip_around(&first, &encoded);
        let member = [&before, &encoded.bytes[..], &after].concat();
        let expected = [first, rest].concat();
        // Two readers of gzip: a streaming one and one that takes the member at once.
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(&member[..])
            .read_to_end(&mut out)
            .unwrap();
        assert_eq!(out, expected);
        let mut out = vec![0; expected.len()];
        let length = libdeflater::Decompressor::new()
            .gzip_decompress(&member, &mut out)
            .unwrap();
        assert_eq!((length, out), (expected.len(), expected));
    }

    #[test]
    fn formats_expose_the_same_series_and_values() {
        let skeleton = Skeleton::new(&families(Profile::Node, 500), 256, None);
        let text = body(&skeleton, 9, Format::Text, None);
        let open = body(&skeleton, 9, Format::OpenMetrics, None);
        assert_eq!(series(&text), series(&open));
        assert_eq!(series(&text).len(), 502);
        let values = |body: &str| {
            let lines = body
                .lines()
                .filter(|line| !line.starts_with('#'))
                .map(str::to_owned);
            lines
                .map(|line| {
                    line.rsplit_once(' ')
                        .unwrap()
                        .1
                        .parse::<f64>()
                        .unwrap()
                        .to_bits()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(values(&text), values(&open));
        assert!(open.ends_with("# EOF\n") && !text.contains("EOF"));
        assert!(open.contains("# TYPE node_forks counter\n"));
        assert!(text.contains("# TYPE node_forks_total counter\n"));
        assert!(!open.contains("untyped"));
    }

    #[test]
    fn churn_replaces_the_asked_share() {
        for (percent, expected) in [(5.0, 50.0), (1.0, 10.0), (50.0, 500.0), (0.5, 5.0)] {
            let churn = Churn::from_percent(percent).unwrap();
            let cycle = 256 / churn.life * churn.life;
            let skeleton = Skeleton::new(&families(Profile::Churn, 1000), cycle, Some(churn));
            let mut replaced = 0;
            for place in 0..cycle {
                let next = (place + 1) % cycle;
                let (a, b) = (
                    body(&skeleton, place, Format::Text, None),
                    body(&skeleton, next, Format::Text, None),
                );
                let a: HashSet<_> = series(&a).into_iter().collect();
                replaced += series(&b)
                    .into_iter()
                    .filter(|name| !a.contains(name))
                    .count();
            }
            let mean = replaced as f64 / f64::from(cycle);
            assert!(
                (mean - expected).abs() <= expected * 0.1,
                "{percent}: {mean}"
            );
        }
        assert_eq!(Churn::from_percent(0.0), None);
    }

    #[test]
    fn unlike_targets_share_no_series() {
        let skeleton = Skeleton::new(&families(Profile::Node, 100), 256, None);
        let (a, b) = (
            body(&skeleton, 1, Format::Text, Some(&host(1))),
            body(&skeleton, 1, Format::Text, Some(&host(2))),
        );
        let a: HashSet<_> = series(&a).into_iter().collect();
        assert!(series(&b).into_iter().all(|name| !a.contains(name)));
        assert_eq!(a.len(), 102);
    }
}
