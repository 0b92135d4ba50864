//! Messages and time -> who is alive, by SWIM.
//!
//! The protocol itself is foca's; here it gets timers, and no clock and no socket: what it wants to
//! send and what it has found are collected and taken away by the caller.
//!
//! A node that did not run for a while (a paused process, a starved core) would find all others
//! silent. So the protocol's clock stands still with it: see [`Membership::tick`].
//!
//! Source: Das, Gupta, Motivala, SWIM, 2002.

mod identity;
mod timers;

pub use identity::Identity;

use crate::packet::PAYLOAD_BYTES_MAX;
use core::num::{NonZeroU8, NonZeroUsize};
use core::time::Duration;
use foca::{Foca, NoCustomBroadcast, Notification, PeriodicParams, PostcardCodec, Timer};
use rand::rngs::StdRng;
use timers::Timers;

/// How fast the dead are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detection {
    /// A member is asked whether it lives, one after the other, this far apart.
    pub probe_period_ms: u64,
    /// After this long without an answer others are asked to ask it.
    pub probe_rtt_ms: u64,
    /// How long a member that did not answer may take to object.
    pub suspicion_ms: u64,
}

impl Detection {
    /// The defaults, scaled so that a member is found dead within about `detection_ms`.
    pub fn within_ms(detection_ms: u64) -> Self {
        let detection_ms = detection_ms.clamp(200, 600_000);
        Self {
            probe_period_ms: detection_ms / 4,
            probe_rtt_ms: detection_ms / 10,
            suspicion_ms: detection_ms / 2,
        }
    }
}

/// What the protocol has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A member is alive.
    Up(Identity),
    /// A member is dead, or has left.
    Down(Identity),
}

/// A message for a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// To whom.
    pub to: Identity,
    /// At most [`PAYLOAD_BYTES_MAX`] bytes.
    pub payload: Vec<u8>,
}

/// The membership protocol of one node.
pub struct Membership {
    foca: Foca<Identity, PostcardCodec, StdRng, NoCustomBroadcast>,
    timers: Timers,
    /// More late than this, and the node stood still.
    late_ms_max: u64,
    messages: Vec<Message>,
    findings: Vec<Finding>,
    errors: u64,
}

impl core::fmt::Debug for Membership {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter
            .debug_struct("Membership")
            .field("identity", self.foca.identity())
            .field("alive", &self.foca.num_members())
            .finish_non_exhaustive()
    }
}

impl Membership {
    /// A member that knows nobody yet.
    pub fn new(identity: Identity, detection: Detection, rng: StdRng) -> Self {
        Self {
            foca: Foca::new(identity, config(detection), rng, PostcardCodec),
            timers: Timers::default(),
            late_ms_max: detection.probe_rtt_ms,
            messages: Vec::new(),
            findings: Vec::new(),
            errors: 0,
        }
    }

    /// Who this node is to the others.
    pub fn identity(&self) -> &Identity {
        self.foca.identity()
    }

    /// Those alive, as far as is known, without this node.
    pub fn alive(&self) -> impl Iterator<Item = &Identity> {
        self.foca.iter_members().map(foca::Member::id)
    }

    /// How many those are.
    pub fn alive_count(&self) -> usize {
        self.foca.num_members()
    }

    /// Messages that the protocol could not use; none of them did harm.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// What is to be sent.
    pub fn take_messages(&mut self) -> Vec<Message> {
        core::mem::take(&mut self.messages)
    }

