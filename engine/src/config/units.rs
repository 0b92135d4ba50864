//! Durations and sizes as Prometheus writes them <-> milliseconds and bytes.

/// Units of a duration in ms, in the order in which they may follow each other.
const DURATION_UNITS_MS: [(&str, u64); 7] = [
    ("y", 365 * 24 * 60 * 60 * 1000),
    ("w", 7 * 24 * 60 * 60 * 1000),
    ("d", 24 * 60 * 60 * 1000),
    ("h", 60 * 60 * 1000),
    ("m", 60 * 1000),
    ("s", 1000),
    ("ms", 1),
];

/// What a duration may look like, for messages.
pub(crate) const DURATION_FORM: &str = "a duration such as 15s, 1m30s, 2h or 100ms";

/// What a size may look like, for messages.
pub(crate) const SIZE_FORM: &str = "a size such as 512KB, 16MB or 1.5GB (1KB is 1024 bytes)";

/// Longest duration, as in Prometheus: what fits in 63 bits of nanoseconds.
const DURATION_MS_MAX: u64 = i64::MAX as u64 / 1_000_000;

/// Milliseconds of `1m30s`; units from large to small, each at most once. `0` needs no unit.
///
/// Source: Prometheus common model/time.go, `ParseDuration`.
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut units = DURATION_UNITS_MS.iter();
    let mut total = 0u64;
    while !rest.is_empty() {
        let digits = rest.find(|next: char| !next.is_ascii_digit())?;
        let (count, after) = rest.split_at(digits);
        let unit_end = after
            .find(|next: char| next.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        // Going on with the same iterator keeps the order.
        let (_, unit_ms) = units.find(|(name, _)| *name == unit)?;
        let part = count.parse::<u64>().ok()?.checked_mul(*unit_ms)?;
        total = total
            .checked_add(part)
            .filter(|total| *total <= DURATION_MS_MAX)?;
        rest = after;
    }
    Some(total)
}

/// The text of a duration: years and weeks only if nothing is left over. The inverse of
/// [`parse_duration_ms`].
///
/// Source: Prometheus common model/time.go, `Duration.String`.
pub fn format_duration(mut ms: u64) -> String {
    if ms == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, unit_ms) in DURATION_UNITS_MS {
        let exact_only = matches!(unit, "y" | "w");
        if (exact_only && !ms.is_multiple_of(unit_ms)) || ms < unit_ms {
            continue;
        }
        text.push_str(&format!("{}{unit}", ms / unit_ms));
        ms %= unit_ms;
    }
    text
}

/// Bytes of `512MB` or `1GiB`: both are powers of 1024. `0` needs no unit.
///
/// Source: the behaviour of Prometheus, which reads `units.Base2Bytes`.
pub(crate) fn parse_size_bytes(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut total = 0u64;
    while !rest.is_empty() {
        let is_number = |next: char| next.is_ascii_digit() || next == '.';
        let (number, after) = rest.split_at(rest.find(|next| !is_number(next))?);
        let (unit, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        let power = match unit {
            "B" => 0,
            _ => {
                let (prefix, suffix) = unit.split_at_checked(1)?;
                let known = matches!(suffix, "B" | "iB");
                1 + "KMGTPE".find(prefix).filter(|_| known)?
            }
        };
        let unit_bytes = 1u64 << (10 * power);
        let part = match number.split_once('.') {
            None => number.parse::<u64>().ok()?.checked_mul(unit_bytes)?,
            Some(_) => {
                let bytes = number.parse::<f64>().ok()? * unit_bytes as f64;
                (bytes < i64::MAX as f64).then_some(bytes as u64)?
            }
        };
        total = total
            .checked_add(part)
            .filter(|total| *total <= i64::MAX as u64)?;
        rest = after;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, ms) in [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("1ms", Some(1)),
            ("15s", Some(15_000)),
            ("1m30s", Some(90_000)),
            ("1h0m5ms", Some(3_600_005)),
            ("1y2w3d4h5m6s7ms", Some(33_019_506_007)),
            ("", None),
            ("1", None),
            ("s", None),
            ("1.5s", None),
            ("-1s", None),
            ("1s1m", None),
            ("1s1s", None),
            ("1 s", None),
            ("1us", None),
            ("292y", Some(9_208_512_000_000)),
            ("293y", None),
            ("99999999999999999999ms", None),
        ] {
            assert_eq!(parse_duration_ms(text), ms, "{text:?}");
        }
    }

    #[test]
    fn durations_are_written() {
        for (ms, text) in [
            (0, "0s"),
            (1, "1ms"),
            (90_000, "1m30s"),
            (60_000, "1m"),
            (86_400_000, "1d"),
            (7 * 86_400_000, "1w"),
            (8 * 86_400_000, "8d"),
            (365 * 86_400_000, "1y"),
            (366 * 86_400_000, "366d"),
            (379 * 86_400_000, "379d"),
            (3_600_005, "1h5ms"),
        ] {
            assert_eq!(format_duration(ms), text);
            assert_eq!(parse_duration_ms(text), Some(ms));
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("1B", Some(1)),
            ("1KB", Some(1024)),
            ("1KiB", Some(1024)),
            ("512MB", Some(512 << 20)),
            ("1.5GB", Some(3 << 29)),
            ("1MB1KB", Some((1 << 20) + 1024)),
            ("2EB", Some(2 << 60)),
            ("8EB", None),
            ("1", None),
            ("1K", None),
            ("1kb", None),
            ("-1KB", None),
            ("MB", None),
            (".MB", None),
            ("1.1.1MB", None),
            ("", None),
        ] {
            assert_eq!(parse_size_bytes(text), bytes, "{text:?}");
        }
    }
}
