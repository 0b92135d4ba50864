//! The response reader: tables of what is accepted and refused, and random responses, split.

use crate::fetch::fuzz::http_response;
use crate::fetch::response::*;
use crate::fetch::tests::parts;
use proptest::prelude::*;

/// What a response came to: its head, its body, and the end or the error.
#[derive(Debug, PartialEq)]
struct Read {
    head: Option<Head>,
    body: Vec<u8>,
    /// Bytes after the end; `None`: it did not end before a close.
    rest: Option<Vec<u8>>,
}

fn read(data: &[u8], cuts: &[usize]) -> Result<Read, ResponseError> {
    let mut reader = ResponseReader::default();
    let mut scratch = Head::default();
    let mut result = Read {
        head: None,
        body: Vec::new(),
        rest: None,
    };
    let mut used = 0;
    for part in parts(data, cuts) {
        let mut pos = 0;
        loop {
            match reader.step(part, &mut pos, &mut scratch)? {
                Step::Head => result.head = Some(scratch.clone()),
                Step::Body(range) => result.body.extend_from_slice(&part[range]),
                Step::NeedMore => break,
                Step::End => {
                    result.rest = Some(data[used + pos..].to_vec());
                    return Ok(result);
                }
            }
        }
        used += part.len();
    }
    reader.closed()?;
    Ok(result)
}

fn whole(data: &str) -> Result<Read, ResponseError> {
    read(data.as_bytes(), &[usize::MAX])
}

#[test]
fn framings_and_keep_alive() {
    for (response, body, keep_alive) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            "abc",
            true,
        ),
        ("HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", "abc", true),
        ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "", true),
        (
            "HTTP/1.1 200 OK\r\ncontent-length:3\r\nCONNECTION: Close\r\n\r\nabc",
            "abc",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\nContent-Length: 3\r\n\r\nabc",
            "abc",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: a, close ,b\r\nContent-Length: 1\r\n\r\na",
            "a",
            false,
        ),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            "abc",
            false,
        ),
        (
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
            "abc",
            true,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nabc", "abc", false),
        (
            "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n",
            "",
            true,
        ),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", "", true),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "abc",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n\
             0a ; x=\"y\"\r\n0123456789\r\n1;\nx\r\n000\r\nT: 1\r\nU: 2\r\n\r\n",
            "0123456789x",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n\
             1\r\nx\r\n0\r\n\r\n",
            "x",
            false,
        ),
        (
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n\
             1\r\nx\r\n0\r\n\r\n",
            "x",
            false,
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
            "x",
            true,
        ),
    ] {
        for cuts in [&[usize::MAX][..], &[1], &[2, 3]] {
            let read = read(response.as_bytes(), cuts).unwrap();
            let head = read.head.unwrap();
            assert_eq!(read.body, body.as_bytes(), "{response:?}");
            assert_eq!(head.keep_alive, keep_alive, "{response:?}");
        }
    }
}

#[test]
fn fields() {
    let read = whole(
        "HTTP/1.1 302 Found elsewhere\r\nContent-Type:  text/plain; version=0.0.4 \r\n\
         Content-Type: second\r\nContent-Encoding: GZIP\r\nLocation: /x\r\nFolded: a\r\n b\r\n\
         Content-Length: 0\r\n\r\nmore",
    )
    .unwrap();
    let head = read.head.unwrap();
    assert_eq!((head.status, &*head.reason), (302, "Found elsewhere"));
    assert_eq!(head.content_type, "text/plain; version=0.0.4");
    assert_eq!(head.encoding, Encoding::Gzip);
    assert_eq!(head.location, "/x");
    assert_eq!(read.rest.as_deref(), Some(&b"more"[..]));
}

#[test]
fn content_encodings() {
    for (name, expected) in [
        ("gzip", Encoding::Gzip),
        ("X-Gzip", Encoding::Gzip),
        ("identity", Encoding::Identity),
        ("none", Encoding::Identity),
        ("br", Encoding::Unsupported("br")),
        ("ZSTD", Encoding::Unsupported("zstd")),
    ] {
        let response = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {name}\r\n\r\n");
        assert_eq!(whole(&response).unwrap().head.unwrap().encoding, expected);
    }
}

