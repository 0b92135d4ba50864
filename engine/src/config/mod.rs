//! A Prometheus configuration file -> the validated settings, or an error with file and line.

pub mod model;

pub use model::*;
