//! Headers and a compressed body -> which protocol it is, and the plain bytes in reused memory.
//!
//! Sources: the Prometheus remote write specifications 1.0 and 2.0; VictoriaMetrics' variant, which
//! is the 1.0 message with `Content-Encoding: zstd`.

use std::io::Read as _;

use clap::ValueEnum;
use zstd::zstd_safe;

use crate::http::request::Headers;

/// Largest uncompressed request.
const PLAIN_BYTES_MAX: usize = 128 << 20;

/// A way to write samples to a receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Remote write 1.0, compressed with snappy.
    #[value(name = "snappy-1.0")]
    Snappy1,
    /// Remote write 1.0, compressed with zstd: VictoriaMetrics' protocol.
    #[value(name = "zstd-1.0")]
    Zstd1,
    /// Remote write 2.0, compressed with snappy.
    #[value(name = "snappy-2.0")]
    Snappy2,
}

impl Protocol {
    /// All of them; a protocol's place here is its number.
    pub const ALL: [Protocol; 3] = [Protocol::Snappy1, Protocol::Zstd1, Protocol::Snappy2];

    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Snappy1 => "snappy 1.0",
            Protocol::Zstd1 => "zstd 1.0",
            Protocol::Snappy2 => "snappy 2.0",
        }
    }

    /// The protocol that a request's headers name, or `None` for one that does not exist.
    ///
    /// Without Content-Type or Content-Encoding it is taken for the 1.0 message and for snappy.
    pub(super) fn of(headers: &Headers<'_>) -> Option<Protocol> {
        let encoding = headers.content_encoding.trim_ascii();
        let is = |name: &[u8]| encoding.eq_ignore_ascii_case(name);
        match (version(headers.content_type)?, encoding) {
            (1, b"") => Some(Protocol::Snappy1),
            (1, _) if is(b"snappy") => Some(Protocol::Snappy1),
            (1, _) if is(b"zstd") => Some(Protocol::Zstd1),
            (2, _) if is(b"snappy") => Some(Protocol::Snappy2),
            _ => None,
        }
    }
}

/// Major version of the message that a Content-Type names.
fn version(content_type: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(content_type).ok()?;
    let mut parts = text.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    if !(kind.is_empty() || kind.eq_ignore_ascii_case("application/x-protobuf")) {
        return None;
    }
    let mut version = 1;
    for part in parts {
        let Some((name, value)) = part.split_once('=') else {
            continue;
        };
        if name.trim().eq_ignore_ascii_case("proto") {
            version = match value.trim().trim_matches('"') {
                "prometheus.WriteRequest" => 1,
                "io.prometheus.write.v2.Request" => 2,
                _ => return None,
            };
        }
    }
    Some(version)
}

/// Decompresses one body after the other into the same memory.
pub(super) struct Decompressor {
    snappy: snap::raw::Decoder,
    zstd: zstd_safe::DCtx<'static>,
    plain: Vec<u8>,
}

impl Decompressor {
    pub(super) fn new() -> Decompressor {
        Decompressor {
            snappy: snap::raw::Decoder::new(),
            zstd: zstd_safe::DCtx::create(),
            plain: Vec::new(),
        }
    }

    /// The plain bytes of a body.
    ///
    /// # Errors
    /// A sentence when the bytes are damaged or hold more than 128 MiB.
    pub(super) fn plain(&mut self, protocol: Protocol, body: &[u8]) -> Result<&[u8], String> {
        let length = match protocol {
            Protocol::Snappy1 | Protocol::Snappy2 => {
                let fail = |error: snap::Error| format!("snappy: {error}");
                let room = self.room(snap::raw::decompress_len(body).map_err(fail)?)?;
                self.snappy
                    .decompress(body, &mut self.plain[..room])
                    .map_err(fail)?
            }
            Protocol::Zstd1 => match zstd_safe::get_frame_content_size(body) {
                Ok(Some(length)) => {
                    let room = self.room(usize::try_from(length).unwrap_or(usize::MAX))?;
                    let fail = |code| format!("zstd: {}", zstd_safe::get_error_name(code));
                    let buffer = &mut self.plain[..room];
                    self.zstd.decompress(buffer, body).map_err(fail)?
                }
                Ok(None) => self.streamed(body)?,
                Err(_) => return Err("zstd: no frame".into()),
            },
        };
        Ok(&self.plain[..length])
    }