#[test]
fn refused() {
    let long_field = format!(
        "HTTP/1.1 200 OK\r\nX: {}\r\n\r\n",
        "x".repeat(HEAD_BYTES_MAX)
    );
    let fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(129));
    let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(17);
    let chunked =
        |body: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let length = |value: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {value}\r\n\r\nabc");
    for (response, words) in [
        ("SSH-2.0-OpenSSH_9.9\r\n".to_owned(), "it begins with \"S\""),
        (
            "HTTQ/1.1 200 OK\r\n\r\n".to_owned(),
            "it begins with \"HTTQ\"",
        ),
        (
            "\r\nHTTP/1.1 200 OK\r\n\r\n".to_owned(),
            "it begins with \"\\r\"",
        ),
        ("HTTP/2 200\r\n\r\n".to_owned(), "not HTTP/1.0 or HTTP/1.1"),
        ("HTTP/1.1 20 OK\r\n\r\n".to_owned(), "invalid status code"),
        (
            "HTTP/1.1 099 OK\r\n\r\n".to_owned(),
            "status code out of range",
        ),
        (
            "HTTP/1.1 200 OK\r\nA b: c\r\n\r\n".to_owned(),
            "invalid header field name",
        ),
        (
            "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n".to_owned(),
            "invalid header field value",
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned(),
            "101 Switching",
        ),
        (fields, "more than 128 header fields"),
        (long_field, "longer than 65536 bytes"),
        (interim, "more than 16 interim"),
        (length("x"), "bad Content-Length \"x\""),
        (length("-1"), "bad Content-Length"),
        (length("+1"), "bad Content-Length"),
        (length(""), "bad Content-Length"),
        (length("3, 4"), "bad Content-Length"),
        (length("99999999999999999999"), "bad Content-Length"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_owned(),
            "unsupported Transfer-Encoding \"gzip, chunked\"",
        ),
        (chunked("x\r\n"), "chunk size missing"),
        (chunked("\r\n"), "chunk size missing"),
        (chunked("1x\r\n"), "invalid character in a chunk size"),
        (chunked("12345678901234567\r\n"), "chunk size too large"),
        (chunked("1\r\nab\r\n"), "chunk data longer than its size"),
        (chunked("1\r\na\n"), "chunk data longer than its size"),
        (
            chunked(&format!("1;{}", "x".repeat(5000))),
            "chunk extension longer",
        ),
        (
            chunked(&format!("0\r\n{}", "A: b\r\n".repeat(12_000))),
            "trailers longer",
        ),
        ("".to_owned(), "before it answered"),
        (
            "HTTP/1.1 200 OK\r\nA".to_owned(),
            "inside the response head",
        ),
        (length("4"), "before the end of the body"),
        (chunked("4\r\nabc"), "before the end of the body"),
        (chunked("3\r\nabc\r\n"), "before the end of the body"),
        (chunked("3\r\nabc\r\n0\r\n"), "before the end of the body"),
    ] {
        for cuts in [&[usize::MAX][..], &[1], &[1000, 3]] {
            let error = read(response.as_bytes(), cuts)
                .expect_err(words)
                .to_string();
            assert!(error.contains(words), "{error:?} has no {words:?}");
        }
    }
}

#[derive(Debug, Clone)]
enum Form {
    Length,
    Chunked(Vec<usize>, bool),
    Close,
}

proptest! {
    #[test]
    fn random_responses_split_anywhere(
        body in prop::collection::vec(any::<u8>(), 0..3000),
        form in prop_oneof![
            Just(Form::Length),
            (prop::collection::vec(1_usize..700, 1..5), any::<bool>())
                .prop_map(|(sizes, extras)| Form::Chunked(sizes, extras)),
            Just(Form::Close),
        ],
        interim in 0_usize..3,
        padding in 0_usize..3000,
        after in prop::collection::vec(any::<u8>(), 0..10),
        cuts in prop::collection::vec(1_usize..900, 1..6),
    ) {
        let mut data = b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n".repeat(interim);
        data.extend(format!("HTTP/1.1 200 OK\r\nX: {}\r\n", "x".repeat(padding)).bytes());
        let framing = match &form {
            Form::Length if body.is_empty() => Framing::Empty,
            Form::Length => Framing::Length(body.len() as u64),
            Form::Chunked(..) => Framing::Chunked,
            Form::Close => Framing::Close,
        };
        match &form {
            Form::Length => {
                data.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
                data.extend_from_slice(&body);
            }
            Form::Chunked(sizes, extras) => {
                data.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in parts(&body, sizes) {
                    let extension = if *extras { ";name=value" } else { "" };
                    data.extend(format!("{:X}{extension}\r\n", chunk.len()).bytes());
                    data.extend_from_slice(chunk);
                    data.extend(b"\r\n");
                }
                data.extend(if *extras { &b"0\r\nTrailer: x\r\n\r\n"[..] } else { b"0\r\n\r\n" });
            }
            Form::Close => {
                data.extend(b"\r\n");
                data.extend_from_slice(&body);
            }
        }
        let ends = !matches!(form, Form::Close);
        if ends {
            data.extend_from_slice(&after);
        }
        let read = read(&data, &cuts).unwrap();
        let head = read.head.unwrap();
        prop_assert_eq!(head.framing, framing);
        prop_assert_eq!(head.keep_alive, ends);
        prop_assert_eq!(read.body, body);
        // A close-delimited body, or one that ended with the input, is told by the close.
        prop_assert!(read.rest.is_none_or(|rest| rest == after));
    }

    #[test]
    fn damaged_responses_agree_with_themselves(
        seed in any::<u8>(),
        response in prop_oneof![
            Just("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\na 1\nb 2\nc 3\n"),
            Just("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x\r\na 1\n\r\n8\r\nb 2\nc 3\n\r\n0\r\nT: 1\r\n\r\n"),
            Just("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\na 1\n"),
        ],
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut data = vec![seed];
        data.extend_from_slice(response.as_bytes());
        for (at, byte) in damage {
            let at = at.index(data.len());
            data[at] = byte;
        }
        http_response(&data);
    }

    #[test]
    fn noise_agrees_with_itself(data in prop::collection::vec(any::<u8>(), 0..300)) {
        http_response(&data);
        http_response(&[&data[..data.len().min(1)], b"HTTP/1.1 200 OK\r\n", &data].concat());
    }
}
