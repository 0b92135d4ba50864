//! An HTTP service that lists target groups -> its groups, asked at intervals.
//!
//! Source: Prometheus discovery/http/http.go. An answer that can't be used keeps the groups of the
//! last one that could.

use super::source::Publisher;
use super::{Counters, TargetGroup, groups};
use crate::config::HttpSdConfig;
use crate::service::reach;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Largest answer that is read.
const BODY_BYTES_MAX: usize = 256 << 20;
/// The same where the number of targets is bounded: bytes for each of them.
const BODY_BYTES_PER_TARGET: usize = 4 << 10;

/// First pause after a failure while there is no list yet; doubled up to the refresh interval.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// Runs until aborted. Runs on: control.
pub(super) async fn run(config: HttpSdConfig, publisher: Publisher, counters: Arc<Counters>) {
    let refresh = Duration::from_millis(config.refresh_interval_ms);
    // No proxy from the environment: Prometheus takes one only if told to.
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(refresh)
        .user_agent(concat!("ringscrape/", env!("CARGO_PKG_VERSION")));
    let client = match &config.networks {
        Some(networks) => reach::confine(client, networks),
        None => client,
    };
    let client = match client.build() {
        Ok(client) => client,
        Err(cause) => {
            counters.http_failures.fetch_add(1, Relaxed);
            tracing::error!("cannot make an HTTP client for http_sd: {cause}");
            return;
        }
    };
    let shown = without_credentials(&config.url);
    let mut retry = RETRY_MIN;
    let mut answered = false;
    let mut ticks = tokio::time::interval(refresh);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        match ask(&client, &config, &shown).await {
            Ok(groups) => {
                answered = true;
                publisher.publish(groups);
            }
            Err(cause) => {
                counters.http_failures.fetch_add(1, Relaxed);
                let kept = if answered {
                    "; the former targets stay"
                } else {
                    ""
                };
                tracing::warn!(url = %shown, "cannot refresh http_sd: {cause}{kept}");
            }
        }
        if !answered && retry < refresh {
            tokio::time::sleep(retry).await;
            retry *= 2;
        } else {
            ticks.tick().await;
        }
    }
}

async fn ask(
    client: &reqwest::Client,
    config: &HttpSdConfig,
    shown: &str,
) -> Result<Vec<Arc<TargetGroup>>, String> {
    if let (Some(networks), Ok(url)) = (&config.networks, url::Url::parse(&config.url)) {
        reach::check(networks, &url)?;
    }
    let seconds = config.refresh_interval_ms as f64 / 1000.0;
    let request = client
        .get(&config.url)
        .header("Accept", "application/json")
        .header("X-Prometheus-Refresh-Interval-Seconds", seconds.to_string());
    // The error's own text names the URL, which may hold a password.
    let failed = |error: reqwest::Error| causes(&error.without_url());
    let mut response = request.send().await.map_err(failed)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(format!("the answer is {}, not 200", response.status()));
    }
    let content_type = response.headers().get("Content-Type");
    let content_type = content_type
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !is_json(content_type) {
        return Err(format!(
            "the Content-Type is {content_type:?}, not application/json"
        ));
    }
    let bytes_max = config.targets_max.map_or(BODY_BYTES_MAX, |targets_max| {
        let targets_max = usize::try_from(targets_max).unwrap_or(usize::MAX);
        let bytes = targets_max.saturating_mul(BODY_BYTES_PER_TARGET);
        bytes.clamp(BODY_BYTES_PER_TARGET * 16, BODY_BYTES_MAX)
    });
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > bytes_max {
            return Err(format!("the answer is larger than {bytes_max} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    let groups = groups::from_json(&mut body, shown, ("__meta_url", shown))?;
    let targets: usize = groups.iter().map(|group| group.targets.len()).sum();
    match config.targets_max {
        Some(most) if targets as u64 > most => Err(format!(
            "the answer has {targets} targets; at most {most} are allowed"
        )),
        _ => Ok(groups),
    }
}

/// An error with what caused it.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}

/// `application/json`, possibly with `charset=utf-8`.
fn is_json(content_type: &str) -> bool {
    let (kind, rest) = content_type.split_once(';').unwrap_or((content_type, ""));
    let charset = rest.trim_start().to_ascii_lowercase();
    kind.eq_ignore_ascii_case("application/json")
        && matches!(charset.as_str(), "" | "charset=utf-8" | "charset=\"utf-8\"")
}

/// The URL without user and password: it becomes a label, and labels are shown.
fn without_credentials(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(mut parsed) if !parsed.username().is_empty() || parsed.password().is_some() => {
            // Both fail only for URLs that can't have a host.
            let _ = parsed.set_username("");
            let _ = parsed.set_password(None);
            parsed.to_string()
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_read() {
        for (content_type, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=UTF-8", true),
            ("application/json;charset=\"utf-8\"", true),
            ("application/json; charset=latin1", false),
            ("text/plain", false),
            ("application/jsonx", false),
            ("", false),
        ] {
            assert_eq!(is_json(content_type), expected, "{content_type}");
        }
    }

    #[test]
    fn credentials_are_not_shown() {
        assert_eq!(without_credentials("http://h:80/x"), "http://h:80/x");
        assert_eq!(without_credentials("http://u:p@h/x?y"), "http://h/x?y");
        assert_eq!(without_credentials("http://u@h/x"), "http://h/x");
    }
}
