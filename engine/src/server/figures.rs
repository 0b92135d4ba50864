//! What happens to connections -> counts for `/metrics`.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// Counts of the web server.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) connections: AtomicU64,
    pub(super) evicted: AtomicU64,
    pub(super) handshakes: AtomicU64,
    pub(super) handshakes_refused: AtomicU64,
    pub(super) handshakes_timed_out: AtomicU64,
    pub(super) handshakes_plain: AtomicU64,
    pub(super) is_loaded: AtomicBool,
    pub(super) loaded_ms: AtomicI64,
    pub(super) passwords_wrong: AtomicU64,
    pub(super) passwords_busy: AtomicU64,
}

/// The same at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct FiguresNow {
    /// Open connections.
    pub(crate) connections: u64,
    /// Connections closed to make room.
    pub(crate) evicted: u64,
    /// Handshakes by result.
    pub(crate) handshakes: [(&'static str, u64); 4],
    /// Refused requests by cause.
    pub(crate) unauthorized: [(&'static str, u64); 2],
    /// Whether the file could be used the last time; `None`: there is none.
    pub(crate) is_loaded: Option<bool>,
    /// When what is in force was read.
    pub(crate) loaded_ms: i64,
    /// When the server's certificate ends; `None`: there is none.
    pub(crate) certificate_expires_s: Option<i64>,
}

impl Figures {
    pub(super) fn new(now_ms: i64) -> Self {
        Self {
            connections: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            handshakes: AtomicU64::new(0),
            handshakes_refused: AtomicU64::new(0),
            handshakes_timed_out: AtomicU64::new(0),
            handshakes_plain: AtomicU64::new(0),
            is_loaded: AtomicBool::new(true),
            loaded_ms: AtomicI64::new(now_ms),
            passwords_wrong: AtomicU64::new(0),
            passwords_busy: AtomicU64::new(0),
        }
    }

    /// One more.
    pub(super) fn add(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> FiguresNow {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        FiguresNow {
            connections: read(&self.connections),
            evicted: read(&self.evicted),
            handshakes: [
                ("ok", read(&self.handshakes)),
                ("refused", read(&self.handshakes_refused)),
                ("timeout", read(&self.handshakes_timed_out)),
                ("plain", read(&self.handshakes_plain)),
            ],
            unauthorized: [
                ("wrong", read(&self.passwords_wrong)),
                ("busy", read(&self.passwords_busy)),
            ],
            is_loaded: Some(self.is_loaded.load(Ordering::Relaxed)),
            loaded_ms: self.loaded_ms.load(Ordering::Relaxed),
            certificate_expires_s: None,
        }
    }
}
