//! The only place that asks the operating system what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, from the wall clock. A clock before 1970 reads as 0.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(now_us() / 1_000).unwrap_or(i64::MAX)
}

/// Microseconds since the Unix epoch, from the wall clock.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds on a clock that never steps; its zero is arbitrary.
pub(crate) fn monotonic_ms() -> u64 {
    monotonic_us() / 1_000
}

/// Microseconds on a clock that never steps; its zero is arbitrary.
pub(crate) fn monotonic_us() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec that the call fills; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}
