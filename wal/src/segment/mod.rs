//! One segment: its name, header, frames, index.

pub(crate) mod cache;
pub(crate) mod file;
pub(crate) mod header;
pub mod index;
pub(crate) mod load;
pub(crate) mod map;
pub(crate) mod scan;
pub(crate) mod writer;
