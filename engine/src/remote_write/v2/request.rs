//! Scrapes, one after the other -> one remote write 2.0 request.
//!
//! Symbols stay for the next request as long as most of them are used by each: a shard's targets
//! are much alike. A request that has used few of them is written anew without the others.

use super::alike;
use super::rewrite::{sections, without_unused};
use super::series::Series;
use crate::remote_write::construct::Template;
use crate::remote_write::encode::{Counts, Options};
use crate::remote_write::request::{Compression, Compressor};
use crate::remote_write::sink::Buffer;
use crate::remote_write::snappy::SnappyStream;
use bytes::Bytes;
use ringscrape_wal::definition::Block;
use ringscrape_wal::scrape::Scrape;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of symbols that are kept for the next request.
const SYMBOLS_BYTES_MAX: usize = 1 << 20;
/// Memory of resolved references that are kept for the next request, about.
const RESOLVED_BYTES_MAX: usize = 8 << 20;
/// Symbols stay if fewer than one byte in so many was unused.
const UNUSED_KEPT: usize = 8;
/// A request is sent as it is if fewer than one byte of symbols in so many is unused.
const UNUSED_SENT: usize = 4;

/// A request that is being written.
#[derive(Debug, Default)]
pub(in crate::remote_write) struct SymbolRequest {
    series: Series,
    /// `timeseries` fields.
    out: Buffer,
    snappy: SnappyStream,
}

impl SymbolRequest {
    /// Uncompressed bytes so far.
    pub(in crate::remote_write) fn len(&self) -> usize {
        match self.out.len() {
            0 => 0,
            len => len + self.series.symbols.used_len(),
        }
    }

    /// Writes the samples at `range` of a scrape: see `Series::encode`.
    pub(in crate::remote_write) fn encode(
        &mut self,
        scrape: &Scrape,
        range: Range<u32>,
        options: Options,
        template: impl FnMut(&Arc<Block>) -> Template,
    ) -> Counts {
        self.series
            .encode(&mut self.out, scrape, range, options, template)
    }

    /// Forgets what was written.
    pub(in crate::remote_write) fn clear(&mut self) {
        self.series.clear();
        self.out.clear();
    }

    /// Gives the body and starts anew.
    pub(in crate::remote_write) fn finish(
        &mut self,
        compression: Compression,
        compressor: &mut Compressor,
    ) -> Bytes {
        let symbols = &self.series.symbols;
        let symbols_len = symbols.fields().len();
        let unused = symbols_len - symbols.used_len();
        let fewer = (unused * UNUSED_SENT > symbols_len)
            .then(|| without_unused(symbols.fields(), self.out.as_slice()));
        let mut fields = symbols.fields();
        if let Some((needed, series)) = &fewer {
            fields = needed;
            self.out.clear();
            self.out.put(series);
        }
        let body = match compression {
            Compression::Snappy => {
                let compressed = compressor.compress(fields, Compression::Snappy);
                self.snappy.append(&compressed, fields.len());
                alike::write(&mut self.snappy, &mut self.out);
                self.snappy.finish()
            }
            Compression::Zstd => {
                compressor.compress(&[fields, self.out.as_slice()].concat(), compression)
            }
        };
        self.out.clear();
        if unused * UNUSED_KEPT > symbols_len
            || symbols_len > SYMBOLS_BYTES_MAX
            || self.series.cost() > RESOLVED_BYTES_MAX
        {
            self.series.clear();
        } else {
            self.series.symbols.next_request();
        }
        body
    }
}

/// Compresses an uncompressed request.
pub(in crate::remote_write) fn compress_symbols(
    raw: &[u8],
    compression: Compression,
    compressor: &mut Compressor,
) -> Bytes {
    if compression == Compression::Zstd {
        return compressor.compress(raw, compression);
    }
    let (fields, series) = sections(raw);
    let (mut snappy, mut out) = (SnappyStream::default(), Buffer::default());
    out.put(series);
    let compressed = compressor.compress(fields, Compression::Snappy);
    snappy.append(&compressed, fields.len());
    alike::write(&mut snappy, &mut out);
    snappy.finish()
}
