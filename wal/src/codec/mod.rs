//! Definitions, records and indexes <-> payloads of frames.

pub(crate) mod archive;
pub(crate) mod columns;
pub(crate) mod definition;
pub(crate) mod mapping;
pub(crate) mod record;
pub(crate) mod sides;
