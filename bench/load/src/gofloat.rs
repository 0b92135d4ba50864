//! f64 -> the text that Go's `strconv.FormatFloat(v, 'g', -1, 64)` gives, as real exporters print
//! it.
//!
//! Source: `strconv/ftoa.go` `%e` rule of the Go standard library (shortest digits; exponent form
//! below 1e-4 and from 1e6 on); `expfmt/text_create.go` and `expfmt/openmetrics_create.go` of
//! prometheus/common for the
//! special values and for the `.0` that OpenMetrics adds.

use std::io::Write as _;

/// Appends `value` as the Prometheus text format has it: `1`, `1.6777216e+10`, `NaN`, `+Inf`.
pub fn write_go_g(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
        return;
    }
    if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
        return;
    }
    // The shortest digits that read back as the same bits, as `d.ddde-x`.
    let mut scratch = [0u8; 40];
    let length = {
        let mut cursor = &mut scratch[..];
        write!(cursor, "{value:e}").expect("BUG: 40 bytes hold every f64");
        40 - cursor.len()
    };
    let mut text = &scratch[..length];
    if let Some(rest) = text.strip_prefix(b"-") {
        out.push(b'-');
        text = rest;
    }
    let at = text
        .iter()
        .position(|b| *b == b'e')
        .expect("BUG: {:e} writes an exponent");
    let (mantissa, exponent) = (&text[..at], &text[at + 1..]);
    let (negative, magnitude) = match exponent.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, exponent),
    };
    let magnitude = magnitude
        .iter()
        .fold(0usize, |all, b| all * 10 + usize::from(b - b'0'));
    let digits = mantissa.iter().copied().filter(|b| *b != b'.');
    if negative && magnitude > 4 || !negative && magnitude >= 6 {
        out.extend_from_slice(mantissa);
        out.push(b'e');
        out.push(if negative { b'-' } else { b'+' });
        let _ = write!(out, "{magnitude:02}");
    } else if negative {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', magnitude - 1));
        out.extend(digits);
    } else {
        let count = mantissa.len() - usize::from(mantissa.len() > 1);
        for (place, digit) in digits.enumerate() {
            if place == magnitude + 1 {
                out.push(b'.');
            }
            out.push(digit);
        }
        out.extend(std::iter::repeat_n(
            b'0',
            (magnitude + 1).saturating_sub(count),
        ));
    }
}

/// Appends `value` as OpenMetrics has it: like [`write_go_g`], with `.0` where neither a point nor
/// an
/// exponent says that it is a float.
pub fn write_openmetrics(out: &mut Vec<u8>, value: f64) {
    let start = out.len();
    write_go_g(out, value);
    let text = &out[start..];
    if value.is_finite() && !text.iter().any(|b| matches!(b, b'.' | b'e')) {
        out.extend_from_slice(b".0");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: f64) -> String {
        let mut out = Vec::new();
        write_go_g(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn like_go() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (10.0, "10"),
            (-17.5, "-17.5"),
            (123456.0, "123456"),
            (100000.0, "100000"),
            (1e6, "1e+06"),
            (1234567.0, "1.234567e+06"),
            (16777216000.0, "1.6777216e+10"),
            (123456.789, "123456.789"),
            (0.001, "0.001"),
            (0.0001, "0.0001"),
            (0.00012345, "0.00012345"),
            (0.00001, "1e-05"),
            (1.5e300, "1.5e+300"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(text(value), expected);
        }
    }

    #[test]
    fn openmetrics_floats() {
        for (value, expected) in [
            (1.0, "1.0"),
            (0.5, "0.5"),
            (1e6, "1e+06"),
            (f64::NAN, "NaN"),
        ] {
            let mut out = Vec::new();
            write_openmetrics(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    proptest! {
        #[test]
        fn reads_back_as_the_same_bits(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(text(value).parse::<f64>().unwrap().to_bits(), bits);
        }
    }
}
