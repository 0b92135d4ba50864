//! What a receiver answered -> what to do with the request. No clock: times are given.
//!
//! Source of the meaning of answers: Prometheus remote write specifications, with the decisions
//! that nothing is given up which may still be taken, and that a receiver which refuses a part is
//! asked which part.

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendResult {
    /// The receiver answered.
    Status {
        /// HTTP status code.
        code: u16,
        /// `Retry-After`, as time from now.
        retry_after_ms: Option<u64>,
        /// The beginning of the answer's body.
        reason: String,
        /// What the receiver says that it has written, if it says so: 2.0 receivers do.
        written: Option<Written>,
    },
    /// No answer within `remote_timeout`.
    TimedOut,
    /// No answer: connecting, sending or reading failed. The text holds no credentials.
    Failed(String),
}

/// What a receiver has written of a request: `X-Prometheus-Remote-Write-*-Written`. A number that
/// it leaves out is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Samples.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
}

impl Written {
    /// Samples and histograms, of a request with so many.
    pub(super) fn of(self, series: u32) -> u32 {
        let all = self.samples.saturating_add(self.histograms);
        u32::try_from(all).unwrap_or(u32::MAX).min(series)
    }
}

/// What to do with a request that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The receiver has it.
    Done,
    /// The receiver says that it stored all but what is wrong: believed.
    PartlyStored,
    /// Send again after a pause; `retry_after_ms` is the receiver's wish.
    Retry {
        /// `Retry-After`, bounded.
        retry_after_ms: Option<u64>,
    },
    /// No request like this is taken, whatever it contains: send again after a long pause and
    /// tell the operator.
    ConfigFault,
    /// Send in halves, and make smaller requests from now on.
    TooLarge,
    /// Refused as older than or equal to what the receiver has.
    OutOfOrder,
    /// Some of the content is refused: halve to find it.
    Refused,
    /// Refused by a rate limit that the configuration says not to wait for.
    RateLimited,
}

/// Pause of a configuration fault.
pub const CONFIG_FAULT_PAUSE_MS: u64 = 30_000;
/// Longest `Retry-After` that is honoured: a typing error in it must not stop sending for a day.
pub const RETRY_AFTER_MS_MAX: u64 = 10 * 60_000;

/// Decides by status code; `retry_on_http_429` as in the endpoint's settings.
pub fn decide(result: &SendResult, retry_on_http_429: bool) -> Action {
    let SendResult::Status {
        code,
        retry_after_ms,
        reason,
        written,
    } = result
    else {
        return Action::Retry {
            retry_after_ms: None,
        };
    };
    let retry = Action::Retry {
        retry_after_ms: retry_after_ms.map(|wish_ms| wish_ms.min(RETRY_AFTER_MS_MAX)),
    };
    match code {
        200..=299 => Action::Done,
        429 if retry_on_http_429 => retry,
        429 => Action::RateLimited,
        // Request Timeout and Too Early are as passing as a 5xx.
        408 | 425 => retry,
        413 => Action::TooLarge,
        // The address, the credentials or the protocol is wrong, not the samples. A redirect is
        // not followed: it would send credentials to an address that the operator did not name.
        300..=399 | 401..=405 | 407 | 410 | 411 | 415 | 421 | 426 | 431 => Action::ConfigFault,
        400..=499 if stored_the_rest(reason) || written.is_some_and(|it| it.of(1) > 0) => {
            Action::PartlyStored
        }
        400 | 409 | 422 if is_out_of_order(reason) => Action::OutOfOrder,
        400..=499 => Action::Refused,
        _ => retry,
    }
}

/// Whether the reason says that samples are out of order, duplicate or too old.
///
/// Source of the texts: Prometheus storage/interface.go `ErrOutOfOrderSample`,
/// `ErrDuplicateSampleForTimestamp`, `ErrTooOldSample`, `ErrOutOfBounds`.
pub fn is_out_of_order(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    [
        "out of order",
        "out-of-order",
        "duplicate sample",
        "too old",
        "too-old",
        "out of bounds",
    ]
    .iter()
    .any(|text| reason.contains(text))
}

/// Whether the reason carries an error id of Mimir that concerns single samples or series: Mimir
/// stores the rest of such a request. Source: Mimir, "About error codes".
fn stored_the_rest(reason: &str) -> bool {
    [
        "err-mimir-sample-",
        "err-mimir-too-far-in-",
        "err-mimir-exemplar-",
        "err-mimir-max-series-per-",
        "err-mimir-max-label-",
        "err-mimir-label-",
        "err-mimir-duplicate-label-names",
        "err-mimir-missing-metric-name",
        "err-mimir-metric-name-invalid",
    ]
    .iter()
    .any(|id| reason.contains(id))
}

/// The pause before each further attempt: doubles from `min` to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    next_ms: u64,
    min_ms: u64,
    max_ms: u64,
}

impl Backoff {
    /// Starts at `min_ms` (at least 1), ends at `max_ms` (at least `min_ms`).
    pub fn new(min_ms: u64, max_ms: u64) -> Self {
        let min_ms = min_ms.max(1);
        Self {
            next_ms: min_ms,
            min_ms,
            max_ms: max_ms.max(min_ms),
        }
    }

    /// The next pause. The receiver's wish replaces it, and the one after is twice that, bounded.
    pub fn pause_ms(&mut self, retry_after_ms: Option<u64>) -> u64 {
        let pause_ms = retry_after_ms.unwrap_or(self.next_ms);
        self.next_ms = pause_ms.saturating_mul(2).clamp(self.min_ms, self.max_ms);
        pause_ms
    }

