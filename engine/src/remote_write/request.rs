//! Scrapes, one after the other -> one compressed request body.

use super::construct::{Constructor, Template};
use super::encode::{Counts, Options, TargetLabels, encode};
use super::sink::Sink;
use super::snappy::SnappyStream;
use super::v2::request::{SymbolRequest, compress_symbols};
use super::zstd_context::{ZstdContext, ZstdSearch, decompress};
use super::zstd_sequences::ZstdStream;
use bytes::Bytes;
use ringscrape_wal::definition::Block;
use ringscrape_wal::scrape::Scrape;
use std::ops::Range;
use std::sync::Arc;

/// The message that a request holds: `protobuf_message`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Message {
    /// `prometheus.WriteRequest`: remote write 1.0.
    #[default]
    V1,
    /// `io.prometheus.write.v2.Request`: remote write 2.0.
    V2,
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Form {
    /// The message.
    pub message: Message,
    /// How it is compressed.
    pub compression: Compression,
}

impl Form {
    /// A 1.0 message.
    pub fn v1(compression: Compression) -> Self {
        Self {
            message: Message::V1,
            compression,
        }
    }

    /// A 2.0 message.
    pub fn v2(compression: Compression) -> Self {
        Self {
            message: Message::V2,
            compression,
        }
    }
}

/// How a request's body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Snappy in block format: remote write as specified.
    #[default]
    Snappy,
    /// One zstd frame: VictoriaMetrics' remote write protocol.
    Zstd,
}

impl Compression {
    /// The value of `Content-Encoding`, and of a metric's `compression` label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Snappy => "snappy",
            Self::Zstd => "zstd",
        }
    }
}

/// Compresses with reused memory.
#[derive(Debug)]
pub struct Compressor {
    snappy: snap::raw::Encoder,
    scratch: Vec<u8>,
    zstd: Option<ZstdContext>,
    zstd_search: Option<ZstdSearch>,
}

impl Default for Compressor {
    fn default() -> Self {
        Self::new()
    }
}

impl Compressor {
    /// Without any memory yet.
    pub fn new() -> Self {
        Self {
            snappy: snap::raw::Encoder::new(),
            scratch: Vec::new(),
            zstd: None,
            zstd_search: None,
        }
    }

    /// Compresses `raw`, which is far below the 4 GiB that snappy allows, by searching.
    pub fn compress(&mut self, raw: &[u8], compression: Compression) -> Bytes {
        if compression == Compression::Zstd {
            let search = self.zstd_search.get_or_insert_with(ZstdSearch::new);
            return search.compress(raw);
        }
        let len_max = snap::raw::max_compress_len(raw.len());
        if self.scratch.len() < len_max {
            self.scratch.resize(len_max, 0);
        }
        let len = self
            .snappy
            .compress(raw, &mut self.scratch)
            .expect("BUG: a request is larger than snappy allows");
        Bytes::copy_from_slice(&self.scratch[..len])
    }

    /// Compresses a request that is ready.
    pub(super) fn compress_message(&mut self, raw: &[u8], form: Form) -> Bytes {
        match form.message {
            Message::V1 => self.compress(raw, form.compression),
            Message::V2 => compress_symbols(raw, form.compression, self),
        }
    }
}

/// A body of our own, uncompressed.
pub(super) fn uncompress(body: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::Snappy => snap::raw::Decoder::new()
            .decompress_vec(body)
            .expect("BUG: own snappy output does not uncompress"),
        Compression::Zstd => decompress(body),
    }
}

/// Requests from one comparison of both ways to compress to the next.
const REQUESTS_PER_TRIAL: u32 = 64;
/// Searching is worth its work if it makes this many percent of what construction does, or less.
const SEARCH_PERCENT: usize = 90;

#[derive(Debug)]
enum Stream {
    /// By construction: less work, and smaller where series differ in few places from the ones
    /// before, or from those of another target.
    Snappy(SnappyStream),
    Zstd(ZstdStream),
    /// Uncompressed, for a compressor that searches, while that makes much smaller requests: what
    /// repeats is further away, as names of objects that many families have.
    Searched(Vec<u8>, Compression),
    /// Remote write 2.0.
    Symbols(Box<SymbolRequest>, Compression),
}

/// A request that is being written.
#[derive(Debug)]
pub struct OpenRequest {
    constructor: Constructor,
    stream: Stream,
    /// Requests until both ways are compared.
    trial_in: u32,
}

impl Default for OpenRequest {
    fn default() -> Self {
        Self::new(Form::default())
    }
}

