//! The state of nodes: tables by themselves, then whole clusters in a network in memory.

mod changes;
mod chaos;
mod faults;
mod network;
mod starts;
mod tables;
