//! Any bytes -> the HTTP response reader and the gzip reader, whole and split: they must agree.

use super::inflate::{Gunzip, GzipError};
use super::response::{Head, ResponseError, ResponseReader, Step};
use super::whole::{WholeGunzip, claimed_bytes};

/// A few bytes may hold a gigabyte.
const CONTENT_BYTES_MAX: usize = 1 << 20;

/// What a response came to.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    head: Option<Head>,
    body: Vec<u8>,
    /// Where it ended; `None`: it needs more.
    ended_at: Option<usize>,
    /// What a close at the end of the input means.
    closed: Result<(), ResponseError>,
    error: Option<ResponseError>,
}

/// Feeds `data` to the response reader, whole and in two ways split, and asserts that the outcome
/// is the same. The first byte chooses where to split, the rest is the response; what the body
/// holds is given to the gzip reader likewise.
pub fn http_response(data: &[u8]) {
    let Some((&seed, data)) = data.split_first() else {
        return;
    };
    let whole = respond(data, data.len().max(1));
    for part in [1, usize::from(seed) + 2] {
        assert_eq!(whole, respond(data, part), "split in parts of {part}");
    }
    let content = gunzip(&whole.body, whole.body.len().max(1), 64 * 1024);
    for (part, room) in [(1, usize::from(seed) + 1), (usize::from(seed) + 1, 64)] {
        let split = gunzip(&whole.body, part, room);
        assert_eq!(content.1, split.1, "split in parts of {part}");
        // A fault may be seen before what stands in front of it is written out.
        let len = content.0.len().min(split.0.len());
        assert_eq!(content.0[..len], split.0[..len]);
        assert!(content.1.is_err() || content.0.len() == split.0.len());
    }
    if let Some(mut inflated) = gunzip_whole(&whole.body) {
        assert_eq!(content.1, Ok(()));
        inflated.truncate(CONTENT_BYTES_MAX);
        assert_eq!(content.0, inflated);
    }
}

/// What the reader of whole streams makes of `data`; `None`: it has no opinion.
pub(super) fn gunzip_whole(data: &[u8]) -> Option<Vec<u8>> {
    let bytes = claimed_bytes(data).filter(|bytes| *bytes <= 4 * CONTENT_BYTES_MAX)?;
    let mut content = vec![0; bytes];
    WholeGunzip::new()?
        .inflate(data, &mut content)
        .then_some(content)
}

fn respond(data: &[u8], part: usize) -> Outcome {
    let mut reader = ResponseReader::default();
    let mut head = Head::default();
    let mut outcome = Outcome {
        head: None,
        body: Vec::new(),
        ended_at: None,
        closed: Ok(()),
        error: None,
    };
    let mut start = 0;
    'parts: for input in data.chunks(part) {
        let mut pos = 0;
        loop {
            match reader.step(input, &mut pos, &mut head) {
                Ok(Step::Head) => outcome.head = Some(head.clone()),
                Ok(Step::Body(range)) => {
                    assert!(!range.is_empty());
                    outcome.body.extend_from_slice(&input[range]);
                }
                Ok(Step::NeedMore) => break,
                Ok(Step::End) => {
                    outcome.ended_at = Some(start + pos);
                    break 'parts;
                }
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            }
        }
        assert_eq!(pos, input.len(), "needs more with input left");
        start += input.len();
    }
    outcome.closed = reader.closed();
    outcome
}

fn gunzip(data: &[u8], part: usize, room: usize) -> (Vec<u8>, Result<(), GzipError>) {
    let mut gunzip = Gunzip::default();
    let mut content = Vec::new();
    let mut window = vec![0; room];
    for input in data.chunks(part) {
        let mut read = 0;
        loop {
            let progress = match gunzip.inflate(&input[read..], &mut window) {
                Ok(progress) => progress,
                Err(error) => return (content, Err(error)),
            };
            read += progress.read;
            content.extend_from_slice(&window[..progress.written]);
            if content.len() > CONTENT_BYTES_MAX {
                content.truncate(CONTENT_BYTES_MAX);
                return (content, Ok(()));
            }
            if read == input.len() && progress.written < room {
                break;
            }
        }
    }
    (content, gunzip.finish())
}
