//! A `Content-Type` field -> the dialect of the body, or why the scrape must fail.
//!
//! Source: Prometheus model/textparse/interface.go (`extractMediaType`) and Go's
//! mime.ParseMediaType, whose tolerance (trailing semicolon, case, equal duplicates) and strictness
//! (a malformed parameter spoils the field) it inherits.

use crate::config::ScrapeProtocol;
use crate::parse::Dialect;

/// The dialect that `content_type` (the field's value, empty if missing) asks for. A blank,
/// malformed or unknown type is read as `fallback`, if there is one.
///
/// # Errors
/// Why there is no dialect, in Prometheus' words.
pub fn dialect(content_type: &str, fallback: Option<ScrapeProtocol>) -> Result<Dialect, String> {
    let fault = if content_type.is_empty() {
        "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol \
         specified for target"
            .to_owned()
    } else {
        match media_type(content_type) {
            None => format!(
                "cannot parse Content-Type {content_type:?} and no fallback_scrape_protocol for \
                 target"
            ),
            Some(media_type) => match media_type.as_str() {
                "text/plain" => return Ok(Dialect::Text),
                "application/openmetrics-text" => return Ok(Dialect::OpenMetrics),
                // Whatever message it says it is, as in Prometheus.
                "application/vnd.google.protobuf" => return Ok(Dialect::Protobuf),
                _ => format!(
                    "received unsupported Content-Type {content_type:?} and no \
                     fallback_scrape_protocol specified for target"
                ),
            },
        }
    };
    fallback.map(dialect_of).ok_or(fault)
}

/// The dialect of an exposition format.
pub fn dialect_of(protocol: ScrapeProtocol) -> Dialect {
    match protocol {
        ScrapeProtocol::OpenMetricsText1_0_0 | ScrapeProtocol::OpenMetricsText0_0_1 => {
            Dialect::OpenMetrics
        }
        ScrapeProtocol::PrometheusText1_0_0 | ScrapeProtocol::PrometheusText0_0_4 => Dialect::Text,
        ScrapeProtocol::PrometheusProto => Dialect::Protobuf,
    }
}

/// The media type in lower case, if the whole field, parameters included, is well formed.
fn media_type(field: &str) -> Option<String> {
    let (base, mut rest) = field.split_at(field.find(';').unwrap_or(field.len()));
    let media_type = base.trim().to_lowercase();
    let subtype = token(&media_type)?;
    if !subtype.is_empty() && !token(subtype.strip_prefix('/')?)?.is_empty() {
        return None;
    }
    let mut parameters: Vec<(String, String)> = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Some(media_type);
        }
        let Some((name, value, after)) = parameter(rest) else {
            // A trailing semicolon is no fault.
            return (rest.trim() == ";").then_some(media_type);
        };
        let name = name.to_lowercase();
        if parameters.iter().any(|(n, v)| *n == name && *v != value) {
            return None;
        }
        parameters.push((name, value));
        rest = after;
    }
}

/// `; name = value` at the start of `text`, and what follows.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let text = text.strip_prefix(';')?.trim_start();
    let after_name = token(text)?;
    let name = &text[..text.len() - after_name.len()];
    let text = after_name.trim_start().strip_prefix('=')?.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        let after = token(text)?;
        return Some((name, text[..text.len() - after.len()].to_owned(), after));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((name, value, &quoted[at + 1..])),
            '\r' | '\n' => return None,
            '\\' => match chars.next_if(|&(_, next)| is_special(next)) {
                Some((_, escaped)) => value.push(escaped),
                None => value.push('\\'),
            },
            _ => value.push(char),
        }
    }
    None
}

/// Skips an RFC 2045 token at the start of `text`; `None`: there is none.
fn token(text: &str) -> Option<&str> {
    let is_token = |c: char| c.is_ascii_graphic() && !is_special(c);
    let after = text.trim_start_matches(is_token);
    (after.len() < text.len()).then_some(after)
}

/// RFC 2045 `tspecials`.
fn is_special(char: char) -> bool {
    "()<>@,;:\\\"/[]?=".contains(char)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_types_in_any_writing() {
        for (field, expected) in [
            ("text/plain", Dialect::Text),
            ("text/plain; version=0.0.4; charset=utf-8", Dialect::Text),
            (
                "Text/Plain;Version=1.0.0;escaping=allow-utf-8",
                Dialect::Text,
            ),
            (" text/plain ;", Dialect::Text),
            ("text/plain; charset=\"utf-8\"", Dialect::Text),
            ("text/plain; a=\"x\\\"y;z\" ; b = c", Dialect::Text),
            ("text/plain; a=1; A=1", Dialect::Text),
            (
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                Dialect::OpenMetrics,
            ),
            ("application/vnd.google.protobuf", Dialect::Protobuf),
            (
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
                 encoding=delimited",
                Dialect::Protobuf,
            ),
            (
                "application/OpenMetrics-Text;version=\"0.0.1\"",
                Dialect::OpenMetrics,
            ),
        ] {
            assert_eq!(dialect(field, None), Ok(expected), "{field}");
        }
    }

    #[test]
    fn faults_fail_without_a_fallback_and_use_it_with_one() {
        for (field, words) in [
            ("", "blank Content-Type"),
            (
                "text/html",
                "received unsupported Content-Type \"text/html\"",
            ),
            ("text", "received unsupported"),
            ("application/x-protobuf", "received unsupported"),
            ("application/json; charset=utf-8", "received unsupported"),
            ("text/plain/x", "cannot parse"),
            ("text/", "cannot parse"),
            ("/plain", "cannot parse"),
            (";", "cannot parse"),
            ("text/plain; charset", "cannot parse"),
            ("text/plain; charset=", "cannot parse"),
            ("text/plain; charset=\"utf-8", "cannot parse"),
            ("text/plain; a=1; a=2", "cannot parse"),
            ("text/plain;; a=1", "cannot parse"),
            ("text/plain, text/html", "cannot parse"),
            ("text/pl\u{e4}in", "cannot parse"),
        ] {
            let fault = dialect(field, None).expect_err(field);
            assert!(fault.contains(words), "{field}: {fault}");
            assert!(fault.contains("no fallback_scrape_protocol"), "{fault}");
            let fallback = Some(ScrapeProtocol::OpenMetricsText1_0_0);
            assert_eq!(dialect(field, fallback), Ok(Dialect::OpenMetrics));
            let fallback = Some(ScrapeProtocol::PrometheusText0_0_4);
            assert_eq!(dialect(field, fallback), Ok(Dialect::Text));
        }
    }
}
