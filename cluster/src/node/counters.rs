//! What a node has sent, received and refused.

use crate::packet::Cause;

/// Since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Datagrams handed to the network.
    pub datagrams_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Datagrams that came, whatever they were.
    pub datagrams_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Datagrams that did not fit. 0, or the program is wrong.
    pub datagrams_oversized: u64,
    /// Exchanges that this node began.
    pub exchanges_started: u64,
    /// Streams that served their purpose, whoever began them.
    pub exchanges_done: u64,
    refused: [u64; Cause::ALL.len()],
}

impl Counters {
    pub(super) fn refused(&mut self, cause: Cause) {
        self.refused[usize::from(cause.code()) - 1] += 1;
    }

    /// Datagrams and frames that were not taken, by cause.
    pub fn refusals(&self) -> impl Iterator<Item = (Cause, u64)> {
        let of = |cause: Cause| (cause, self.refused[usize::from(cause.code()) - 1]);
        Cause::ALL.into_iter().map(of)
    }
}
