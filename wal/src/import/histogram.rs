//! A native histogram in a record -> `Histogram` of remote write 1.0 without its timestamp.
//!
//! Source of the target's field numbers: `types.proto` of
//! <https://prometheus.io/docs/specs/prw/remote_write_spec/>.

use super::bytes::Bytes;

/// Schema of histograms whose bounds are given one by one.
const SCHEMA_CUSTOM: i64 = -53;

/// Takes a histogram off `bytes` and appends it to `out`. `is_float`: its counts are floats.
pub(super) fn take_histogram(
    bytes: &mut Bytes<'_>,
    is_float: bool,
    out: &mut Vec<u8>,
) -> Option<()> {
    let reset_hint = bytes.byte()?;
    let schema = bytes.signed()?;
    let zero_threshold = bytes.fixed()?;
    let (zero_count, count) = match is_float {
        true => (bytes.fixed()?, bytes.fixed()?),
        false => (bytes.unsigned()?, bytes.unsigned()?),
    };
    let sum = bytes.fixed()?;
    let (mut positive, mut negative) = (Vec::new(), Vec::new());
    put_spans(&mut positive, 11, bytes)?;
    put_spans(&mut negative, 8, bytes)?;
    put_buckets(&mut positive, 12, bytes, is_float)?;
    put_buckets(&mut negative, 9, bytes, is_float)?;

    match is_float {
        true => put_double(out, 2, count),
        false => put_number(out, 1, count),
    }
    put_double(out, 3, sum);
    put_number(out, 4, zigzag(schema));
    put_double(out, 5, zero_threshold);
    match is_float {
        true => put_double(out, 7, zero_count),
        false => put_number(out, 6, zero_count),
    }
    out.append(&mut negative);
    out.append(&mut positive);
    put_number(out, 14, u64::from(reset_hint));
    if schema == SCHEMA_CUSTOM {
        let mut bounds = Vec::new();
        for _ in 0..bytes.unsigned()? {
            bounds.extend_from_slice(&bytes.fixed()?.to_le_bytes());
        }
        put_bytes(out, 16, &bounds);
    }
    Some(())
}

fn put_spans(out: &mut Vec<u8>, field: u32, bytes: &mut Bytes<'_>) -> Option<()> {
    for _ in 0..bytes.unsigned()? {
        let mut span = Vec::with_capacity(12);
        put_number(&mut span, 1, zigzag(bytes.signed()?));
        put_number(
            &mut span,
            2,
            u64::from(u32::try_from(bytes.unsigned()?).ok()?),
        );
        put_bytes(out, field, &span);
    }
    Some(())
}

/// `field`: of differences; counts as floats have the one after.
fn put_buckets(out: &mut Vec<u8>, field: u32, bytes: &mut Bytes<'_>, is_float: bool) -> Option<()> {
    let count = bytes.unsigned()?;
    let mut packed = Vec::new();
    for _ in 0..count {
        match is_float {
            true => packed.extend_from_slice(&bytes.fixed()?.to_le_bytes()),
            false => put_varint(&mut packed, zigzag(bytes.signed()?)),
        }
    }
    if count > 0 {
        put_bytes(out, field + u32::from(is_float), &packed);
    }
    Some(())
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_number(out: &mut Vec<u8>, field: u32, value: u64) {
    put_varint(out, u64::from(field << 3));
    put_varint(out, value);
}

fn put_double(out: &mut Vec<u8>, field: u32, bits: u64) {
    put_varint(out, u64::from(field << 3 | 1));
    out.extend_from_slice(&bits.to_le_bytes());
}

pub(super) fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_varint(out, u64::from(field << 3 | 2));
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_both_kinds_get_their_fields() {
        // Hint 2, schema -1, zero threshold 1.0, zero count 3, count 300, sum 2.0; one positive
        // span (-2, 2) with differences 5 and -4; nothing negative.
        let mut record = vec![2, 1];
        record.extend(1f64.to_bits().to_be_bytes());
        record.extend([3, 0xac, 2]);
        record.extend(2f64.to_bits().to_be_bytes());
        record.extend([1, 3, 2, 0, 2, 10, 7, 0]);
        let mut out = Vec::new();
        let mut bytes = Bytes(&record);
        take_histogram(&mut bytes, false, &mut out).unwrap();
        assert!(bytes.is_empty());
        let mut wanted = vec![0x08, 0xac, 2, 0x19];
        wanted.extend(2f64.to_le_bytes());
        wanted.extend([0x20, 1, 0x29]);
        wanted.extend(1f64.to_le_bytes());
        wanted.extend([0x30, 3, 0x5a, 4, 0x08, 3, 0x10, 2, 0x62, 2, 10, 7, 0x70, 2]);
        assert_eq!(out, wanted);
        for cut in 0..record.len() {
            assert_eq!(
                take_histogram(&mut Bytes(&record[..cut]), false, &mut out),
                None
            );
        }

        // The same with floats and one bound.
        let mut record = vec![0, 105];
        for value in [0.0, 0.5, 1.5, 2.0f64] {
            record.extend(value.to_bits().to_be_bytes());
        }
        record.extend([0, 0, 0, 1]);
        record.extend(9f64.to_bits().to_be_bytes());
        record.push(1);
        record.extend(0.25f64.to_bits().to_be_bytes());
        let mut out = Vec::new();
        take_histogram(&mut Bytes(&record), true, &mut out).unwrap();
        let mut wanted = vec![0x11];
        wanted.extend(1.5f64.to_le_bytes());
        wanted.push(0x19);
        wanted.extend(2f64.to_le_bytes());
        wanted.extend([0x20, 105, 0x29]);
        wanted.extend(0f64.to_le_bytes());
        wanted.push(0x39);
        wanted.extend(0.5f64.to_le_bytes());
        wanted.extend([0x52, 8]);
        wanted.extend(9f64.to_le_bytes());
        wanted.extend([0x70, 0, 0x82, 1, 8]);
        wanted.extend(0.25f64.to_le_bytes());
        assert_eq!(out, wanted);
    }
}
