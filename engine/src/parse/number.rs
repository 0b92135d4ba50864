//! Bytes of a number -> f64, as Go's `strconv.ParseFloat` reads it, with a fast path for the
//! numbers that exporters write.
//!
//! Prometheus refuses what Go's `ParseFloat` refuses and, besides, hexadecimal floats and digit
//! separators (`parseFloat` in prometheus/prometheus model/textparse/promparse.go). Rust's `parse`
//! differs in two points: it takes a sign before `nan`, and gives infinity where Go says "out of
//! range". Both are errors here.

/// The one NaN that leaves the parser, so that no target can expose a staleness marker.
/// Source: `NormalNaN` in prometheus/prometheus model/value/value.go.
pub(crate) const NORMAL_NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0001);

/// The powers of ten that an f64 holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Powers of ten by number of digits.
const SCALES: [u64; 9] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
];

/// Integers up to this one are exact in an f64.
const EXACT_MAX: u64 = 1 << 53;

/// Most digits that a u64 holds whatever they are.
const DIGITS_MAX: usize = 19;

/// Why a token is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not a number in Go's grammar less hexadecimal and `_`.
    Syntax,
    /// Larger than the largest f64.
    Range,
}

/// Reads a whole token.
pub(super) fn float(token: &[u8]) -> Result<f64, Fault> {
    let (sign, magnitude) = match token {
        [b'+', rest @ ..] => (Some(1.0), rest),
        [b'-', rest @ ..] => (Some(-1.0), rest),
        _ => (None, token),
    };
    if magnitude.eq_ignore_ascii_case(b"inf") || magnitude.eq_ignore_ascii_case(b"infinity") {
        return Ok(f64::INFINITY * sign.unwrap_or(1.0));
    }
    if sign.is_none() && magnitude.eq_ignore_ascii_case(b"nan") {
        return Ok(NORMAL_NAN);
    }
    let number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
    if !token.iter().all(number) {
        return Err(Fault::Syntax);
    }
    decimal(token)
}

/// Reads a token of digits, signs, points and `e` only.
fn decimal(token: &[u8]) -> Result<f64, Fault> {
    let text = std::str::from_utf8(token).map_err(|_| Fault::Syntax)?;
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => Err(Fault::Range),
        Err(_) => Err(Fault::Syntax),
    }
}

/// Reads `VALUE\n` at the start of `rest`: the value and the bytes used, `\n` included.
///
/// A mantissa below 2^53 and a power of ten up to 10^22 are both exact, so one multiplication or
/// division rounds once and gives the nearest f64 (Clinger, "How to read floating point numbers
/// accurately", 1990); everything else goes to the standard library.
#[inline]
pub(super) fn plain(rest: &[u8]) -> Option<(f64, usize)> {
    let negative = *rest.first()? == b'-';
    let start = usize::from(negative);
    let (mut mantissa, mut at) = digits_from(rest, start, 0);
    let mut digits = at - start;
    let mut power = 0_i32;
    let mut next = *rest.get(at)?;
    if next != b'\n' {
        if next == b'.' {
            let point = at + 1;
            (mantissa, at) = digits_from(rest, point, mantissa);
            digits += at - point;
            power = i32::try_from(at - point).ok()?.checked_neg()?;
            next = *rest.get(at)?;
        }
        if next | 0x20 == b'e' && digits > 0 {
            let (exponent, end) = exponent(rest, at + 1)?;
            power = power.saturating_add(exponent);
            at = end;
            next = *rest.get(at)?;
        }
        if next != b'\n' {
            return special(rest);
        }
    }
    if digits == 0 {
        return None;
    }
    let used = at + 1;
    let exact = digits <= DIGITS_MAX && (power == 0 || mantissa <= EXACT_MAX);
    let magnitude = match (exact, POWERS.get(power.unsigned_abs() as usize)) {
        // Conversion from u64 rounds to nearest, so with power 0 all 19 digits are right.
        (true, Some(_)) if power == 0 => mantissa as f64,
        (true, Some(scale)) if power > 0 => mantissa as f64 * scale,
        (true, Some(scale)) => mantissa as f64 / scale,
        _ => return decimal(&rest[..at]).ok().map(|value| (value, used)),
    };
    Some((if negative { -magnitude } else { magnitude }, used))
}

