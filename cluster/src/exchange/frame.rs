//! What nodes say on a stream -> the plain text of frames, and back, checked.
//!
//! A frame is `[length 4, big-endian][sealed bytes]`.

use crate::limits::{
    CRASHES_MAX, FRAME_BYTES_MAX, HANDOVER_FRAME_BYTES_MAX, HEAVY_MAX, JOBS_MAX, MEMBERS_MAX,
    NUMBER_MAX, TEXT_BYTES_MAX, WEIGHT_MAX,
};
use crate::member::{Founder, Member, Stage};
use crate::name::{NAME_BYTES_MAX, is_name};
use crate::packet::{Cause, OVERHEAD_BYTES};
use crate::state::{Cluster, Crash, Delta, Part, Sketch, Summary, Wants};
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Bytes of the length in front of a frame.
pub const LENGTH_BYTES: usize = 4;
/// What a handover may carry.
pub const HANDOVER_BYTES_MAX: usize = HANDOVER_FRAME_BYTES_MAX - OVERHEAD_BYTES - 64;
/// What a question or an answer may carry.
pub const ANSWER_BYTES_MAX: usize = FRAME_BYTES_MAX - OVERHEAD_BYTES - 64;

/// More than any node sends.
const SKETCH_BYTES_MAX: usize = 4_096;

/// What one side says, and within which conversation: a frame of another one says nothing here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Random, of the side that opened the stream.
    pub asker: u64,
    /// Random, of the other side; 0 in the first frame.
    pub answerer: u64,
    /// What is said.
    pub body: Body,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// 1: who I am, and hashes of what I know.
    Compare(Summary, Sketch),
    /// 2: who I am, all if you know nothing, and what I have where we differ.
    Answer(Summary, Delta, Part),
    /// 3: what you lack, and what I want of what you have.
    Counter(Summary, Delta, Wants),
    /// 4: what you wanted.
    Done(Summary, Delta),
    /// 1: I want to tell or ask something.
    Hello(Speaker),
    /// 2: go on.
    Welcome(Speaker),
    /// 3: targets change hands.
    Handover(Vec<u8>),
    /// 3: a question.
    Question(Vec<u8>),
    /// 4: to a handover.
    Taken,
    /// 4: to a question.
    Reply(Vec<u8>),
    /// 4: to either.
    Refused(String),
}

/// Who speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speaker {
    /// Its name.
    pub name: Arc<str>,
    /// In which of its lives.
    pub incarnation: u64,
}

impl Frame {
    /// The plain text.
    pub(crate) fn write(&self) -> Vec<u8> {
        // Writing to memory does not fail, and all these types can be written.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// What a plain text says.
    ///
    /// # Errors
    /// It makes no sense, or is out of bounds.
    pub fn read(plain: &[u8]) -> Result<Self, Cause> {
        let (frame, rest): (Self, _) =
            postcard::take_from_bytes(plain).map_err(|_| Cause::Malformed)?;
        (rest.is_empty() && body_is_sound(&frame.body))
            .then_some(frame)
            .ok_or(Cause::Malformed)
    }
}

fn body_is_sound(body: &Body) -> bool {
    match body {
        Body::Compare(summary, sketch) => {
            summary_is_sound(summary) && sketch.0.len() <= SKETCH_BYTES_MAX
        }
        Body::Answer(summary, delta, part) => {
            summary_is_sound(summary) && delta_is_sound(delta) && part_is_sound(part)
        }
        Body::Counter(summary, delta, wants) => {
            summary_is_sound(summary) && delta_is_sound(delta) && wants_is_sound(wants)
        }
        Body::Done(summary, delta) => summary_is_sound(summary) && delta_is_sound(delta),
        Body::Hello(speaker) | Body::Welcome(speaker) => {
            is_name(&speaker.name) && is_number(speaker.incarnation)
        }
        Body::Question(bytes) | Body::Reply(bytes) => bytes.len() <= ANSWER_BYTES_MAX,
        Body::Refused(reason) => reason.len() <= TEXT_BYTES_MAX,
        Body::Handover(_) | Body::Taken => true,
    }
}

fn summary_is_sound(summary: &Summary) -> bool {
    is_name(&summary.name)
        && is_number(summary.incarnation)
        && is_address(summary.gossip_address)
        && summary.cluster.is_none_or(cluster_is_sound)
        && is_time(summary.unix_ms)
        && summary
            .has_of_you
            .is_none_or(|(life, version)| is_number(life) && is_number(version))
}

fn part_is_sound(part: &Part) -> bool {
    part.differs.len() <= SKETCH_BYTES_MAX
        && part.members.len() <= MEMBERS_MAX
        && part.members.is_sorted_by(|a, b| a.place < b.place)
        && part
            .members
            .iter()
            .all(|known| is_number(known.incarnation) && is_number(known.version))
        && part.crashes.len() <= CRASHES_MAX
        && part.crashes.is_sorted()
}

fn wants_is_sound(wants: &Wants) -> bool {
    wants.members.len() <= MEMBERS_MAX
        && wants.members.is_sorted()
        && wants.crashes.len() <= CRASHES_MAX
        && wants.crashes.is_sorted()
}

fn cluster_is_sound(cluster: Cluster) -> bool {
    founder_is_sound(cluster.founder) && cluster.size_class < u8::BITS as u8 * 4
}

fn delta_is_sound(delta: &Delta) -> bool {
    delta.cluster.is_none_or(cluster_is_sound)
        && delta.members.len() <= MEMBERS_MAX
        && delta.crashes.len() <= CRASHES_MAX
        && delta.members.iter().all(|member| member_is_sound(member))
        && delta.crashes.iter().all(|crash| crash_is_sound(crash))
}

fn member_is_sound(member: &Member) -> bool {
    is_name(&member.name)
        && is_number(member.incarnation)
        && is_number(member.version)
        && founder_is_sound(member.founder)
        && is_address(member.gossip_address)
        && member.http_address.len() <= TEXT_BYTES_MAX
        && member.zone.len() <= NAME_BYTES_MAX
        && member.software.len() <= NAME_BYTES_MAX
        && stage_is_sound(&member.now)
        && member
            .next
            .as_ref()
            .is_none_or(|next| stage_is_sound(&next.stage) && is_time(next.proposed_ms))
}

fn stage_is_sound(stage: &Stage) -> bool {
    is_time(stage.from_ms)
        && stage.weight <= WEIGHT_MAX
        && stage.jobs.len() <= JOBS_MAX
        && stage.jobs.is_sorted_by(|a, b| a.job < b.job)
        && stage.jobs.iter().all(|version| is_time(version.since_ms))
        && stage.heavy.len() <= HEAVY_MAX
        && stage.heavy.is_sorted_by(|a, b| a.key <= b.key)
}

fn crash_is_sound(crash: &Crash) -> bool {
    is_name(&crash.name)
        && is_name(&crash.by)
        && is_name(&crash.side.lowest)
        && is_number(crash.incarnation)
        && is_number(crash.by_incarnation)
        && is_time(crash.until_ms)
        && is_time(crash.made_ms)
}

fn founder_is_sound(founder: Founder) -> bool {
    is_time(founder.founded_ms)
}

fn is_number(number: u64) -> bool {
    number <= NUMBER_MAX
}

fn is_time(ms: i64) -> bool {
    ms.unsigned_abs() <= NUMBER_MAX
}

fn is_address(address: SocketAddr) -> bool {
    address.port() != 0 && !address.ip().is_unspecified()
}