impl OpenRequest {
    /// An empty one.
    pub fn new(form: Form) -> Self {
        let mut constructor = Constructor::default();
        constructor.start();
        Self {
            constructor,
            stream: stream(form),
            trial_in: 1,
        }
    }

    /// Its form.
    pub fn form(&self) -> Form {
        match &self.stream {
            Stream::Snappy(_) => Form::v1(Compression::Snappy),
            Stream::Zstd(_) => Form::v1(Compression::Zstd),
            Stream::Searched(_, compression) => Form::v1(*compression),
            Stream::Symbols(_, compression) => Form::v2(*compression),
        }
    }

    /// Uncompressed bytes so far.
    pub fn raw_len(&self) -> usize {
        match &self.stream {
            Stream::Snappy(stream) => stream.len(),
            Stream::Searched(raw, _) => raw.len(),
            Stream::Zstd(stream) => stream.len(),
            Stream::Symbols(request, _) => request.len(),
        }
    }

    /// Takes another form, if it is empty.
    pub fn set_form(&mut self, form: Form) {
        if self.raw_len() == 0 && self.form() != form {
            self.stream = stream(form);
            // What was found of the other form says nothing of this one.
            self.trial_in = 1;
        }
    }

    /// Whether [`OpenRequest::encode`] makes use of a block's edits: to search takes none.
    pub fn uses_edits(&self) -> bool {
        matches!(self.stream, Stream::Snappy(_) | Stream::Zstd(_))
    }

    /// Writes the samples at `range` of a scrape, see `encode::encode`. `template` is called once
    /// per run.
    pub fn encode(
        &mut self,
        scrape: &Scrape,
        target: &TargetLabels,
        range: Range<u32>,
        options: Options,
        mut template: impl FnMut(&Arc<Block>) -> Template,
    ) -> Counts {
        let constructor = &mut self.constructor;
        match &mut self.stream {
            Stream::Snappy(to) => constructor.encode(to, scrape, target, range, options, template),
            Stream::Searched(raw, _) => {
                let block = |block: &Arc<Block>| template(block).block;
                encode(raw, scrape, target, range, options, block)
            }
            Stream::Zstd(to) => constructor.encode(to, scrape, target, range, options, template),
            Stream::Symbols(request, _) => request.encode(scrape, range, options, template),
        }
    }

    /// Forgets what was written.
    pub fn clear(&mut self) {
        self.constructor.start();
        match &mut self.stream {
            Stream::Snappy(stream) => stream.clear(),
            Stream::Searched(raw, _) => raw.clear(),
            Stream::Zstd(stream) => stream.clear(),
            Stream::Symbols(request, _) => request.clear(),
        }
    }

    /// Gives the body and starts anew.
    pub fn finish(&mut self, compressor: &mut Compressor) -> Bytes {
        self.constructor.start();
        self.trial_in = self.trial_in.saturating_sub(1);
        let trial = self.trial_in == 0;
        let compression = self.form().compression;
        let body = match &mut self.stream {
            Stream::Symbols(request, _) => return request.finish(compression, compressor),
            Stream::Snappy(stream) => stream.finish(),
            Stream::Zstd(stream) => {
                stream.finish(compressor.zstd.get_or_insert_with(ZstdContext::new))
            }
            Stream::Searched(raw, _) => {
                let body = compressor.compress(raw, compression);
                raw.clear();
                if trial {
                    // The next one is constructed again and compared.
                    self.trial_in = 1;
                    self.stream = stream(Form::v1(compression));
                }
                return body;
            }
        };
        if trial {
            self.trial_in = REQUESTS_PER_TRIAL;
            let searched = compressor.compress(&uncompress(&body, compression), compression);
            if searched.len() * 100 <= body.len() * SEARCH_PERCENT {
                self.stream = Stream::Searched(Vec::new(), compression);
            }
        }
        body
    }

    /// Writes `timeseries` fields that are ready.
    #[cfg(test)]
    pub(super) fn write_raw(&mut self, raw: &[u8]) {
        match &mut self.stream {
            Stream::Snappy(stream) => stream.literal(raw),
            Stream::Searched(to, _) => to.extend_from_slice(raw),
            Stream::Zstd(stream) => stream.literal(raw),
            Stream::Symbols(..) => panic!("not of this form"),
        }
    }
}

fn stream(form: Form) -> Stream {
    match (form.message, form.compression) {
        (Message::V1, Compression::Snappy) => Stream::Snappy(SnappyStream::default()),
        (Message::V1, Compression::Zstd) => Stream::Zstd(ZstdStream::default()),
        (Message::V2, compression) => Stream::Symbols(Box::default(), compression),
    }
}
