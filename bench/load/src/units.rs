//! Text of a flag, such as `10s` or `2.5` -> durations and shares.

use std::time::Duration;

/// Reads a duration: a number directly followed by `ms`, `s`, `m` or `h` (`500ms`, `1.5s`, `10m`).
///
/// # Errors
/// A sentence for the user: no unit, no number, negative, or above 1,000 hours.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .ok_or_else(|| format!("`{text}` has no unit: write 500ms, 10s, 5m or 1h"))?;
    let (number, unit) = text.split_at(split);
    let number: f64 = number
        .parse()
        .map_err(|_| format!("`{text}` does not begin with a number"))?;
    let seconds = match unit {
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(format!("`{unit}` is no unit: use ms, s, m or h")),
    };
    if seconds > 3.6e6 {
        return Err(format!("`{text}` is longer than 1000h"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Reads a share in percent, 0 to 100 inclusive, without the percent sign.
///
/// # Errors
/// A sentence for the user when the text is no number or outside the range.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if !(0.0..=100.0).contains(&percent) {
        return Err(format!("`{text}` is not between 0 and 100"));
    }
    Ok(percent)
}

/// Writes a duration the way Prometheus' configuration reads it: whole seconds if possible, else
/// ms.
pub(crate) fn prometheus_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms.is_multiple_of(1000) {
        format!("{}s", ms / 1000)
    } else {
        format!("{ms}ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("1.5s", 1500),
            ("2m", 120_000),
        ] {
            assert_eq!(parse_duration(text).unwrap().as_millis(), ms, "{text}");
        }
        for text in ["", "10", "s", "10x", "-1s", "1..2s", "9999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(prometheus_duration(Duration::from_millis(1500)), "1500ms");
        assert_eq!(prometheus_duration(Duration::from_secs(15)), "15s");
    }

    #[test]
    fn percents() {
        assert_eq!(parse_percent("2.5").unwrap(), 2.5);
        for text in ["-1", "101", "x", "NaN"] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
    }
}