    /// Back to the first pause.
    pub fn reset(&mut self) {
        self.next_ms = self.min_ms;
    }
}

/// Reads a `Retry-After` header: seconds, or an HTTP date (IMF-fixdate), which is compared with
/// `now_unix_ms`. `None` if it is neither; a date that has passed is 0.
///
/// Source: RFC 9110, sections 5.6.7 and 10.2.3.
pub fn retry_after_ms(header: &str, now_unix_ms: i64) -> Option<u64> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = header.parse::<u64>().unwrap_or(u64::MAX);
        return Some(seconds.saturating_mul(1_000));
    }
    let date_unix_ms = http_date_unix_ms(header)?;
    Some(date_unix_ms.saturating_sub(now_unix_ms).max(0) as u64)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` as Unix ms.
fn http_date_unix_ms(text: &str) -> Option<i64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = text.get(5..)?.split_ascii_whitespace();
    let day: i64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.splitn(3, ':').map(str::parse::<i64>);
    if words.next() != Some("GMT") || month.len() != 3 {
        return None;
    }
    let month = MONTHS.find(month).filter(|at| at % 3 == 0)? as i64 / 3 + 1;
    let mut part = |max: i64| clock.next()?.ok().filter(|part| (0..=max).contains(part));
    let (hour, minute, second) = (part(23)?, part(59)?, part(60)?);
    if !(1..=31).contains(&day) || !(1970..=9999).contains(&year) {
        return None;
    }
    // Days from civil, counting years from March: Howard Hinnant, "chrono-Compatible Low-Level
    // Date Algorithms".
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year / 400;
    let year_of_era = shifted_year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, reason: &str) -> SendResult {
        SendResult::Status {
            code,
            retry_after_ms: None,
            reason: reason.to_owned(),
            written: None,
        }
    }

    const RETRY: Action = Action::Retry {
        retry_after_ms: None,
    };

    #[test]
    fn each_status_has_its_action() {
        let cases = [
            (200, "", Action::Done),
            (204, "", Action::Done),
            (302, "", Action::ConfigFault),
            (400, "invalid labels", Action::Refused),
            (400, "out of order sample", Action::OutOfOrder),
            (400, "duplicate sample for timestamp", Action::OutOfOrder),
            (400, "too old sample", Action::OutOfOrder),
            (
                400,
                "sample is out of order (err-mimir-sample-out-of-order)",
                Action::PartlyStored,
            ),
            (401, "", Action::ConfigFault),
            (403, "", Action::ConfigFault),
            (404, "", Action::ConfigFault),
            (408, "", RETRY),
            (409, "", Action::Refused),
            (409, "out of order", Action::OutOfOrder),
            (413, "", Action::TooLarge),
            (415, "", Action::ConfigFault),
            (422, "", Action::Refused),
            (429, "", RETRY),
            (500, "out of order sample", RETRY),
            (503, "", RETRY),
            (600, "", RETRY),
        ];
        for (code, reason, action) in cases {
            assert_eq!(
                decide(&status(code, reason), true),
                action,
                "{code} {reason}"
            );
        }
        assert_eq!(decide(&status(429, ""), false), Action::RateLimited);
        assert_eq!(decide(&SendResult::TimedOut, true), RETRY);
        assert_eq!(decide(&SendResult::Failed(String::new()), true), RETRY);
    }

    #[test]
    fn retry_after_is_bounded() {
        let result = SendResult::Status {
            code: 503,
            retry_after_ms: Some(u64::MAX),
            reason: String::new(),
            written: None,
        };
        let action = Action::Retry {
            retry_after_ms: Some(RETRY_AFTER_MS_MAX),
        };
        assert_eq!(decide(&result, true), action);
    }

    #[test]
    fn backoff_doubles_up_to_its_maximum() {
        let mut backoff = Backoff::new(30, 200);
        let pauses: Vec<u64> = (0..5).map(|_| backoff.pause_ms(None)).collect();
        assert_eq!(pauses, [30, 60, 120, 200, 200]);
        backoff.reset();
        assert_eq!(backoff.pause_ms(Some(50)), 50);
        assert_eq!(backoff.pause_ms(None), 100);
        assert_eq!(backoff.pause_ms(Some(0)), 0);
        assert_eq!(backoff.pause_ms(None), 30);
        assert_eq!(backoff.pause_ms(Some(10_000)), 10_000);
        assert_eq!(backoff.pause_ms(None), 200);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now_unix_ms = 784_111_777_000; // Sun, 06 Nov 1994 08:49:37 GMT
        let cases = [
            ("0", Some(0)),
            (" 120 ", Some(120_000)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60_000)),
            ("Mon, 07 Nov 1994 08:49:37 GMT", Some(86_400_000)),
            ("Sat, 05 Nov 1994 08:49:37 GMT", Some(0)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("Sun, 06 Nov 1994 08:49 GMT", None),
            ("Sun, 06 vNo 1994 08:49:37 GMT", None),
            ("Sun, 66 Nov 1994 08:49:37 GMT", None),
            ("häßlich, 06 Nov", None),
        ];
        for (header, wish_ms) in cases {
            assert_eq!(retry_after_ms(header, now_unix_ms), wish_ms, "{header}");
        }
        // 29 February, and the day after.
        let leap = http_date_unix_ms("Thu, 29 Feb 2024 00:00:00 GMT");
        assert_eq!(leap, Some(1_709_164_800_000));
        let march = http_date_unix_ms("Fri, 01 Mar 2024 00:00:00 GMT");
        assert_eq!(march, Some(1_709_251_200_000));
    }
}
