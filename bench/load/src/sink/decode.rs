//! Bytes of a remote write 1.0 request -> its time series, borrowed, never copied.
//!
//! Source: prometheus `prompb/remote.proto` and `prompb/types.proto`; wire format per the protobuf
//! encoding guide. Labels must come before all else in a time series, as every sender writes them:
//! then the bytes of the labels are one slice and serve as the series' key.
//!
//! Hostile input yields an error, never a panic and never more work than its length.

/// What is wrong with a request's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A length or a number goes beyond the end of what holds it.
    #[error("the message ends in the middle of a field")]
    Truncated,
    /// A variable-length number has more than 64 bits.
    #[error("a number has more than 10 bytes")]
    Overlong,
    /// Wire type 3, 4, 6 or 7, a field number of 0, or a known field with another wire type.
    #[error("a field has a wire type that it cannot have")]
    WireType,
    /// A label follows a sample: legal, but no sender does it and the key would not be one slice.
    #[error("a label comes after a sample")]
    LateLabel,
}

type Result<T> = std::result::Result<T, DecodeError>;

/// One field: its number and its content.
enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// Reads fields off the front of a slice.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64> {
        // Most numbers are one byte long.
        if let [byte @ 0..=0x7f, rest @ ..] = self.0 {
            self.0 = rest;
            return Ok(u64::from(*byte));
        }
        let mut value = 0u64;
        for (place, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                if place == 9 && *byte > 1 {
                    return Err(DecodeError::Overlong);
                }
                self.0 = &self.0[place + 1..];
                return Ok(value);
            }
        }
        Err(if self.0.len() < 10 {
            DecodeError::Truncated
        } else {
            DecodeError::Overlong
        })
    }

    fn bytes(&mut self, length: u64) -> Result<&'a [u8]> {
        let length = usize::try_from(length).map_err(|_| DecodeError::Truncated)?;
        let (bytes, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn fixed64(&mut self) -> Result<u64> {
        let (bytes, rest) = self
            .0
            .split_first_chunk::<8>()
            .ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// The next field, or `None` at the end.
    fn field(&mut self) -> Result<Option<(u64, Field<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        if key >> 3 == 0 {
            return Err(DecodeError::WireType);
        }
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(self.fixed64()?),
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.bytes(length)?)
            }
            5 => {
                self.bytes(4)?;
                Field::Fixed32
            }
            _ => return Err(DecodeError::WireType),
        };
        Ok(Some((key >> 3, field)))
    }
}

/// One time series of a request.
#[derive(Clone, Copy)]
pub struct TimeSeries<'a> {
    /// The encoded label fields, back to back: the key of the series.
    pub labels: &'a [u8],
    rest: &'a [u8],
}

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Bits of the value.
    pub bits: u64,
    /// Milliseconds since the Unix epoch, signed.
    pub timestamp_ms: i64,
}

/// What a request held beside its samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Metadata entries.
    pub metadata: u64,
    /// Exemplars.
    pub exemplars: u64,
    /// Native histograms.
    pub histograms: u64,
}

/// The time series of a request; each is checked as it is reached.
pub struct WriteRequest<'a> {
    reader: Reader<'a>,
    /// Counts up while the series are read.
    pub extras: Extras,
}

impl<'a> WriteRequest<'a> {
    /// Reads an uncompressed request.
    pub fn new(bytes: &'a [u8]) -> WriteRequest<'a> {
        WriteRequest {
            reader: Reader(bytes),
            extras: Extras::default(),
        }
    }

    /// The next time series, or `None` at the end.
    ///
    /// # Errors
    /// What is wrong with the bytes; nothing after it can be read.
    pub fn next_series(&mut self) -> Result<Option<TimeSeries<'a>>> {
        while let Some((number, field)) = self.reader.field()? {
            match (number, field) {
                (1, Field::Bytes(bytes)) => return time_series(bytes).map(Some),
                (3, Field::Bytes(_)) => self.extras.metadata += 1,
                (1 | 3, _) => return Err(DecodeError::WireType),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Calls `each` for every sample of `series`, in order, and counts what else it holds.
    ///
    /// # Errors
    /// As [`WriteRequest::next_series`]; `each` has then been called for the samples before it.
    pub fn samples(&mut self, series: &TimeSeries<'a>, mut each: impl FnMut(Sample)) -> Result<()> {
        let mut reader = Reader(series.rest);
        while let Some((number, field)) = reader.field()? {
            match (number, field) {
                (2, Field::Bytes(bytes)) => each(sample(bytes)?),
                (3, Field::Bytes(_)) => self.extras.exemplars += 1,
                (4, Field::Bytes(_)) => self.extras.histograms += 1,
                (1, Field::Bytes(_)) => return Err(DecodeError::LateLabel),
                (1..=4, _) => return Err(DecodeError::WireType),
                _ => {}
            }
        }
        Ok(())
    }
}

fn time_series(bytes: &[u8]) -> Result<TimeSeries<'_>> {
    let mut reader = Reader(bytes);
    while let [0x0a, length, rest @ ..] = reader.0 {
        // Almost every label is shorter than 128 bytes.
        if *length < 0x80 {
            reader.0 = rest
                .get(usize::from(*length)..)
                .ok_or(DecodeError::Truncated)?;
        } else {
            reader.field()?;
        }
    }
    let (labels, rest) = bytes.split_at(bytes.len() - reader.0.len());
    Ok(TimeSeries { labels, rest })
}

fn sample(bytes: &[u8]) -> Result<Sample> {
    let mut sample = Sample {
        bits: 0,
        timestamp_ms: 0,
    };
    let mut reader = Reader(bytes);
    while let Some((number, field)) = reader.field()? {
        match (number, field) {
            (1, Field::Fixed64(bits)) => sample.bits = bits,
            (2, Field::Varint(value)) => sample.timestamp_ms = value as i64,
            (1 | 2, _) => return Err(DecodeError::WireType),
            _ => {}
        }
    }
    Ok(sample)
}

impl<'a> TimeSeries<'a> {
    /// The labels as (name, value), in the order of the request.
    ///
    /// # Errors
    /// As [`WriteRequest::next_series`].
    pub fn label_pairs(&self) -> Result<Vec<(&'a [u8], &'a [u8])>> {
        let mut pairs = Vec::new();
        let mut reader = Reader(self.labels);
        while let Some((_, field)) = reader.field()? {
            let Field::Bytes(bytes) = field else {
                return Err(DecodeError::WireType);
            };
            let (mut name, mut value): (&[u8], &[u8]) = (b"", b"");
            let mut label = Reader(bytes);
            while let Some((number, field)) = label.field()? {
                match (number, field) {
                    (1, Field::Bytes(bytes)) => name = bytes,
                    (2, Field::Bytes(bytes)) => value = bytes,
                    (1 | 2, _) => return Err(DecodeError::WireType),
                    _ => {}
                }
            }
            pairs.push((name, value));
        }
        Ok(pairs)
    }
}

#[cfg(test)]
pub(crate) mod encode {
    //! Time series -> bytes of a request, written independently of the decoder, for its tests.

    fn varint(out: &mut Vec<u8>, mut value: u64) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }

    fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
        out.push(number << 3 | 2);
        varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }

