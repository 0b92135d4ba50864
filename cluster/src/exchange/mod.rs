//! Frames of a stream -> what they change, and the frames that answer: both sides' state machines.
//!
//! Each stream has four frames. Two nodes make their tables equal:
//!
//! ```text
//! asker     Compare(hashes) ->             <- Answer(what I have where we differ)   answerer
//!           Counter(what you lack, what I want) ->    <- Done(what you wanted)
//! ```
//!
//! or one tells or asks the other something:
//!
//! ```text
//! asker     Hello ->            <- Welcome                              answerer
//!           Handover | Question ->      <- Taken | Reply | Refused
//! ```
//!
//! The first two frames bring the random numbers of both sides together, and every later frame
//! carries both: so whoever recorded a conversation cannot play it again. Nothing is taken from an
//! asker before its third frame, nor from an answerer whose frame lacks the asker's number.

mod frame;

pub use frame::{ANSWER_BYTES_MAX, Body, Frame, HANDOVER_BYTES_MAX, LENGTH_BYTES, Speaker};

use crate::limits::{
    FIRST_FRAME_BYTES_MAX, FRAME_BYTES_MAX, HANDOVER_FRAME_BYTES_MAX, TEXT_BYTES_MAX,
};

use crate::member::Member;
use crate::now::Now;
use crate::packet::{Cause, Keys, Kind, Nonce, open, read_refusal, refusal, seal};
use crate::state::{Delta, State, Summary};
use core::net::SocketAddr;
use std::sync::Arc;

/// One side of one stream.
#[derive(Debug)]
pub struct Stream {
    step: Step,
    /// The numbers of both sides; 0: not known yet.
    asker: u64,
    answerer: u64,
    /// When the last frame was sent, in monotonic ms.
    sent_ms: u64,
}

/// What an asker wants of the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Make the tables equal.
    Exchange,
    /// Hand targets over to the node of this name.
    Handover(Arc<str>, Vec<u8>),
    /// Ask the node of this name something.
    Question(Arc<str>, Vec<u8>),
}

/// What this side waits for.
#[derive(Debug)]
enum Step {
    /// Answerer: the first frame.
    First,
    /// Asker: the answer to its summary.
    Answer,
    /// Answerer: the asker's part of the difference.
    Counter,
    /// Asker: the last summary.
    Done,
    /// Asker: leave to say what it wants, from the node of this name.
    Welcome(Arc<str>, Box<Body>),
    /// Answerer: what the asker wants.
    Matter(Speaker),
    /// Answerer: what its own program says to it.
    Verdict,
    /// Asker: what the other side says to it.
    Reply,
    /// Nothing any more.
    Over,
}

/// What a frame led to.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// To be sent now.
    pub send: Option<Vec<u8>>,
    /// What is then.
    pub then: Then,
}

/// What is after a frame was taken and the answer to it sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Then {
    /// The other side has the word.
    Wait,
    /// This node's program has the word: its verdict goes into [`Conversation::verdict`].
    Handover {
        /// Who hands over.
        from: Arc<str>,
        /// What.
        bytes: Vec<u8>,
    },
    /// This node's program has the word: its verdict goes into [`Conversation::verdict`].
    Question {
        /// Who asks.
        from: Arc<str>,
        /// What.
        bytes: Vec<u8>,
    },
    /// The stream has served its purpose. With an answer if a question was asked.
    Over(Option<Vec<u8>>),
    /// The stream is of no use.
    Failed(Failure),
}

/// Why a stream failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The other side does not understand us; it says so without a key, so this is a hint only.
    #[error("refused by the peer: {0}")]
    RefusedByPeer(Cause),
    /// We do not understand the other side.
    #[error("cannot read the peer's frame: {0}")]
    Unreadable(Cause),
    /// A frame that is not due, or is of another conversation.
    #[error("the peer broke the protocol")]
    OutOfTurn,
    /// The other side cannot do what it was asked for.
    #[error("refused: {0}")]
    Refused(String),
    /// Another node is there than the one that was meant.
    #[error("the node {0} is at that address")]
    Another(Arc<str>),
    /// The other side is this node itself.
    #[error("the address is this node's own")]
    Own,
}

/// Who was at the other side of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: Arc<str>,
    /// In which of its lives.
    pub incarnation: u64,
    /// Where it takes gossip; not known from one that did not send its summary.
    pub gossip_address: Option<SocketAddr>,
}

/// What a stream needs of its node, borrowed for one step.
pub(crate) struct Conversation<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) keys: &'a Keys,
    pub(crate) nonce: Nonce,
    /// A random number that is not 0.
    pub(crate) random: u64,
    pub(crate) now: Now,
    /// Who has proved to be there by this step.
    pub(crate) heard: Option<Peer>,
    /// Members that came with this step.
    pub(crate) members: Vec<Peer>,
    /// Whether this step told one side anything.
    pub(crate) is_news: bool,
}

