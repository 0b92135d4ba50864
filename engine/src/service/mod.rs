//! Scrape configurations that come through an API and a store that all nodes share -> jobs and
//! endpoints beside those of the file.

pub mod apply;
pub(crate) mod claims;
pub mod instance;
pub(crate) mod reach;
pub mod reader;
pub mod settings;
pub mod status;
pub mod store;
