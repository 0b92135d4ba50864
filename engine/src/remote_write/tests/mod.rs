//! The sender against plain models and scripted receivers.

mod construct;
mod decode;
mod derive;
mod encode;
mod end_to_end;
mod from_log;
mod metadata;
mod model;
mod pace;
mod post;
mod queue;
mod request;
mod simulation;
mod unreadable;
mod v2;
mod v2_queue;
