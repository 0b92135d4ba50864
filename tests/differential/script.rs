//! A body's text and the request for it -> the page to serve: tokens filled in, fault set.
//!
//! | token | becomes |
//! |---|---|
//! | `<T0+N>`, `<T0-N>` | milliseconds since the epoch: start of the run plus N |
//! | `<S0+N>`, `<S0-N>` | the same in seconds with three decimals, N in milliseconds |
//! | `<CR>`, `<NUL>`, `<xHH>` | that byte |
//! | `<PATH>`, `<QUERY>`, `<PORT>`, `<HEADER:NAME>` | parts of the request |

use std::time::Duration;

use ringscrape_tests::exporter::{Fault, Page};
use ringscrape_tests::server::Request;

use crate::case::{Body, Case};

/// Serves `body` for `request`; `start_ms` is T0.
///
/// # Panics
/// If the case names an unknown token or fault.
pub(crate) fn page(body: &Body, request: &Request, start_ms: i64) -> Page {
    let number = usize::try_from(body.fault.1).expect("BUG: a fault's number is small");
    let fault = match body.fault.0.as_str() {
        "" => Fault::None,
        "chunked" => Fault::Chunked(number),
        "gzip" => Fault::Gzip,
        "until-close" => Fault::UntilClose,
        "delay" => Fault::Delay(Duration::from_millis(body.fault.1)),
        "hang" => Fault::Hang,
        "close" => Fault::CloseBefore,
        "cut" => Fault::CloseAfter(number),
        other => panic!("unknown fault {other:?}"),
    };
    Page {
        status: body.status,
        content_type: body.content_type.clone(),
        body: fill(&body.text, start_ms, |name| from_request(name, request)),
        fault,
    }
}

/// The explicit timestamps that a case's bodies can yield, ms relative to T0.
pub(crate) fn explicit_times(case: &Case) -> Vec<i64> {
    let mut times = Vec::new();
    for body in &case.bodies {
        for token in body.text.split('<').skip(1) {
            let token = token.split('>').next().unwrap_or_default();
            if let Some(offset) = token
                .strip_prefix("T0")
                .or_else(|| token.strip_prefix("S0"))
            {
                times.push(offset.parse().expect("an offset like +1500"));
            }
        }
    }
    times
}

fn from_request(name: &str, request: &Request) -> Option<String> {
    match name {
        "PATH" => Some(request.path().to_owned()),
        // So that a page can list its own server as a target.
        "PORT" => Some(request.local.port().to_string()),
        "QUERY" => Some(request.query().to_owned()),
        _ => {
            let header = name.strip_prefix("HEADER:")?.to_ascii_lowercase();
            Some(request.header(&header).unwrap_or("absent").to_owned())
        }
    }
}

fn fill(text: &str, start_ms: i64, other: impl Fn(&str) -> Option<String>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        bytes.extend_from_slice(before.as_bytes());
        let (token, after) = after
            .split_once('>')
            .unwrap_or_else(|| panic!("open <: {text}"));
        match token {
            "CR" => bytes.push(b'\r'),
            "NUL" => bytes.push(0),
            _ => bytes.extend(filled(token, start_ms, &other)),
        }
        rest = after;
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

fn filled(token: &str, start_ms: i64, other: impl Fn(&str) -> Option<String>) -> Vec<u8> {
    let offset = |text: &str| start_ms + text.parse::<i64>().expect("an offset like +1500");
    if let Some(number) = token.strip_prefix("T0") {
        offset(number).to_string().into_bytes()
    } else if let Some(number) = token.strip_prefix("S0") {
        let time = offset(number);
        format!("{}.{:03}", time / 1000, time % 1000).into_bytes()
    } else if let Some(byte) = token
        .strip_prefix('x')
        .and_then(|h| u8::from_str_radix(h, 16).ok())
    {
        vec![byte]
    } else {
        other(token)
            .unwrap_or_else(|| panic!("unknown token <{token}>"))
            .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_filled() {
        let bytes = fill("a <T0+5> <S0-1> <CR><xff><Q>", 1000, |_| Some("q".into()));
        assert_eq!(bytes, b"a 1005 0.999 \r\xffq");
    }
}
