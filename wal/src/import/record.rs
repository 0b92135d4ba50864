//! One record -> what it says of series, samples, histograms and exemplars.

use super::bytes::Bytes;
use super::histogram::take_histogram;

/// What is told of the content of records, in order.
pub trait Visitor {
    /// From now on this number stands for a series with these labels.
    fn series(&mut self, number: u64, labels: &[(&str, &str)]);
    /// A float sample.
    fn sample(&mut self, sample: Sample);
    /// A native histogram, as `Histogram` of remote write 1.0 without its timestamp.
    fn histogram(&mut self, number: u64, timestamp_ms: i64, bytes: &[u8]);
    /// An exemplar.
    fn exemplar(&mut self, sample: Sample, labels: &[(&str, &str)]);
}

/// A float sample of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Of the series.
    pub number: u64,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// When what the sample counts began, if that is known.
    pub start_ms: Option<i64>,
    /// The value, with its bits.
    pub value: f64,
}

/// What kind of a record it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Labels of series.
    Series,
    /// Float samples: all of one append.
    Samples,
    /// Native histograms.
    Histograms,
    /// Exemplars.
    Exemplars,
    /// What is not sent: metadata, tombstones, marks of other files.
    Other,
}

/// Why a record was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordFault {
    /// Of a type that this release does not know.
    Unknown(u8),
    /// It breaks the rules of its type; what came before that was told.
    Malformed,
}

/// Reads one record.
///
/// # Errors
/// It is of an unknown type, or malformed.
pub fn read(record: &[u8], visitor: &mut dyn Visitor) -> Result<Kind, RecordFault> {
    let mut bytes = Bytes(record);
    let number = bytes.byte().ok_or(RecordFault::Malformed)?;
    let kind = kind_of(number).ok_or(RecordFault::Unknown(number))?;
    let done = match number {
        1 => series(&mut bytes, visitor),
        2 | 4 | 7..=10 => old_form(&mut bytes, number, visitor),
        11..=13 => new_form(&mut bytes, number, visitor),
        _ => Some(()),
    };
    done.map(|()| kind).ok_or(RecordFault::Malformed)
}

/// The kind of a record that begins with this byte.
fn kind_of(number: u8) -> Option<Kind> {
    Some(match number {
        1 => Kind::Series,
        2 | 11 => Kind::Samples,
        4 => Kind::Exemplars,
        7..=10 | 12 | 13 => Kind::Histograms,
        // Tombstones, marks of mapped chunks, metadata, the time of a truncation.
        3 | 5 | 6 | 14 => Kind::Other,
        _ => return None,
    })
}

/// The kind of a record, without reading it.
pub fn kind(record: &[u8]) -> Option<Kind> {
    kind_of(*record.first()?)
}

fn series(bytes: &mut Bytes<'_>, visitor: &mut dyn Visitor) -> Option<()> {
    while !bytes.is_empty() {
        let number = bytes.fixed()?;
        let labels = bytes.labels()?;
        visitor.series(number, &labels);
    }
    Some(())
}

/// Series and time as differences to those at the beginning.
fn old_form(bytes: &mut Bytes<'_>, kind: u8, visitor: &mut dyn Visitor) -> Option<()> {
    if bytes.is_empty() {
        return Some(());
    }
    let first_number = bytes.fixed()?;
    let first_ms = bytes.fixed()? as i64;
    while !bytes.is_empty() {
        let number = first_number.wrapping_add_signed(bytes.signed()?);
        let timestamp_ms = first_ms.wrapping_add(bytes.signed()?);
        let at = At {
            number,
            timestamp_ms,
            start_ms: None,
        };
        item(bytes, kind, at, visitor)?;
    }
    Some(())
}

/// The first one whole; then the series as a difference to the one before, the time to the first.
fn new_form(bytes: &mut Bytes<'_>, kind: u8, visitor: &mut dyn Visitor) -> Option<()> {
    if bytes.is_empty() {
        return Some(());
    }
    let mut number = bytes.signed()? as u64;
    let first_ms = bytes.signed()?;
    let first_start_ms = bytes.signed()?;
    let mut timestamp_ms = first_ms;
    let mut start_ms = first_start_ms;
    loop {
        let at = At {
            number,
            timestamp_ms,
            start_ms: (start_ms != 0).then_some(start_ms),
        };
        item(bytes, kind, at, visitor)?;
        if bytes.is_empty() {
            return Some(());
        }
        number = number.wrapping_add_signed(bytes.signed()?);
        timestamp_ms = first_ms.wrapping_add(bytes.signed()?);
        start_ms = match bytes.byte()? {
            0 => 0,
            1 => start_ms,
            _ => first_start_ms.wrapping_add(bytes.signed()?),
        };
    }
}

#[derive(Clone, Copy)]
struct At {
    number: u64,
    timestamp_ms: i64,
    start_ms: Option<i64>,
}

/// What follows series and times.
fn item(bytes: &mut Bytes<'_>, kind: u8, at: At, visitor: &mut dyn Visitor) -> Option<()> {
    match kind {
        2 | 4 | 11 => {
            let sample = Sample {
                number: at.number,
                timestamp_ms: at.timestamp_ms,
                start_ms: at.start_ms,
                value: f64::from_bits(bytes.fixed()?),
            };
            match kind {
                4 => visitor.exemplar(sample, &bytes.labels()?),
                _ => visitor.sample(sample),
            }
        }
        _ => {
            let is_float = matches!(kind, 8 | 10 | 13);
            let mut histogram = Vec::new();
            take_histogram(bytes, is_float, &mut histogram)?;
            visitor.histogram(at.number, at.timestamp_ms, &histogram);
        }
    }
    Some(())
}
