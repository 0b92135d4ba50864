//! Scrapes, one after the other -> one remote write 2.0 request.
//!
//! Symbols stay for the next request as long as most of them are used by each: a shard's targets
//! are much alike. A request that has used few of them is written anew without the others.

use super::alike::{self, Row};
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
/// Symbols stay if fewer than one byte in so many was unused; what was compressed of them, if
/// fewer are new.
const UNUSED_KEPT: usize = 8;
/// Scrapes among which one like the present one is looked for.
const KINDS_COMPARED: usize = 16;
/// A request is sent as it is if fewer than one byte of symbols in so many is unused.
const UNUSED_SENT: usize = 4;

/// A request that is being written.
#[derive(Debug, Default)]
pub(in crate::remote_write) struct SymbolRequest {
    series: Series,
    /// `timeseries` fields.
    out: Buffer,
    snappy: SnappyStream,
    /// The first symbols compressed, and how many bytes they are: they stay with the symbols.
    first_symbols: (Bytes, usize),
    /// The scrapes in `out`.
    rows: Vec<Row>,
    /// Of each: its layout, its number of samples and of bytes.
    kinds: Vec<(u64, u32, usize)>,
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
        let start = self.out.len();
        let counts = self
            .series
            .encode(&mut self.out, scrape, range, options, template);
        let kind = (scrape.layout.id, counts.samples, self.out.len() - start);
        let latest = self.kinds.len().saturating_sub(KINDS_COMPARED);
        let like = self.kinds[latest..]
            .iter()
            .rposition(|known| *known == kind);
        self.rows.push(Row {
            start,
            distance: like.map_or(0, |index| start - self.rows[latest + index].start),
        });
        self.kinds.push(kind);
        counts
    }

    /// Forgets what was written.
    pub(in crate::remote_write) fn clear(&mut self) {
        self.clear_symbols();
        self.clear_series();
    }

    fn clear_symbols(&mut self) {
        self.series.clear();
        self.first_symbols = (Bytes::new(), 0);
    }

    fn clear_series(&mut self) {
        self.out.clear();
        self.rows.clear();
        self.kinds.clear();
    }

    /// Begins the body with all symbols. Those of the requests before were compressed then.
    fn append_symbols(&mut self, compressor: &mut Compressor) {
        let fields = self.series.symbols.fields();
        let (compressed, len) = &mut self.first_symbols;
        if (fields.len() - *len) * UNUSED_KEPT > fields.len() {
            *compressed = compressor.compress(fields, Compression::Snappy);
            *len = fields.len();
        }
        self.snappy.append(compressed, *len);
        if *len < fields.len() {
            append(&mut self.snappy, &fields[*len..], compressor);
        }
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
        if let Some((_, series)) = &fewer {
            self.out.clear();
            self.rows.clear();
            self.out.put(series);
        }
        let body = match (compression, fewer) {
            (Compression::Snappy, fewer) => {
                match fewer {
                    Some((needed, _)) => append(&mut self.snappy, &needed, compressor),
                    None => self.append_symbols(compressor),
                }
                alike::write(&mut self.snappy, &mut self.out, &self.rows);
                self.snappy.finish()
            }
            (Compression::Zstd, fewer) => {
                let fields = fewer
                    .as_ref()
                    .map_or(symbols.fields(), |(needed, _)| needed);
                compressor.compress(&[fields, self.out.as_slice()].concat(), compression)
            }
        };
        self.clear_series();
        if unused * UNUSED_KEPT > symbols_len
            || symbols_len > SYMBOLS_BYTES_MAX
            || self.series.cost() > RESOLVED_BYTES_MAX
        {
            self.clear_symbols();
        } else {
            self.series.symbols.next_request();
        }
        body
    }
}

fn append(snappy: &mut SnappyStream, fields: &[u8], compressor: &mut Compressor) {
    let compressed = compressor.compress(fields, Compression::Snappy);
    snappy.append(&compressed, fields.len());
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
    append(&mut snappy, fields, compressor);
    alike::write(&mut snappy, &mut out, &[]);
    snappy.finish()
}