    /// What was found, in order.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        core::mem::take(&mut self.findings)
    }

    /// When to call [`Membership::tick`] at the latest, in monotonic ms; `None`: no need.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.timers.next_due_ms()
    }

    /// A message of another member.
    pub fn receive(&mut self, payload: &[u8], now_ms: u64) {
        self.run(now_ms, |foca, collected| {
            foca.handle_data(payload, collected)
        });
    }

    /// Does what is due. Called much too late, it only puts everything off: first the answers that
    /// came meanwhile are to be heard.
    pub fn tick(&mut self, now_ms: u64) {
        self.allow_for_standstill(now_ms);
        while let Some(timer) = self.timers.take_due(now_ms) {
            let suspect = match &timer {
                Timer::ChangeSuspectToDown { member_id, .. } => Some(member_id.clone()),
                _ => None,
            };
            let messages = self.messages.len();
            self.run(now_ms, |foca, collected| {
                foca.handle_timer(timer, collected)
            });
            // All that this timer sends is the word to the suspect that it is dead; foca 2.0.0
            // sends it even to one that has objected in time.
            if suspect.is_some_and(|suspect| self.alive().any(|alive| *alive == suspect)) {
                self.messages.truncate(messages);
            }
        }
    }

    /// Asks somebody for the members that it knows, and makes this node known to it.
    pub fn announce(&mut self, to: Identity, now_ms: u64) {
        if to.address != self.identity().address {
            self.run(now_ms, |foca, collected| foca.announce(to, collected));
        }
    }

    /// This node begins another life.
    pub fn begin_life(&mut self, incarnation: u64, now_ms: u64) {
        if self.identity().incarnation != incarnation {
            let identity = Identity {
                incarnation,
                renewal: 0,
                ..self.identity().clone()
            };
            self.run(now_ms, |foca, collected| {
                foca.change_identity(identity, collected)
            });
        }
    }

    /// Tells some members that this node goes.
    pub fn leave(&mut self, now_ms: u64) {
        self.run(now_ms, |foca, collected| foca.leave_cluster(collected));
    }

    fn allow_for_standstill(&mut self, now_ms: u64) {
        let due_ms = self.timers.next_due_ms().unwrap_or(now_ms);
        let late_ms = now_ms.saturating_sub(due_ms);
        if late_ms > self.late_ms_max {
            let answers_ms = self.late_ms_max;
            self.timers.stood_still(late_ms.saturating_add(answers_ms));
        }
    }

    fn run(
        &mut self,
        now_ms: u64,
        action: impl FnOnce(
            &mut Foca<Identity, PostcardCodec, StdRng, NoCustomBroadcast>,
            &mut Collected<'_>,
        ) -> Result<(), foca::Error>,
    ) {
        self.allow_for_standstill(now_ms);
        let mut renamed = Vec::new();
        let mut collected = Collected {
            renamed: &mut renamed,
            now_ms,
            timers: &mut self.timers,
            messages: &mut self.messages,
            findings: &mut self.findings,
        };
        // An error is a message that makes no sense, or one that could not be made: in both cases
        // the protocol goes on as if it had been lost.
        if action(&mut self.foca, &mut collected).is_err() {
            self.errors += 1;
        }
        // A later life takes over an address without a word about being up, if both were.
        for identity in renamed {
            if self.alive().any(|alive| *alive == identity) {
                self.findings.push(Finding::Up(identity));
            }
        }
    }
}

/// Where the protocol puts what it wants.
struct Collected<'a> {
    now_ms: u64,
    renamed: &'a mut Vec<Identity>,
    timers: &'a mut Timers,
    messages: &'a mut Vec<Message>,
    findings: &'a mut Vec<Finding>,
}

impl foca::Runtime<Identity> for Collected<'_> {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        match notification {
            Notification::MemberUp(identity) => self.findings.push(Finding::Up(identity.clone())),
            Notification::MemberDown(identity) => {
                self.findings.push(Finding::Down(identity.clone()));
            }
            Notification::Rename(before, after) => {
                // Another node has its address: it is not there any more. A later life of the same
                // node says by itself what became of the one before.
                if before.name != after.name {
                    self.findings.push(Finding::Down(before.clone()));
                }
                self.renamed.push(after.clone());
            }
            Notification::Active
            | Notification::Idle
            | Notification::Defunct
            | Notification::Rejoin(_) => {}
        }
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        let payload = data.to_vec();
        self.messages.push(Message { to, payload });
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        let due_ms = self.now_ms.saturating_add(after_ms);
        self.timers.add(event, due_ms);
    }
}

/// Members that are asked to ask one that did not answer, and that get news at a time.
const HELPERS: NonZeroUsize = NonZeroUsize::new(3).expect("3 is not 0");
/// How often a piece of news is passed on by each member that has it: enough for 1,000 members with
/// some loss.
const TRANSMISSIONS: NonZeroU8 = NonZeroU8::new(10).expect("10 is not 0");
const PAYLOAD: NonZeroUsize = NonZeroUsize::new(PAYLOAD_BYTES_MAX).expect("not 0");
/// How long a dead identity is remembered. Later news of it are older than any that still travels.
const REMEMBER_DOWN: Duration = Duration::from_secs(3_600);

fn config(detection: Detection) -> foca::Config {
    let every = |ms: u64, num_members| {
        let frequency = Duration::from_millis(ms.max(1));
        Some(PeriodicParams {
            frequency,
            num_members,
        })
    };
    foca::Config {
        probe_period: Duration::from_millis(detection.probe_period_ms.max(2)),
        probe_rtt: Duration::from_millis(detection.probe_rtt_ms.max(1)),
        num_indirect_probes: HELPERS,
        max_transmissions: TRANSMISSIONS,
        suspect_to_down_after: Duration::from_millis(detection.suspicion_ms.max(1)),
        remove_down_after: Some(REMEMBER_DOWN),
        max_packet_size: PAYLOAD,
        notify_down_members: true,
        periodic_announce: every(30_000, NonZeroUsize::MIN),
        periodic_announce_to_down_members: None,
        periodic_gossip: every(detection.probe_rtt_ms, HELPERS),
    }
}

#[cfg(test)]
mod tests;
