//! Exchanges between nodes: connections that take their time, frames, and what breaks them.

use crate::network::NodeId;
use crate::process::{address, node_at};
use crate::simulation::{Happening, Simulation};
use crate::time::{Micros, SECOND};
use ringscrape_cluster::exchange::{Purpose, Stream, Then};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The streams that are open, or being opened.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: BTreeMap<u64, Line>,
    opened: u64,
}

#[derive(Debug)]
struct Line {
    asker: NodeId,
    asker_life: u32,
    answerer: NodeId,
    answerer_life: u32,
    asking: Option<Stream>,
    answering: Option<Stream>,
    /// `Some`: it breaks after so many more frames.
    frames_left: Option<u32>,
    is_join: bool,
    /// Whether it has served its purpose.
    is_done: bool,
}

/// A join address that did not answer is tried again after this time, while there is patience.
const KNOCK_AGAIN: Micros = SECOND / 4;
/// Whoever opened a stream does not wait longer than this for its end.
const PATIENCE: Micros = 3 * SECOND;
/// How long a node waits for join addresses that do not answer.
const JOIN_PATIENCE: Micros = 2 * SECOND;
/// Between two rounds of joining.
const REJOIN: Micros = 15 * SECOND;
/// Nodes that one tries to join by.
const JOIN_ADDRESSES: usize = 4;

impl Simulation {
    /// A node opens a stream.
    pub(crate) fn open(&mut self, asker: NodeId, to: SocketAddr, is_join: bool) {
        let count = self.processes.len();
        let Some(answerer) = node_at(to).filter(|to| *to < count) else {
            return;
        };
        self.figures.exchanges += 1;
        self.streams.opened += 1;
        let id = self.streams.opened;
        let line = Line {
            asker,
            asker_life: self.processes[asker].life,
            answerer,
            answerer_life: self.processes[answerer].life,
            asking: None,
            answering: None,
            frames_left: self.network.stream_fails_after(),
            is_join,
            is_done: false,
        };
        self.streams.open.insert(id, line);
        let there = self.network.frame(asker, answerer, self.now);
        let back = there.and_then(|at| self.network.frame(answerer, asker, at));
        let is_there = self.processes[answerer].running.is_some();
        match back {
            // Refused by the host.
            Some(at) if !is_there => self.queue.add(at, Happening::StreamOver(id)),
            Some(at) => {
                self.queue.add(at, Happening::Connected(id));
                self.queue
                    .add(self.now + PATIENCE, Happening::StreamOver(id));
            }
            None => self
                .queue
                .add(self.now + PATIENCE, Happening::StreamOver(id)),
        }
    }

    /// The connection stands: the asker has the word.
    pub(crate) fn connected(&mut self, id: u64) {
        let Some(line) = self.streams.open.get_mut(&id) else {
            return;
        };
        let asker = line.asker;
        if self.processes[asker].life != line.asker_life || !self.processes[asker].is_up() {
            self.streams.open.remove(&id);
            return;
        }
        let asked = self.drive(asker, |node, now, _| node.ask(Purpose::Exchange, now));
        if let Some((stream, frame)) = asked {
            if let Some(line) = self.streams.open.get_mut(&id) {
                line.asking = Some(stream);
            }
            self.send_frame(id, true, frame);
        }
    }

    fn send_frame(&mut self, id: u64, to_answerer: bool, bytes: Vec<u8>) {
        let Some(line) = self.streams.open.get_mut(&id) else {
            return;
        };
        self.figures.stream_bytes += bytes.len() as u64;
        match &mut line.frames_left {
            Some(0) => {
                self.stream_over(id);
                return;
            }
            Some(left) => *left -= 1,
            None => {}
        }
        let (from, to) = if to_answerer {
            (line.asker, line.answerer)
        } else {
            (line.answerer, line.asker)
        };
        if let Some(at) = self.network.frame(from, to, self.now) {
            self.queue.add(at, Happening::Frame(id, to_answerer, bytes));
        }
    }