    /// A frame that does not say how long its content is.
    fn streamed(&mut self, body: &[u8]) -> Result<usize, String> {
        let fail = |error: std::io::Error| format!("zstd: {error}");
        self.plain.clear();
        zstd::stream::read::Decoder::with_buffer(body)
            .map_err(fail)?
            .take(PLAIN_BYTES_MAX as u64 + 1)
            .read_to_end(&mut self.plain)
            .map_err(fail)?;
        self.room(self.plain.len())
    }

    /// Makes room for that many bytes.
    fn room(&mut self, length: usize) -> Result<usize, String> {
        if length > PLAIN_BYTES_MAX {
            return Err(format!("more than {PLAIN_BYTES_MAX} bytes"));
        }
        if self.plain.len() < length {
            self.plain.resize(length, 0);
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content_type: &str, content_encoding: &str) -> Option<Protocol> {
        Protocol::of(&Headers {
            content_type: content_type.as_bytes(),
            content_encoding: content_encoding.as_bytes(),
            ..Headers::default()
        })
    }

    #[test]
    fn headers_name_the_protocol() {
        const V1: &str = "application/x-protobuf";
        const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
        for (content_type, encoding, protocol) in [
            (V1, "snappy", Some(Protocol::Snappy1)),
            ("", "", Some(Protocol::Snappy1)),
            (
                "Application/X-Protobuf; proto=prometheus.WriteRequest",
                "Snappy",
                Some(Protocol::Snappy1),
            ),
            (V1, "zstd", Some(Protocol::Zstd1)),
            (V2, "snappy", Some(Protocol::Snappy2)),
            (V2, "zstd", None),
            (V1, "gzip", None),
            ("application/json", "snappy", None),
            ("application/x-protobuf; proto=x.Y", "snappy", None),
        ] {
            assert_eq!(
                of(content_type, encoding),
                protocol,
                "{content_type} {encoding}"
            );
        }
    }

    #[test]
    fn bodies_come_back_in_any_order_and_size() {
        let mut decompressor = Decompressor::new();
        for length in [0, 1, 100_000, 7, 3_000_000, 1000] {
            let plain: Vec<u8> = (0..length).map(|i| (i * 31 / 7) as u8).collect();
            let snappy = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
            let sized = zstd::bulk::compress(&plain, 1).unwrap();
            let unsized_ = zstd::stream::encode_all(&plain[..], 1).unwrap();
            for (protocol, body) in [
                (Protocol::Snappy1, snappy),
                (Protocol::Zstd1, sized),
                (Protocol::Zstd1, unsized_),
            ] {
                assert_eq!(decompressor.plain(protocol, &body).unwrap(), plain);
            }
        }
    }

    #[test]
    fn bombs_and_damage_are_refused() {
        let mut decompressor = Decompressor::new();
        let zeros = vec![0; PLAIN_BYTES_MAX + 1];
        let sized = zstd::bulk::compress(&zeros, 1).unwrap();
        let unsized_ = zstd::stream::encode_all(&zeros[..], 1).unwrap();
        drop(zeros);
        for body in [&sized, &unsized_] {
            let error = decompressor.plain(Protocol::Zstd1, body).unwrap_err();
            assert!(error.contains("more than"), "{error}");
            assert!(
                decompressor
                    .plain(Protocol::Zstd1, &body[..body.len() / 2])
                    .is_err()
            );
        }
        assert!(decompressor.plain(Protocol::Zstd1, b"no frame").is_err());
        assert!(decompressor.plain(Protocol::Snappy2, &[0xff; 9]).is_err());
    }
}
