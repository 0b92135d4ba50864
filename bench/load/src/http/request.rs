//! Bytes of a connection -> one complete request, or how many more are needed.

/// Most bytes of a request line and its headers.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

/// A complete request; borrows the connection's buffer.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    /// Path with its query.
    pub(crate) path: &'a str,
    pub(crate) body: &'a [u8],
    /// When its last bytes arrived, in ns since the Unix epoch.
    pub(crate) arrival_ns: u64,
    pub(crate) headers: Headers<'a>,
}

/// The headers that either server looks at.
#[derive(Clone, Copy, Default)]
pub(crate) struct Headers<'a> {
    pub(crate) accept: &'a [u8],
    pub(crate) accept_encoding: &'a [u8],
    pub(crate) content_encoding: &'a [u8],
    pub(crate) content_type: &'a [u8],
    pub(crate) close: bool,
}

/// What the bytes so far are.
pub(crate) enum Parsed<'a> {
    /// A request and how many bytes it takes.
    Complete(Request<'a>, usize),
    /// At least this many bytes in all are needed; 0 if unknown.
    Partial(usize),
    /// Not a request that these servers take: the status to answer before closing.
    Bad(&'static str),
}

/// Reads one request from the start of `bytes`; its body may have `body_bytes_max` bytes.
pub(crate) fn parse(bytes: &[u8], body_bytes_max: usize, arrival_ns: u64) -> Parsed<'_> {
    let mut slots = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut slots);
    let head = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Parsed::Partial(0),
        Ok(httparse::Status::Partial) => return Parsed::Bad("431 Request Header Fields Too Large"),
        Err(_) => return Parsed::Bad("400 Bad Request"),
    };
    let mut headers = Headers {
        close: request.version == Some(0),
        ..Headers::default()
    };
    let mut length = 0usize;
    for header in request.headers.iter() {
        let value = header.value;
        match header.name.len() {
            6 if header.name.eq_ignore_ascii_case("accept") => headers.accept = value,
            10 if header.name.eq_ignore_ascii_case("connection") => {
                headers.close = value.eq_ignore_ascii_case(b"close");
            }
            12 if header.name.eq_ignore_ascii_case("content-type") => headers.content_type = value,
            14 if header.name.eq_ignore_ascii_case("content-length") => {
                let text = std::str::from_utf8(value).ok();
                match text.and_then(|text| text.trim().parse().ok()) {
                    Some(value) => length = value,
                    None => return Parsed::Bad("400 Bad Request"),
                }
            }
            15 if header.name.eq_ignore_ascii_case("accept-encoding") => {
                headers.accept_encoding = value;
            }
            16 if header.name.eq_ignore_ascii_case("content-encoding") => {
                headers.content_encoding = value;
            }
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                return Parsed::Bad("411 Length Required");
            }
            _ => {}
        }
    }
    if length > body_bytes_max {
        return Parsed::Bad("413 Content Too Large");
    }
    let total = head + length;
    if bytes.len() < total {
        return Parsed::Partial(total);
    }
    let (Some(method), Some(path)) = (request.method, request.path) else {
        return Parsed::Bad("400 Bad Request");
    };
    let body = &bytes[head..total];
    Parsed::Complete(
        Request {
            method,
            path,
            body,
            arrival_ns,
            headers,
        },
        total,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POST: &[u8] =
        b"POST /w HTTP/1.1\r\nContent-Length: 5\r\nAccept-Encoding: gzip\r\n\r\nhello";

    #[test]
    fn complete_and_every_prefix() {
        match parse(POST, 10, 1) {
            Parsed::Complete(request, used) => {
                assert_eq!(
                    (request.method, request.path, request.body),
                    ("POST", "/w", &b"hello"[..])
                );
                assert_eq!(request.headers.accept_encoding, b"gzip");
                assert_eq!(used, POST.len());
            }
            _ => panic!("not complete"),
        }
        for end in 0..POST.len() {
            assert!(
                matches!(parse(&POST[..end], 10, 1), Parsed::Partial(_)),
                "{end}"
            );
        }
    }

    #[test]
    fn refusals() {
        assert!(matches!(
            parse(POST, 4, 1),
            Parsed::Bad("413 Content Too Large")
        ));
        let chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(matches!(
            parse(chunked, 4, 1),
            Parsed::Bad("411 Length Required")
        ));
        let long = [
            b"GET / HTTP/1.1\r\nA: ".to_vec(),
            vec![b'x'; HEAD_BYTES_MAX],
        ]
        .concat();
        assert!(matches!(parse(&long, 4, 1), Parsed::Bad(_)));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes, 100, 0);
        }
    }
}
