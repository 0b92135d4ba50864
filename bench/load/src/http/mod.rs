//! Sockets -> requests -> replies, on one thread with epoll; and a small client for the own
//! reports.

pub(crate) mod client;
mod connection;
pub(crate) mod request;
pub(crate) mod server;
