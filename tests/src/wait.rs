//! A condition and a deadline -> its value, or a failure that says what was missing.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Polls `condition` until it gives a value.
///
/// # Panics
/// If `limit` passes first; the text names `what` and what `state` says of the situation then.
pub fn until<T>(
    what: &str,
    limit: Duration,
    state: impl Fn() -> String,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    match within(limit, &mut condition) {
        Some(value) => value,
        None => panic!("waited {limit:?} in vain until {what}; {}", state()),
    }
}

/// Polls `condition` until it gives a value or `limit` passes.
pub fn within<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(POLL);
    }
}
