//! Time series written as requests -> read back the same; damaged ones -> an error.

use super::*;
use proptest::prelude::*;

pub(crate) type Plain = (Vec<(String, String)>, Vec<(u64, i64)>);

fn read(bytes: &[u8]) -> Result<Vec<Plain>> {
    read_all(WriteRequest::new(bytes))
}

fn read_v2(bytes: &[u8]) -> Result<Vec<Plain>> {
    read_all(WriteRequest::new_v2(bytes, &mut SymbolTable::default())?)
}

fn read_all(mut request: WriteRequest<'_>) -> Result<Vec<Plain>> {
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
        prop_assert_eq!(read(&write(&all)), Ok(all.clone()));
        prop_assert_eq!(read_v2(&encode::request_v2(&all)), Ok(all));
    }

    /// A series has one key of either kind, in whichever version it comes, and no two share one.
    #[test]
    fn keys_are_those_of_the_labels(all in any_series()) {
        let (one, two) = (write(&all), encode::request_v2(&all));
        let mut table = SymbolTable::default();
        for kind in [KeyKind::Fields, KeyKind::Symbols] {
            let mut seen = std::collections::HashMap::new();
            let mut one = WriteRequest::new(&one);
            let mut two = WriteRequest::new_v2(&two, &mut table).unwrap();
            for (labels, _) in &all {
                let key = one.next_series().unwrap().unwrap().key(kind).unwrap();
                prop_assert_eq!(two.next_series().unwrap().unwrap().key(kind), Ok(key));
                prop_assert_eq!(seen.entry(key).or_insert(labels), &labels);
            }
        }
    }

    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes);
        let _ = read_v2(&bytes);
    }

    #[test]
    fn damaged_requests_end(
        all in any_series(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        for (mut bytes, read) in [
            (write(&all), read as fn(&[u8]) -> Result<Vec<Plain>>),
            (encode::request_v2(&all), read_v2),
        ] {
            if !bytes.is_empty() {
                let place = at.index(bytes.len());
                bytes[place] = byte;
                let _ = read(&bytes);
                bytes.truncate(cut.index(bytes.len() + 1));
                let _ = read(&bytes);
            }
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
fn errors_of_references_by_name() {
    for (bytes, error) in [
        // Symbol 1 of one, a name without a value, a reference that is not packed.
        (&[0x22, 0, 0x2a, 4, 0x0a, 2, 0, 1][..], DecodeError::Symbol),
        (&[0x22, 0, 0x2a, 3, 0x0a, 1, 0], DecodeError::Symbol),
        (&[0x22, 0, 0x2a, 2, 0x08, 0], DecodeError::WireType),
        (&[0x20, 0], DecodeError::WireType),
        (&[0x28, 0], DecodeError::WireType),
        (&[0x22, 9, 0], DecodeError::Truncated),
    ] {
        assert_eq!(read_v2(bytes), Err(error), "{bytes:02x?}");
        let mut table = SymbolTable::default();
        if let Ok(mut request) = WriteRequest::new_v2(bytes, &mut table)
            && let Ok(Some(series)) = request.next_series()
            && error == DecodeError::Symbol
        {
            assert_eq!(series.key(KeyKind::Symbols), Err(error), "{bytes:02x?}");
        }
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

    /// A 2.0 request with these time series, each text a symbol of its own, symbol 0 empty.
    pub(crate) fn request_v2(all: &[super::Plain]) -> Vec<u8> {
        let (mut symbols, mut series) = (vec![0x22, 0], Vec::new());
        let mut count = 1;
        for (labels, samples) in all {
            let (mut body, mut references) = (Vec::new(), Vec::new());
            for text in labels.iter().flat_map(|(name, value)| [name, value]) {
                field(&mut symbols, 4, text.as_bytes());
                varint(&mut references, count);
                count += 1;
            }
            field(&mut body, 1, &references);
            for (bits, ms) in samples {
                let mut sample = vec![1 << 3 | 1];
                sample.extend_from_slice(&bits.to_le_bytes());
                sample.push(2 << 3);
                varint(&mut sample, *ms as u64);
                field(&mut body, 2, &sample);
            }
            field(&mut series, 5, &body);
        }
        symbols.extend(series);
        symbols
    }
}
