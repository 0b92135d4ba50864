//! The log's driver on real files, and on a disk that fails and loses power.

mod damage;
mod disk;
mod faults;
mod files;
mod image;
mod power;
mod run;
