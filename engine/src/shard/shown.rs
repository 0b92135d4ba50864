//! What went wrong with a scrape -> what is shown of it.
//!
//! Who may store a configuration, or look at one, can make a node ask any address that it reaches:
//! the errors of such scrapes quote nothing of what came back.

use crate::fetch::FetchError;
use crate::scrape::ScrapeError;

/// Most bytes of an error of a stored configuration's target.
const BYTES_MAX: usize = 300;

/// The text for an error of a fetch. `is_stored`: for a job of a stored configuration.
pub(super) fn fetch_error(error: &FetchError, is_stored: bool) -> String {
    if !is_stored {
        return error.to_string();
    }
    bounded(match error {
        FetchError::Status { status, .. } => format!("server returned HTTP status {status}"),
        FetchError::Redirect(_) => "the server's redirect cannot be followed".to_owned(),
        FetchError::ContentType { .. } => "the Content-Type is missing or none that is read, and \
                                           there is no fallback_scrape_protocol"
            .to_owned(),
        FetchError::Response { phase, .. } if error.cause() == "malformed_response" => {
            format!("malformed HTTP response (while {phase})")
        }
        // After a redirect it is the host of the redirect.
        FetchError::Resolve { .. } => "dial tcp: lookup of the host gave no address".to_owned(),
        FetchError::Network { .. }
        | FetchError::Connect { .. }
        | FetchError::Socket { .. }
        | FetchError::ConnectionsMax(_)
        | FetchError::Connection { .. }
        | FetchError::Timeout(_)
        | FetchError::Response { .. }
        | FetchError::ContentEncoding(_)
        | FetchError::Gzip(_)
        | FetchError::BodySizeLimit
        | FetchError::LineTooLong(_)
        | FetchError::CarryLimit(_)
        // What a shard itself says in `Body` is of the target's settings.
        | FetchError::Body { .. } => error.to_string(),
    })
}

/// The text for an error of a scrape.
pub(super) fn scrape_error(error: &ScrapeError, is_stored: bool) -> String {
    if !is_stored {
        return error.to_string();
    }
    bounded(match error {
        ScrapeError::Parse { line, column, .. } => {
            format!("line {line}, column {column}: the body does not follow its format")
        }
        ScrapeError::Protobuf { offset, .. } => {
            format!("protobuf, from byte {offset} on: the body does not follow its format")
        }
        ScrapeError::Histogram(_) => "a native histogram contradicts itself".to_owned(),
        ScrapeError::Series(_) => "a series of the body has labels that are not valid".to_owned(),
        ScrapeError::LabelLimit(_) => "label_limit, label_name_length_limit or \
                                       label_value_length_limit exceeded"
            .to_owned(),
        ScrapeError::BucketLimit { .. }
        | ScrapeError::SampleLimit { .. }
        | ScrapeError::Incomplete
        | ScrapeError::Failed(_) => error.to_string(),
    })
}

fn bounded(mut text: String) -> String {
    if text.len() > BYTES_MAX {
        text.truncate(text.floor_char_boundary(BYTES_MAX));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::Phase;
    use crate::fetch::response::ResponseError;
    use crate::scrape::Failure;

    const SECRET: &str = "hush";

    /// Every kind of error that holds something of what came back.
    fn errors() -> (Vec<FetchError>, Vec<ScrapeError>) {
        let secret = || SECRET.to_owned();
        let response = |error| FetchError::Response {
            error,
            phase: Phase::Head,
        };
        let of_fetch = vec![
            FetchError::Status {
                status: 503,
                reason: secret(),
            },
            FetchError::Redirect(secret()),
            FetchError::ContentType {
                reason: secret(),
                body_bytes: 1,
            },
            response(ResponseError::NotHttp(secret())),
            response(ResponseError::ContentLength(secret())),
            response(ResponseError::TransferEncoding(secret())),
            FetchError::Resolve {
                host: secret(),
                reason: secret(),
            },
        ];
        let of_scrape = vec![
            ScrapeError::Parse {
                line: 3,
                column: 5,
                reason: secret(),
                near: secret(),
            },
            ScrapeError::Protobuf {
                offset: 9,
                reason: secret(),
            },
            ScrapeError::Histogram(secret()),
            ScrapeError::Series(secret()),
            ScrapeError::LabelLimit(secret()),
        ];
        (of_fetch, of_scrape)
    }

    #[test]
    fn errors_of_stored_configurations_quote_nothing_of_a_target() {
        let (of_fetch, of_scrape) = errors();
        let all = |is_stored: bool| -> Vec<String> {
            let fetch = of_fetch.iter().map(|error| fetch_error(error, is_stored));
            let scrape = of_scrape.iter().map(|error| scrape_error(error, is_stored));
            fetch.chain(scrape).collect()
        };
        for text in all(false) {
            assert!(text.contains(SECRET), "{text}: the file's jobs show all");
        }
        let shown = all(true);
        for text in &shown {
            assert!(!text.contains(SECRET) && !text.is_empty(), "{text}");
        }
        assert_eq!(shown[0], "server returned HTTP status 503");
        assert!(shown[7].starts_with("line 3, column 5: "), "{}", shown[7]);
        assert!(shown[8].contains("from byte 9 on: "), "{}", shown[8]);
    }

    #[test]
    fn they_are_bounded_and_else_as_they_are() {
        let closed = FetchError::Response {
            error: ResponseError::NoResponse,
            phase: Phase::Wait,
        };
        assert_eq!(fetch_error(&closed, true), closed.to_string());
        let long = ScrapeError::Failed(Failure::Other("é".repeat(BYTES_MAX)));
        let text = scrape_error(&long, true);
        assert!(text.len() <= BYTES_MAX + '…'.len_utf8(), "{}", text.len());
        assert!(text.ends_with("é…"), "{text}");
    }
}