    /// A frame arrives at one end.
    pub(crate) fn frame(&mut self, id: u64, is_answerer: bool, bytes: Vec<u8>) {
        let Some(line) = self.streams.open.get_mut(&id) else {
            return;
        };
        let (node, life) = if is_answerer {
            (line.answerer, line.answerer_life)
        } else {
            (line.asker, line.asker_life)
        };
        self.trace
            .happened(self.now, b'f', [id, node as u64], &bytes);
        let process = &mut self.processes[node];
        let Some(running) = process.running.as_mut().filter(|_| process.life == life) else {
            self.stream_over(id);
            return;
        };
        if running.is_paused {
            running.frames.push((id, is_answerer, bytes));
            return;
        }
        let mut stream = if is_answerer {
            line.answering.take().unwrap_or_else(Stream::answering)
        } else {
            let Some(stream) = line.asking.take() else {
                return;
            };
            stream
        };
        if bytes.len() > stream.frame_bytes_max() {
            let what = format!("node-{node} does not take a frame of {} bytes", bytes.len());
            self.breach(what, &[node]);
            return;
        }
        let taken = self.drive(node, |node, now, out| {
            node.take(&mut stream, &bytes, now, out)
        });
        let Some(taken) = taken else {
            return;
        };
        if let Some(line) = self.streams.open.get_mut(&id) {
            let end = if is_answerer {
                &mut line.answering
            } else {
                &mut line.asking
            };
            *end = Some(stream);
        }
        let is_sent = taken.send.is_some();
        if let Some(bytes) = taken.send {
            self.send_frame(id, !is_answerer, bytes);
        }
        match taken.then {
            Then::Wait => {}
            // The last frame still has to arrive.
            _ if is_sent => {}
            Then::Over(_) => {
                if let Some(line) = self.streams.open.get_mut(&id) {
                    line.is_done = true;
                }
                self.stream_over(id);
            }
            Then::Failed(failure) => {
                self.trace
                    .note(self.now, node, format!("stream failed: {failure}"));
                self.stream_over(id);
            }
            _ => self.stream_over(id),
        }
    }

    /// A stream is closed, whatever it has come to.
    pub(crate) fn stream_over(&mut self, id: u64) {
        let Some(line) = self.streams.open.remove(&id) else {
            return;
        };
        let process = &mut self.processes[line.asker];
        let running = process
            .running
            .as_mut()
            .filter(|_| process.life == line.asker_life);
        if let Some(running) = running.filter(|_| line.is_join) {
            if !line.is_done && self.now + KNOCK_AGAIN < running.started + JOIN_PATIENCE {
                let again = Happening::Knock(line.asker, line.asker_life, line.answerer);
                self.queue.add(self.now + KNOCK_AGAIN, again);
                return;
            }
            running.joining = running.joining.saturating_sub(1);
            if running.joining == 0 {
                let over = Happening::JoinOver(line.asker, line.asker_life);
                self.queue.add(self.now, over);
            }
        }
    }

    /// A process tries a join address again.
    pub(crate) fn knock(&mut self, id: NodeId, life: u32, to: NodeId) {
        if self.processes[id].life == life && self.processes[id].is_up() {
            self.open(id, address(to), true);
        }
    }

    /// A process looks its join addresses up and tries them.
    pub(crate) fn join(&mut self, id: NodeId, life: u32) {
        if self.processes[id].life != life || self.processes[id].running.is_none() {
            return;
        }
        let later = self.now + REJOIN + self.random.below(SECOND);
        self.queue.add(later, Happening::Join(id, life));
        // As a name service tells them: nodes that run, and one that does not any more.
        let is_up = |node: &NodeId| self.processes[*node].running.is_some();
        let others = (0..self.processes.len()).filter(|node| *node != id);
        let (mut up, mut down): (Vec<NodeId>, Vec<NodeId>) = others.partition(is_up);
        self.random.shuffle(&mut up);
        self.random.shuffle(&mut down);
        up.truncate(JOIN_ADDRESSES);
        down.truncate(1);
        let addresses = up.into_iter().chain(down).map(address);
        let addresses: Vec<SocketAddr> = addresses.collect();
        let is_first = self.now == self.processes[id].running.as_ref().map_or(0, |r| r.started);
        let streams = addresses.len() as u32;
        let Some(running) = self.processes[id].running.as_mut().filter(|r| !r.is_paused) else {
            return;
        };
        running.joining = streams;
        if is_first || streams == 0 {
            let at = if streams == 0 {
                self.now
            } else {
                self.now + JOIN_PATIENCE
            };
            self.queue.add(at, Happening::JoinOver(id, life));
        }
        // The streams that this asks for are those of joining.
        self.drive_join(id, &addresses);
    }

    fn drive_join(&mut self, id: NodeId, addresses: &[SocketAddr]) {
        let exchanges = self.drive(id, |node, now, out| {
            node.join(addresses, now, out);
            std::mem::take(&mut out.exchanges)
        });
        for (name, to) in exchanges.unwrap_or_default() {
            self.open(id, to, name.is_empty());
        }
    }

    /// All join addresses were tried, or have had their time.
    pub(crate) fn join_over(&mut self, id: NodeId, life: u32) {
        if self.processes[id].life == life {
            self.drive(id, |node, now, out| node.join_round_over(now, out));
        }
    }
}
