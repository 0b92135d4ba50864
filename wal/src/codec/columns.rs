//! Values of a scrape <-> two-bit codes and three columns, as differences to base values.
//!
//! Code 0: the base's bits. 1, 2: an `i16` or `i32` added to the base, both exact integers. 3: the
//! value's bits. Bit for bit: NaN payloads, -0.0 and denormals come back as they were.

use crate::error::DamageKind;

/// The largest magnitude (exclusive) of values that are coded as differences: below it every
/// integer is an `f64`.
const INTEGER_LIMIT: i64 = 1 << 53;

/// The columns of one record; reused from record to record.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    /// `len.div_ceil(4)` bytes; sample `i` has bits `2 * (i % 4)` and up of byte `i / 4`.
    pub(crate) codes: Vec<u8>,
    pub(crate) diffs16: Vec<i16>,
    pub(crate) diffs32: Vec<i32>,
    pub(crate) raw: Vec<u64>,
}

/// Columns in an archive, or anywhere.
pub(crate) trait ColumnSource {
    fn diff16(&self, index: usize) -> Option<i16>;
    fn diff32(&self, index: usize) -> Option<i32>;
    fn raw(&self, index: usize) -> Option<u64>;
    /// Lengths of the three columns.
    fn lens(&self) -> [usize; 3];
}

impl Columns {
    /// Codes `values` against `base` (zeros if `None`; same length otherwise).
    pub(crate) fn encode(&mut self, base: Option<&[f64]>, values: &[f64]) {
        self.codes.clear();
        self.diffs16.clear();
        self.diffs32.clear();
        self.raw.clear();
        self.codes.reserve(values.len().div_ceil(4));
        match base {
            Some(base) => {
                assert_eq!(base.len(), values.len(), "BUG: base of another length");
                let (base4, base_rest) = base.as_chunks::<4>();
                let (values4, values_rest) = values.as_chunks::<4>();
                for (base, values) in base4.iter().zip(values4) {
                    let mut byte = 0;
                    for i in 0..4 {
                        byte |= self.code(base[i], values[i]) << (2 * i);
                    }
                    self.codes.push(byte);
                }
                self.encode_rest(base_rest, values_rest);
            }
            None => {
                let (values4, rest) = values.as_chunks::<4>();
                for values in values4 {
                    let mut byte = 0;
                    for (i, value) in values.iter().enumerate() {
                        byte |= self.code(0.0, *value) << (2 * i);
                    }
                    self.codes.push(byte);
                }
                self.encode_rest(&[0.0; 3][..rest.len()], rest);
            }
        }
    }

    fn encode_rest(&mut self, base: &[f64], values: &[f64]) {
        if values.is_empty() {
            return;
        }
        let mut byte = 0;
        for (i, (base, value)) in base.iter().zip(values).enumerate() {
            byte |= self.code(*base, *value) << (2 * i);
        }
        self.codes.push(byte);
    }

    #[inline]
    fn code(&mut self, base: f64, value: f64) -> u8 {
        if base.to_bits() == value.to_bits() {
            return 0;
        }
        if let (Some(value), Some(base)) = (exact_integer(value), exact_integer(base)) {
            let diff = value - base;
            if let Ok(diff) = i16::try_from(diff) {
                self.diffs16.push(diff);
                return 1;
            }
            if let Ok(diff) = i32::try_from(diff) {
                self.diffs32.push(diff);
                return 2;
            }
        }
        self.raw.push(value.to_bits());
        3
    }
}

/// Reads `values.len()` values into `values`, which holds the base on entry.
///
/// # Errors
/// `Content`: columns that no writer produces. `values` is then of no use.
pub(crate) fn decode(
    codes: &[u8],
    columns: &impl ColumnSource,
    values: &mut [f64],
) -> Result<(), DamageKind> {
    if codes.len() != values.len().div_ceil(4) {
        return Err(DamageKind::Content);
    }
    let mut next = [0usize; 3];
    for (i, value) in values.iter_mut().enumerate() {
        let code = (codes[i / 4] >> (2 * (i % 4))) & 3;
        if code == 0 {
            continue;
        }
        let column = &mut next[code as usize - 1];
        let index = *column;
        *column += 1;
        if code == 3 {
            *value = f64::from_bits(columns.raw(index).ok_or(DamageKind::Content)?);
            continue;
        }
        let diff = if code == 1 {
            columns.diff16(index).map(i64::from)
        } else {
            columns.diff32(index).map(i64::from)
        };
        match (diff, exact_integer(*value)) {
            (Some(diff), Some(base)) => *value = (base + diff) as f64,
            _ => return Err(DamageKind::Content),
        }
    }
    if next != columns.lens() {
        return Err(DamageKind::Content);
    }
    Ok(())
}

