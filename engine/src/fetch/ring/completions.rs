//! Completions of the ring -> the state of slots, and events for the fetcher.

use super::Uring;
use super::slot::{Armed, Connecting, chunk_of};
use crate::fetch::driver::{EVENTS_MAX, Event};
use io_uring::cqueue;

/// Most send buffers kept.
const SEND_BUFFERS_MAX: usize = 256;

/// What an operation is, in the upper half of its user data; its slot is in the lower half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Operation {
    Connect = 1,
    Send = 2,
    Receive = 3,
    Poll = 4,
    Waker = 5,
}

impl Operation {
    pub(super) fn user_data(self, slot: u32) -> u64 {
        (self as u64) << 32 | u64::from(slot)
    }

    fn of(user_data: u64) -> Option<Operation> {
        [
            Operation::Connect,
            Operation::Send,
            Operation::Receive,
            Operation::Poll,
            Operation::Waker,
        ]
        .into_iter()
        .find(|operation| *operation as u64 == user_data >> 32)
    }
}

impl Uring {
    /// Takes the completions, up to `EVENTS_MAX` of them.
    pub(super) fn complete(&mut self, events: &mut Vec<Event>) {
        for _ in 0..EVENTS_MAX {
            let Some(entry) = self.ring.completion().next() else {
                return;
            };
            let index = entry.user_data() as u32;
            let Some(operation) = Operation::of(entry.user_data()) else {
                continue;
            };
            if operation == Operation::Waker {
                self.waker_armed = cqueue::more(entry.flags());
                continue;
            }
            let event = self.answered(index, operation, &entry);
            let slot = &self.slots[index as usize];
            if !slot.is_closed {
                events.extend(event);
            } else if slot.operations == 0 {
                self.slots.remove(index as usize);
            }
        }
    }

    /// Takes one completion of a slot; what it means for the fetcher.
    fn answered(
        &mut self,
        index: u32,
        operation: Operation,
        entry: &cqueue::Entry,
    ) -> Option<Event> {
        let slot = &mut self.slots[index as usize];
        let result = entry.result();
        let more = cqueue::more(entry.flags());
        if !more {
            slot.operations -= 1;
        }
        let token = slot.token;
        let event = |closed, readable| {
            Some(Event {
                token,
                closed,
                readable,
            })
        };
        match operation {
            Operation::Connect => {
                slot.address = None;
                slot.connecting = match result {
                    0.. => Connecting::No,
                    errno => Connecting::Failed(-errno),
                };
                event(result < 0, false)
            }
            Operation::Send => {
                let bytes = std::mem::take(&mut slot.sending);
                let is_short = result >= 0 && (result as usize) < bytes.len();
                if self.send_buffers.len() < SEND_BUFFERS_MAX {
                    self.send_buffers.push(bytes);
                }
                if result >= 0 && !is_short {
                    return std::mem::take(&mut slot.wants_to_send)
                        .then(|| event(false, false))
                        .flatten();
                }
                let errno = if is_short { libc::EPIPE } else { -result };
                slot.error.get_or_insert(errno);
                event(true, false)
            }
            Operation::Poll => {
                slot.armed = Armed::No;
                event(false, true)
            }
            Operation::Receive => {
                if !more {
                    slot.armed = Armed::No;
                }
                if let Some(buffer) = cqueue::buffer_select(entry.flags()) {
                    self.buffers.taken();
                    let filled = usize::try_from(result).unwrap_or(0);
                    let content = &self.buffers.slice(buffer)[..];
                    let chunk = chunk_of(&content[..filled.min(content.len())]);
                    match chunk.filter(|chunk| chunk.start < chunk.end) {
                        Some(chunk) if !slot.is_closed => {
                            slot.append(buffer, chunk, &mut self.chunks);
                            return event(false, true);
                        }
                        Some(_) => self.buffers.give_back(buffer),
                        // The end comes with a buffer too.
                        None => {
                            slot.ended |= result >= 0;
                            self.buffers.give_back(buffer);
                        }
                    }
                    return event(true, true);
                }
                match -result {
                    0 => slot.ended = true,
                    // Read without the ring, then watched again.
                    libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN => {
                        return event(false, true);
                    }
                    errno => {
                        slot.error.get_or_insert(errno);
                    }
                }
                event(true, true)
            }
            Operation::Waker => None,
        }
    }
}