impl Stream {
    /// The side that waits for a first frame.
    pub fn answering() -> Self {
        Self {
            step: Step::First,
            asker: 0,
            answerer: 0,
            sent_ms: 0,
        }
    }

    /// The numbers of both sides, as far as they are known.
    pub(crate) fn numbers(&self) -> (u64, u64) {
        (self.asker, self.answerer)
    }

    /// Whether the next frame comes only when the other side's program has had the word.
    pub fn awaits_program(&self) -> bool {
        matches!(self.step, Step::Reply)
    }

    /// How long the next frame may be at most, without its length.
    pub fn frame_bytes_max(&self) -> usize {
        match self.step {
            Step::First => FIRST_FRAME_BYTES_MAX,
            Step::Matter(_) => HANDOVER_FRAME_BYTES_MAX,
            _ => FRAME_BYTES_MAX,
        }
    }
}

impl Conversation<'_> {
    /// Opens a stream: the side that asks, and its first frame.
    pub(crate) fn ask(&mut self, purpose: Purpose) -> (Stream, Vec<u8>) {
        let mut stream = Stream::answering();
        stream.asker = self.random;
        let hello = || Body::Hello(self.me());
        let (step, body) = match purpose {
            Purpose::Exchange => {
                let summary = self.state.summary(None, self.now);
                (Step::Answer, Body::Compare(summary, self.state.sketch()))
            }
            Purpose::Handover(to, bytes) => {
                (Step::Welcome(to, Box::new(Body::Handover(bytes))), hello())
            }
            Purpose::Question(to, bytes) => {
                (Step::Welcome(to, Box::new(Body::Question(bytes))), hello())
            }
        };
        stream.step = step;
        let frame = self.frame(&mut stream, body);
        (stream, frame)
    }

    /// A frame has come.
    pub(crate) fn take(&mut self, stream: &mut Stream, bytes: &[u8]) -> Taken {
        if let Some(cause) = read_refusal(bytes) {
            return failed(stream, None, Failure::RefusedByPeer(cause));
        }
        let read = open(self.keys, Kind::Frame, bytes).and_then(|plain| Frame::read(&plain));
        let frame = match read {
            Ok(frame) => frame,
            Err(cause) => {
                // What is not ours at all is not worth an answer.
                let is_kin = matches!(cause, Cause::Version | Cause::ClusterName | Cause::Key);
                let answer = is_kin.then(|| refusal(cause));
                return failed(stream, answer, Failure::Unreadable(cause));
            }
        };
        let is_first = matches!(stream.step, Step::First);
        if is_first && frame.answerer == 0 && frame.asker != 0 {
            stream.asker = frame.asker;
            stream.answerer = self.random;
        } else if matches!(stream.step, Step::Answer | Step::Welcome(..)) && frame.answerer != 0 {
            stream.answerer = frame.answerer;
        }
        if stream.asker == 0 || frame.asker != stream.asker {
            return failed(stream, None, Failure::OutOfTurn);
        }
        if !is_first && frame.answerer != stream.answerer {
            return failed(stream, None, Failure::OutOfTurn);
        }
        self.take_body(stream, frame.body)
    }

    fn take_body(&mut self, stream: &mut Stream, body: Body) -> Taken {
        let step = core::mem::replace(&mut stream.step, Step::Over);
        match (step, body) {
            (Step::First, Body::Compare(theirs, sketch)) => {
                let (delta, part) = self.state.answer(&theirs, &sketch);
                self.is_news |= !delta.is_nothing();
                let own = self.state.summary(Some(&theirs.name), self.now);
                self.send(stream, Body::Answer(own, delta, part), Step::Counter)
            }
            (Step::Answer, Body::Answer(theirs, delta, part)) => {
                if self.is_own(&theirs.name, theirs.incarnation) {
                    return failed(stream, None, Failure::Own);
                }
                let round_trip_ms = self.now.monotonic_ms.saturating_sub(stream.sent_ms);
                self.merge(delta);
                self.heard(&theirs, round_trip_ms);
                let (delta, wants) = self.state.counter(&theirs, &part);
                if wants.is_nothing() {
                    self.state.answered(round_trip_ms, self.now);
                }
                self.is_news |= !delta.is_nothing();
                let own = self.state.summary(Some(&theirs.name), self.now);
                self.send(stream, Body::Counter(own, delta, wants), Step::Done)
            }
            (Step::Counter, Body::Counter(theirs, delta, wants)) => {
                if self.is_own(&theirs.name, theirs.incarnation) {
                    return failed(stream, None, Failure::Own);
                }
                let round_trip_ms = self.now.monotonic_ms.saturating_sub(stream.sent_ms);
                self.merge(delta);
                self.heard(&theirs, round_trip_ms);
                self.state.answered(round_trip_ms, self.now);
                let delta = self.state.requested(&theirs, &wants);
                self.is_news |= !delta.is_nothing();
                let own = self.state.summary(Some(&theirs.name), self.now);
                let send = Some(self.frame(stream, Body::Done(own, delta)));
                let then = Then::Over(None);
                Taken { send, then }
            }
            (Step::Done, Body::Done(theirs, delta)) => {
                let round_trip_ms = self.now.monotonic_ms.saturating_sub(stream.sent_ms);
                self.merge(delta);
                self.heard(&theirs, round_trip_ms);
                self.state.answered(round_trip_ms, self.now);
                then(Then::Over(None))
            }
            (Step::First, Body::Hello(speaker)) => {
                if self.is_own(&speaker.name, speaker.incarnation) {
                    return failed(stream, None, Failure::Own);
                }
                let welcome = Body::Welcome(self.me());
                // The name is believed when the asker has repeated our number.
                self.send(stream, welcome, Step::Matter(speaker))
            }
            (Step::Welcome(to, matter), Body::Welcome(speaker)) => {
                self.contact(&speaker);
                if to != speaker.name {
                    return failed(stream, None, Failure::Another(speaker.name));
                }
                self.send(stream, *matter, Step::Reply)
            }
            (Step::Matter(speaker), Body::Handover(bytes)) => {
                self.contact(&speaker);
                stream.step = Step::Verdict;
                let from = speaker.name;
                then(Then::Handover { from, bytes })
            }
            (Step::Matter(speaker), Body::Question(bytes)) => {
                self.contact(&speaker);
                stream.step = Step::Verdict;
                let from = speaker.name;
                then(Then::Question { from, bytes })
            }
            (Step::Reply, Body::Taken) => then(Then::Over(None)),
            (Step::Reply, Body::Reply(bytes)) => then(Then::Over(Some(bytes))),
            (Step::Reply, Body::Refused(reason)) => failed(stream, None, Failure::Refused(reason)),
            _ => failed(stream, None, Failure::OutOfTurn),
        }
    }

    /// The last frame, after this node's program had the word. `Ok(None)`: a handover was taken.
    pub(crate) fn verdict(
        &mut self,
        stream: &mut Stream,
        verdict: Result<Option<Vec<u8>>, String>,
    ) -> Vec<u8> {
        let body = match verdict {
            Ok(None) => Body::Taken,
            Ok(Some(answer)) if answer.len() <= ANSWER_BYTES_MAX => Body::Reply(answer),
            Ok(Some(_)) => Body::Refused("the answer is too long".to_owned()),
            Err(mut reason) => {
                reason.truncate(reason.floor_char_boundary(TEXT_BYTES_MAX));
                Body::Refused(reason)
            }
        };
        stream.step = Step::Over;
        self.frame(stream, body)
    }

    fn me(&self) -> Speaker {
        Speaker {
            name: self.state.own().name.clone(),
            incarnation: self.state.incarnation(),
        }
    }

    fn is_own(&self, name: &str, incarnation: u64) -> bool {
        *name == *self.state.own().name && incarnation == self.state.incarnation()
    }

    fn merge(&mut self, delta: Delta) {
        let peer = |member: &Arc<Member>| Peer {
            name: member.name.clone(),
            incarnation: member.incarnation,
            gossip_address: Some(member.gossip_address),
        };
        self.is_news |= !delta.is_nothing();
        self.members.extend(delta.members.iter().map(peer));
        self.state.merge(delta, self.now);
    }

    fn heard(&mut self, theirs: &Summary, round_trip_ms: u64) {
        self.heard = Some(Peer {
            name: theirs.name.clone(),
            incarnation: theirs.incarnation,
            gossip_address: Some(theirs.gossip_address),
        });
        self.state.heard(theirs, Some(round_trip_ms), self.now);
    }

    fn contact(&mut self, speaker: &Speaker) {
        let (name, incarnation) = (&speaker.name, speaker.incarnation);
        self.heard = Some(Peer {
            name: name.clone(),
            incarnation,
            gossip_address: None,
        });
    }

    fn send(&mut self, stream: &mut Stream, body: Body, step: Step) -> Taken {
        stream.step = step;
        let send = Some(self.frame(stream, body));
        let then = Then::Wait;
        Taken { send, then }
    }

    fn frame(&mut self, stream: &mut Stream, body: Body) -> Vec<u8> {
        stream.sent_ms = self.now.monotonic_ms;
        let frame = Frame {
            asker: stream.asker,
            answerer: stream.answerer,
            body,
        };
        seal(self.keys, Kind::Frame, &self.nonce, &frame.write())
    }
}

fn then(then: Then) -> Taken {
    Taken { send: None, then }
}

fn failed(stream: &mut Stream, send: Option<Vec<u8>>, failure: Failure) -> Taken {
    stream.step = Step::Over;
    let then = Then::Failed(failure);
    Taken { send, then }
}

#[cfg(test)]
mod tests;