/// Appends the digits from `at` on to `mantissa` (modulo 2^64); gives where they end.
///
/// Eight at a time: how many there are differs from number to number, so a loop that looks at each
/// is mispredicted once per number. Source of the multiplications: D. Lemire, "Quickly parsing
/// eight digits" (2018).
#[inline(always)]
fn digits_from(bytes: &[u8], mut at: usize, mut mantissa: u64) -> (u64, usize) {
    const ONES: u64 = 0x0101_0101_0101_0101;
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let word = u64::from_le_bytes(*eight);
        // The high bit of each byte that is a digit: at least '0', below ':', and ASCII.
        let low = word & (0x7f * ONES);
        let digits = (low + 0x50 * ONES) & !(low + 0x46 * ONES) & !word & (0x80 * ONES);
        let count = (digits ^ (0x80 * ONES)).trailing_zeros() as usize / 8;
        if count == 0 {
            return (mantissa, at);
        }
        // The digits at the high end, zeros before them.
        let ones = (word & (0x0f * ONES)) << (64 - 8 * count);
        let tens = (ones.wrapping_mul(0x0a01) >> 8) & 0x00ff_00ff_00ff_00ff;
        let hundreds = (tens.wrapping_mul(0x0064_0001) >> 16) & 0x0000_ffff_0000_ffff;
        let value = hundreds.wrapping_mul(0x2710_0000_0001) >> 32;
        mantissa = mantissa.wrapping_mul(SCALES[count]).wrapping_add(value);
        at += count;
        if count < 8 {
            return (mantissa, at);
        }
    }
    while let Some(digit) = digit(bytes, at) {
        mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
        at += 1;
    }
    (mantissa, at)
}

#[inline(always)]
fn digit(bytes: &[u8], at: usize) -> Option<u64> {
    let digit = bytes.get(at)?.wrapping_sub(b'0');
    (digit < 10).then_some(u64::from(digit))
}

/// Reads a signed exponent of one to four digits: its value and where it ends.
#[inline]
fn exponent(bytes: &[u8], mut at: usize) -> Option<(i32, usize)> {
    let sign = *bytes.get(at)?;
    let negative = sign == b'-';
    if negative || sign == b'+' {
        at += 1;
    }
    let start = at;
    let mut value = 0_i32;
    while let Some(digit) = digit(bytes, at) {
        if at - start == 4 {
            return None;
        }
        value = value * 10 + digit as i32;
        at += 1;
    }
    (at > start).then_some((if negative { -value } else { value }, at))
}

/// The values that are no numbers, in the spelling of the client libraries.
fn special(rest: &[u8]) -> Option<(f64, usize)> {
    if rest.starts_with(b"NaN\n") {
        Some((NORMAL_NAN, 4))
    } else if rest.starts_with(b"+Inf\n") {
        Some((f64::INFINITY, 5))
    } else if rest.starts_with(b"-Inf\n") {
        Some((f64::NEG_INFINITY, 5))
    } else {
        None
    }
}

/// Writes `le` and `quantile` values as Prometheus 3 stores them: the shortest decimal that reads
/// back as the same f64, in Go's `%g` form, with `.0` where neither point nor exponent is.
/// Source: `FormatOpenMetricsFloat` in prometheus/prometheus model/labels.
pub(crate) fn bound(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == 0.0 {
        return "0.0".to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific
        .split_once('e')
        .expect("BUG: the standard library writes an exponent");
    let exponent: i32 = exponent
        .parse()
        .expect("BUG: the standard library writes a decimal exponent");
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs());
    }
    let plain = format!("{value}");
    if plain.contains('.') {
        plain
    } else {
        plain + ".0"
    }
}
