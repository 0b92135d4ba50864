//! Arbitrary bytes -> a panic if a node breaks one of its promises: entry points for fuzzers.
//!
//! The bytes are read as a list of pieces, `[form][length 2, big-endian][bytes]`, so that one input
//! can be a whole conversation.

use crate::exchange::{Body, Frame, Purpose, Stream, Then};
use crate::member::{JobId, JobVersion};
use crate::membership::Detection;
use crate::node::{Node, Outbox, Settings};
use crate::now::Now;
use crate::packet::{DATAGRAM_BYTES_MAX, Datagram, Keys, Kind, receiver, seal};
use crate::state::{Own, Wish};
use core::net::SocketAddr;

const INCARNATION: u64 = 1_700_000_000_000;

/// Takes pieces as datagrams: as they are, as the plain text of an authentic one, or as the message
/// of the membership protocol in one.
///
/// # Panics
/// If a piece that is not authentic changes or sends anything, or an answer is too large.
pub fn gossip_packet(data: &[u8]) {
    let Some(mut fuzzed) = Fuzzed::new() else {
        return;
    };
    for (form, piece) in pieces(data) {
        let bytes = match form % 3 {
            0 => piece.to_vec(),
            1 => seal(&fuzzed.keys, Kind::Datagram, &[form; 24], piece),
            _ => fuzzed.datagram(piece),
        };
        let digest = fuzzed.node.state().digest();
        let alive = fuzzed.node.alive_count();
        let mut out = Outbox::default();
        let from = SocketAddr::from(([10, 0, 0, form], 7_946));
        fuzzed.node.receive(from, &bytes, fuzzed.now, &mut out);
        if form % 3 == 0 {
            assert_eq!(fuzzed.node.state().digest(), digest);
            assert_eq!(fuzzed.node.alive_count(), alive);
            assert!(out.datagrams.is_empty());
        }
        fuzzed.pass(u64::from(form), &mut out);
    }
}

/// Takes pieces as frames of a stream that this node asked for, or answers: as they are, or with
/// the numbers of the conversation put in.
///
/// # Panics
/// If a frame that reads does not read the same again.
pub fn exchange_frames(data: &[u8]) {
    let Some(mut fuzzed) = Fuzzed::new() else {
        return;
    };
    let mut stream = Stream::answering();
    for (form, piece) in pieces(data) {
        let plain = match Frame::read(piece) {
            Ok(mut frame) => {
                assert_eq!(Frame::read(&frame.write()), Ok(frame.clone()));
                if !matches!(frame.body, Body::Compare(..) | Body::Hello(_)) {
                    (frame.asker, frame.answerer) = stream.numbers();
                    frame.answerer = frame.answerer.max(1);
                }
                frame.write()
            }
            Err(_) => piece.to_vec(),
        };
        let bytes = seal(&fuzzed.keys, Kind::Frame, &[form; 24], &plain);
        let mut out = Outbox::default();
        let taken = fuzzed.node.take(&mut stream, &bytes, fuzzed.now, &mut out);
        if !matches!(taken.then, Then::Wait) {
            let purpose = match form % 4 {
                0 => Purpose::Exchange,
                1 => Purpose::Question("peer".into(), vec![form]),
                _ => Purpose::Handover("peer".into(), vec![form]),
            };
            stream = match form % 8 < 4 {
                true => fuzzed.node.ask(purpose, fuzzed.now).0,
                false => Stream::answering(),
            };
        }
        fuzzed.pass(u64::from(form), &mut out);
    }
}

/// A node that scrapes alone, and what is needed to speak to it.
struct Fuzzed {
    node: Node,
    keys: Keys,
    now: Now,
    sequence: u64,
}

impl Fuzzed {
    fn new() -> Option<Self> {
        let now = Now {
            unix_ms: INCARNATION as i64,
            monotonic_ms: 10_000,
        };
        let keys = Keys::new("fuzz", &[[1; 32]]);
        let settings = Settings {
            own: Own {
                name: "me".into(),
                gossip_address: SocketAddr::from(([10, 0, 0, 1], 7_946)),
                http_address: "10.0.0.1:9090".into(),
                zone: "".into(),
                software: "1".into(),
                incarnation: INCARNATION,
                detection_ms: 2_000,
                seed: 1,
                wait_for_size: 0,
                wait_timeout_ms: 0,
            },
            detection: Detection::within_ms(2_000),
            keys: keys.clone(),
            random: [1; 32],
        };
        let mut node = Node::new(settings, now).ok()?;
        let job = JobVersion {
            job: JobId(1),
            config_hash: 1,
            since_ms: 1,
        };
        let wish = Wish {
            is_active: true,
            weight: 1,
            jobs: [job].into(),
            heavy: None,
        };
        let mut out = Outbox::default();
        node.wish(wish, now, &mut out);
        node.join_round_over(now, &mut out);
        Some(Self {
            node,
            keys,
            now,
            sequence: 0,
        })
    }

    fn datagram(&mut self, payload: &[u8]) -> Vec<u8> {
        self.sequence += 1;
        let datagram = Datagram {
            name: "peer",
            incarnation: INCARNATION,
            sequence: self.sequence,
            to: receiver("me", self.node.state().incarnation()),
            sent_ms: self.now.unix_ms,
            digest: 1,
            followers: &[1],
            payload,
        };
        datagram.seal(&self.keys, &[2; 24]).unwrap_or_default()
    }

    /// Lets time pass, and sees that nothing is too large.
    fn pass(&mut self, ms: u64, out: &mut Outbox) {
        self.now.monotonic_ms += ms;
        self.now.unix_ms += ms as i64;
        if self.node.next_due_ms() <= self.now.monotonic_ms {
            self.node.tick(self.now, out);
        }
        let sizes = out.datagrams.iter().map(|(_, bytes)| bytes.len());
        assert!(sizes.max() <= Some(DATAGRAM_BYTES_MAX));
        let names = self
            .node
            .timeline()
            .view_at(self.now.unix_ms)
            .members()
            .len();
        assert!(names <= self.node.snapshot(self.now).members.len());
    }
}

fn pieces(mut data: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    core::iter::from_fn(move || {
        let [form, high, low, rest @ ..] = data else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (piece, rest) = rest.split_at(rest.len().min(length));
        data = rest;
        Some((*form, piece))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_break_nothing(data in prop::collection::vec(any::<u8>(), 0..4_000)) {
            gossip_packet(&data);
            exchange_frames(&data);
        }
    }
}
