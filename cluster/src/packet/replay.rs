//! Sequence numbers of each sender -> which packets are new.
//!
//! A window per sender, as in RFC 4303 section 3.4.3: numbers above it are new and move it, numbers
//! in it are new once, numbers below it are refused.

use super::Cause;
use crate::limits::MEMBERS_MAX;
use std::collections::HashMap;
use std::sync::Arc;

/// How many sequence numbers below the highest one are remembered.
pub(super) const WINDOW: u64 = 1_024;

const WORDS: usize = (WINDOW / 64) as usize;

/// The windows of all senders; of more than there may be members, the one not heard for longest is
/// forgotten.
#[derive(Debug, Default)]
pub struct Replays {
    senders: HashMap<Arc<str>, Window>,
    /// Counts packets, for finding the sender not heard for longest.
    packets: u64,
}

/// The sender of a packet that is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fresh {
    /// Its name, shared with all packets of its.
    pub name: Arc<str>,
}

#[derive(Debug)]
struct Window {
    incarnation: u64,
    /// Highest number seen.
    highest: u64,
    /// A bit for each of the last [`WINDOW`] numbers, at its remainder.
    seen: [u64; WORDS],
    last_packet: u64,
}

impl Replays {
    /// Notes an authentic packet.
    ///
    /// # Errors
    /// It was seen before, is too old to tell, or its sender has a newer incarnation.
    pub fn take(&mut self, name: &str, incarnation: u64, sequence: u64) -> Result<Fresh, Cause> {
        self.packets += 1;
        let packets = self.packets;
        if let Some((known, window)) = self.senders.get_key_value(name) {
            let name = known.clone();
            if incarnation < window.incarnation {
                return Err(Cause::Stale);
            }
            // Looked up twice: a shared key and a changed value do not come in one look-up.
            if let Some(window) = self.senders.get_mut(&name) {
                if incarnation > window.incarnation {
                    *window = Window::new(incarnation, sequence);
                } else if !window.take(sequence) {
                    return Err(Cause::Replayed);
                }
                window.last_packet = packets;
            }
            return Ok(Fresh { name });
        }
        if self.senders.len() >= MEMBERS_MAX {
            let oldest = self.senders.iter().min_by_key(|(_, w)| w.last_packet);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.senders.remove(&oldest);
            }
        }
        let name: Arc<str> = Arc::from(name);
        let mut window = Window::new(incarnation, sequence);
        window.last_packet = packets;
        self.senders.insert(name.clone(), window);
        Ok(Fresh { name })
    }
}

impl Window {
    fn new(incarnation: u64, sequence: u64) -> Self {
        let mut window = Self {
            incarnation,
            highest: sequence,
            seen: [0; WORDS],
            last_packet: 0,
        };
        window.set(sequence);
        window
    }

    fn take(&mut self, sequence: u64) -> bool {
        if sequence > self.highest {
            let from = self.highest.saturating_add(1);
            if sequence - self.highest >= WINDOW {
                self.seen = [0; WORDS];
            } else {
                (from..sequence).for_each(|skipped| self.clear(skipped));
            }
            self.highest = sequence;
        } else if self.highest - sequence >= WINDOW || self.has(sequence) {
            return false;
        }
        self.set(sequence);
        true
    }

    fn has(&self, sequence: u64) -> bool {
        let bit = sequence % WINDOW;
        self.seen[(bit / 64) as usize] >> (bit % 64) & 1 == 1
    }

    fn set(&mut self, sequence: u64) {
        let bit = sequence % WINDOW;
        self.seen[(bit / 64) as usize] |= 1 << (bit % 64);
    }

    fn clear(&mut self, sequence: u64) {
        let bit = sequence % WINDOW;
        self.seen[(bit / 64) as usize] &= !(1 << (bit % 64));
    }
}