    /// One time series with (bits, ms) samples, as field 1 of a request.
    pub(crate) fn series(out: &mut Vec<u8>, labels: &[(&str, &str)], samples: &[(u64, i64)]) {
        let mut body = Vec::new();
        for (name, value) in labels {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut body, 1, &label);
        }
        for (bits, ms) in samples {
            let mut sample = vec![1 << 3 | 1];
            sample.extend_from_slice(&bits.to_le_bytes());
            sample.push(2 << 3);
            varint(&mut sample, *ms as u64);
            field(&mut body, 2, &sample);
        }
        field(out, 1, &body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Plain = (Vec<(String, String)>, Vec<(u64, i64)>);

    fn read(bytes: &[u8]) -> Result<Vec<Plain>> {
        let mut request = WriteRequest::new(bytes);
        let mut all = Vec::new();
        while let Some(series) = request.next_series()? {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let labels = series.label_pairs()?;
            let labels = labels
                .into_iter()
                .map(|(name, value)| (text(name), text(value)));
            let mut samples = Vec::new();
            request.samples(&series, |sample| {
                samples.push((sample.bits, sample.timestamp_ms))
            })?;
            all.push((labels.collect(), samples));
        }
        Ok(all)
    }

    fn write(all: &[Plain]) -> Vec<u8> {
        let mut out = Vec::new();
        for (labels, samples) in all {
            let labels: Vec<_> = labels
                .iter()
                .map(|(a, b)| (a.as_str(), b.as_str()))
                .collect();
            encode::series(&mut out, &labels, samples);
        }
        out
    }

    fn any_series() -> impl Strategy<Value = Vec<Plain>> {
        let label = ("[a-z_]{1,200}", "[ -~]{0,40}");
        let sample = (any::<u64>(), any::<i64>());
        let one = (
            proptest::collection::vec(label, 0..6),
            proptest::collection::vec(sample, 0..4),
        );
        proptest::collection::vec(one, 0..8)
    }

    proptest! {
        #[test]
        fn reads_what_was_written(all in any_series()) {
            prop_assert_eq!(read(&write(&all)), Ok(all));
        }

        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&bytes);
        }

        #[test]
        fn damaged_requests_end(
            all in any_series(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = write(&all);
            if !bytes.is_empty() {
                let place = at.index(bytes.len());
                bytes[place] = byte;
                let _ = read(&bytes);
                bytes.truncate(cut.index(bytes.len() + 1));
                let _ = read(&bytes);
            }
        }
    }

    #[test]
    fn errors_by_name() {
        for (bytes, error) in [
            (&[0x0a, 0x05, 0x0a][..], DecodeError::Truncated),
            (&[0x0a, 0x80], DecodeError::Truncated),
            (&[0x80; 11], DecodeError::Overlong),
            (&[0x0b], DecodeError::WireType),
            (&[0x08, 0x01], DecodeError::WireType),
            (&[0x02, 0x00], DecodeError::WireType),
            // A sample, then a label.
            (
                &[0x0a, 0x04, 0x12, 0x00, 0x0a, 0x00],
                DecodeError::LateLabel,
            ),
            (
                &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
                DecodeError::Truncated,
            ),
        ] {
            assert_eq!(read(bytes), Err(error), "{bytes:02x?}");
        }
    }

    #[test]
    fn unknown_fields_are_skipped_and_extras_counted() {
        // Field 15 varint, 14 fixed32, 13 fixed64, metadata, then a series with an exemplar.
        let mut bytes = vec![
            0x78, 1, 0x75, 1, 2, 3, 4, 0x69, 1, 2, 3, 4, 5, 6, 7, 8, 0x1a, 0,
        ];
        bytes.extend_from_slice(&[0x0a, 0x04, 0x1a, 0x00, 0x22, 0x00]);
        let mut request = WriteRequest::new(&bytes);
        let series = request.next_series().unwrap().unwrap();
        request.samples(&series, |_| panic!("no sample")).unwrap();
        assert!(request.next_series().unwrap().is_none());
        assert_eq!(
            request.extras,
            Extras {
                metadata: 1,
                exemplars: 1,
                histograms: 1
            }
        );
    }
}
