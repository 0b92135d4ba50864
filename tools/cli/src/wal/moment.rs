//! `2h`, a date or Unix seconds -> milliseconds since the Unix epoch, and back to a date.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads a time: how long ago (`90m`, `2h 30m`), RFC 3339 (`2026-01-31T12:00:00Z`, UTC), or seconds
/// since the Unix epoch.
///
/// # Errors
/// It is none of these.
pub(crate) fn parse(text: &str) -> Result<i64, String> {
    let now = SystemTime::now();
    if let Ok(seconds) = text.parse::<f64>()
        && seconds.abs() < 1e12
    {
        return Ok((seconds * 1e3) as i64);
    }
    let parsed = humantime::parse_rfc3339_weak(text).or_else(|_| {
        let ago = humantime::parse_duration(text).ok();
        ago.and_then(|ago| now.checked_sub(ago)).ok_or(())
    });
    parsed.map(unix_ms).map_err(|()| {
        format!(
            "{text:?} is no time: give how long ago (2h), a date (2026-01-31T12:00:00Z) or seconds \
             since the Unix epoch"
        )
    })
}

fn unix_ms(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    }
}

/// As RFC 3339 with milliseconds; a time that has no date as its number.
pub(crate) fn format(unix_ms: i64) -> String {
    // What `humantime` can write: up to the year 9999.
    match u64::try_from(unix_ms) {
        Ok(ms) if ms < 253_402_300_800_000 => {
            humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
        }
        _ => format!("{unix_ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_three_forms() {
        assert_eq!(parse("1700000000.5"), Ok(1_700_000_000_500));
        assert_eq!(parse("2023-11-14T22:13:20Z"), Ok(1_700_000_000_000));
        assert_eq!(parse("2023-11-14 22:13:20"), Ok(1_700_000_000_000));
        let ago_ms = unix_ms(SystemTime::now()) - parse("2h").unwrap();
        assert!((7_200_000..7_260_000).contains(&ago_ms), "{ago_ms}");
        for bad in ["", "yesterday", "2x", "NaN", "1e300"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_written_as_they_are_read() {
        assert_eq!(format(1_700_000_000_000), "2023-11-14T22:13:20.000Z");
        assert_eq!(parse(&format(1_700_000_000_123)), Ok(1_700_000_000_123));
        for ms in [i64::MIN, -1, i64::MAX] {
            assert_eq!(format(ms), format!("{ms}ms"));
        }
    }
}