/// The value as an integer, if it is exactly that, is not -0.0 and every smaller one is too.
#[inline]
fn exact_integer(value: f64) -> Option<i64> {
    // A cast saturates and turns NaN into 0, so the comparison of bits refuses those, -0.0 too.
    let integer = value as i64;
    ((integer as f64).to_bits() == value.to_bits() && integer.unsigned_abs() < INTEGER_LIMIT as u64)
        .then_some(integer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl ColumnSource for Columns {
        fn diff16(&self, index: usize) -> Option<i16> {
            self.diffs16.get(index).copied()
        }
        fn diff32(&self, index: usize) -> Option<i32> {
            self.diffs32.get(index).copied()
        }
        fn raw(&self, index: usize) -> Option<u64> {
            self.raw.get(index).copied()
        }
        fn lens(&self) -> [usize; 3] {
            [self.diffs16.len(), self.diffs32.len(), self.raw.len()]
        }
    }

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn codes_at_the_borders() {
        let limit = INTEGER_LIMIT as f64;
        let table: &[(f64, f64, u8)] = &[
            (5.0, 5.0, 0),
            (0.0, -0.0, 3),
            (-0.0, 0.0, 3),
            (-0.0, -0.0, 0),
            (0.0, 32767.0, 1),
            (0.0, 32768.0, 2),
            (0.0, -32768.0, 1),
            (0.0, -32769.0, 2),
            (0.0, 2147483647.0, 2),
            (0.0, 2147483648.0, 3),
            (0.0, -2147483648.0, 2),
            (0.0, -2147483649.0, 3),
            (limit - 2.0, limit - 1.0, 1),
            (limit - 1.0, limit, 3),
            (limit, limit + 2.0, 3),
            (-limit, -limit + 1.0, 3),
            (1.5, 2.5, 3),
            (1.0, 1.5, 3),
            (f64::NAN, 1.0, 3),
            (f64::INFINITY, f64::INFINITY, 0),
            (f64::INFINITY, f64::NEG_INFINITY, 3),
            (0.0, 5e-324, 3),
        ];
        for &(base, value, code) in table {
            let mut columns = Columns::default();
            columns.encode(Some(&[base]), &[value]);
            assert_eq!(columns.codes, [code], "{base} -> {value}");
            let mut out = [base];
            decode(&columns.codes, &columns, &mut out).unwrap();
            assert_eq!(out[0].to_bits(), value.to_bits(), "{base} -> {value}");
        }
    }

    #[test]
    fn columns_of_wrong_length_are_refused() {
        let mut columns = Columns::default();
        columns.encode(None, &[1.0, 70000.0, 0.5, 0.0, 2.0]);
        for cut in 0..4 {
            let mut broken = Columns {
                codes: columns.codes.clone(),
                diffs16: columns.diffs16.clone(),
                diffs32: columns.diffs32.clone(),
                raw: columns.raw.clone(),
            };
            match cut {
                0 => drop(broken.codes.pop()),
                1 => drop(broken.diffs16.pop()),
                2 => drop(broken.diffs32.pop()),
                _ => broken.raw.push(1),
            }
            assert_eq!(
                decode(&broken.codes, &broken, &mut [0.0; 5]),
                Err(DamageKind::Content)
            );
        }
    }

    pub(crate) fn any_value() -> impl Strategy<Value = f64> {
        prop_oneof![
            3 => (-40000i64..40000).prop_map(|v| v as f64),
            1 => (-(1i64 << 33)..(1i64 << 33)).prop_map(|v| v as f64),
            1 => any::<u64>().prop_map(f64::from_bits),
            1 => prop_oneof![Just(0.0), Just(-0.0), Just(f64::NAN), Just(9007199254740992.0)],
        ]
    }

    proptest! {
        #[test]
        fn every_value_comes_back(
            pairs in proptest::collection::vec((any_value(), any_value()), 0..40),
            against_zero in any::<bool>(),
        ) {
            let (mut base, values): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            if against_zero {
                base.fill(0.0);
            }
            let mut columns = Columns::default();
            columns.encode((!against_zero).then_some(&base), &values);
            decode(&columns.codes, &columns, &mut base).unwrap();
            prop_assert_eq!(bits(&base), bits(&values));
        }
    }
}
