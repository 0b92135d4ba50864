//! Scrapes -> remote write 2.0 requests, whose labels are numbers of symbols.
//!
//! In reading order: the symbols of a request (`symbols`); what a block refers to, found once
//! (`references`), its entries in the numbers of the open request (`resolved`), the series of a
//! scrape (`series`), the request (`request`); its compressed form (`alike`); and how one that is
//! ready is read, cut or becomes a 1.0 request (`rewrite`).
//!
//! Source: Prometheus remote write specification 2.0,
//! <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>, and
//! prometheus/prometheus prompb/io/prometheus/write/v2/types.proto.

pub(super) mod alike;
pub mod references;
pub(super) mod request;
mod resolved;
pub(super) mod rewrite;
mod series;
mod symbols;

/// `Request.symbols`: field 4, length-delimited.
const TAG_SYMBOL: u8 = 0x22;
/// `Request.timeseries`: field 5, length-delimited.
const TAG_SERIES: u8 = 0x2a;
/// `TimeSeries.labels_refs` and `Exemplar.labels_refs`: field 1, packed.
const TAG_REFERENCES: u8 = 0x0a;
/// `TimeSeries.histograms`: field 3.
const TAG_HISTOGRAM: u8 = 0x1a;
/// `TimeSeries.exemplars`: field 4.
const TAG_EXEMPLAR: u8 = 0x22;
/// `TimeSeries.metadata`: field 5.
const TAG_METADATA: u8 = 0x2a;
/// `Metadata.type`, `help_ref` and `unit_ref`: fields 1, 3 and 4, numbers.
const TAG_TYPE: u8 = 0x08;
const TAG_HELP: u8 = 0x18;
const TAG_UNIT: u8 = 0x20;
