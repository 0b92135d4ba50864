//! The cluster's production code with a simulated network, simulated clocks and faults: no socket,
//! no thread, no clock, and one seed that decides everything.
//!
//! In reading order: what a run is like (`shape`); `random` numbers, `time`, the `clock`s and the
//! `network`; the `world` of targets; a node as a `process` with its `streams`; what it scrapes
//! (`scraper`, by `views`), written into the `ledger` and held against what is promised (`judge`);
//! whether all nodes agree (`agreement`), and how level the load is (`costs`); what happens to them
//! (`director`, `faults`, `actions`); all of it together (`simulation`), and what came of it
//! (`figures`, `trace`, `notes`).

mod actions;
mod agreement;
mod clock;
mod costs;
mod director;
mod faults;
mod figures;
mod judge;
mod ledger;
mod network;
mod notes;
mod process;
mod random;
mod scraper;
mod shape;
mod simulation;
mod streams;
pub mod time;
mod trace;
mod views;
mod world;

pub use figures::{Durations, Figures};
pub use network::Links;
pub use shape::{Round, Shape};
pub use simulation::{Breach, Simulation};
