//! What happened -> a number that tells whether two runs were the same, and the last of it for
//! people.

use crate::network::NodeId;
use crate::time::{self, Micros};
use std::collections::VecDeque;
use std::fmt::Write as _;
use xxhash_rust::xxh3::Xxh3;

/// What a run did.
pub(crate) struct Trace {
    hasher: Xxh3,
    of_nodes: Vec<VecDeque<(Micros, String)>>,
}

/// Notes that are kept of each node.
const NOTES_MAX: usize = 60;

impl Trace {
    /// Of a run with so many nodes.
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            hasher: Xxh3::new(),
            of_nodes: vec![VecDeque::new(); nodes],
        }
    }

    /// Something happened: a time, what kind of thing, and its bytes.
    pub(crate) fn happened(&mut self, at: Micros, kind: u8, numbers: [u64; 2], bytes: &[u8]) {
        self.hasher.update(&at.to_le_bytes());
        self.hasher.update(&[kind]);
        for number in numbers {
            self.hasher.update(&number.to_le_bytes());
        }
        self.hasher.update(bytes);
    }

    /// Something worth reading happened to a node.
    pub(crate) fn note(&mut self, at: Micros, node: NodeId, text: String) {
        self.happened(at, b'n', [node as u64, 0], text.as_bytes());
        let notes = &mut self.of_nodes[node];
        if notes.len() == NOTES_MAX {
            notes.pop_front();
        }
        notes.push_back((at, text));
    }

    /// Equal for equal runs.
    pub(crate) fn digest(&self) -> u64 {
        self.hasher.digest()
    }

    /// The last notes of some nodes, by time.
    pub(crate) fn last_of(&self, nodes: &[NodeId]) -> String {
        let mut notes = Vec::new();
        for node in nodes {
            let of_node = self.of_nodes[*node].iter();
            notes.extend(of_node.map(|(at, text)| (*at, *node, text)));
        }
        notes.sort_by_key(|(at, _, _)| *at);
        let mut lines = String::new();
        for (at, node, text) in notes {
            let _ = writeln!(lines, "  {} node-{node}: {text}", time::text(at));
        }
        lines
    }
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Trace").finish_non_exhaustive()
    }
}
