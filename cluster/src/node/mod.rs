//! Datagrams, frames, the engine's wishes and time -> datagrams and frames to send, the timeline
//! and events: a whole node as one state machine.
//!
//! It joins the parts: packets are opened and sealed, the membership protocol says who is alive,
//! and the state is told. It decides itself only when to compare tables with whom, and when to
//! believe the membership protocol that somebody is dead.

mod contacts;
mod counters;

pub use counters::Counters;

use crate::exchange::{Conversation, Failure, Peer, Purpose, Stream, Taken, Then};
use crate::limits::is_incarnation;
use crate::membership::{Detection, Finding, Identity, Membership};
use crate::name::is_name;
use crate::now::Now;
use crate::packet::{Cause, Datagram, Keys, Nonce, PAYLOAD_BYTES_MAX, Replays, receiver};
use crate::state::{Event, Own, Snapshot, State, Wish};
use crate::timeline::Timeline;
use contacts::Contacts;
use core::net::SocketAddr;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom as _;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;

/// What a node is made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What it is.
    pub own: Own,
    /// How fast it finds the dead.
    pub detection: Detection,
    /// The cluster's name and keys.
    pub keys: Keys,
    /// From the operating system: nonces come from it.
    pub random: [u8; 32],
}

/// Why there cannot be such a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The name is not fit.
    #[error(
        "{0:?} cannot be a node's name: 1 to 128 printable ASCII characters are, without blanks, \
         quotes, commas and backslashes"
    )]
    Name(Arc<str>),
    /// Nobody could reach it.
    #[error("{0} cannot be reached by others: an address of a host with a port is needed")]
    Address(SocketAddr),
}

/// What a node wants of its driver.
#[derive(Debug, Default)]
pub struct Outbox {
    /// To be sent.
    pub datagrams: Vec<(SocketAddr, Vec<u8>)>,
    /// Streams to be opened for an exchange; an empty name: nobody knows who is there.
    pub exchanges: Vec<(Arc<str>, SocketAddr)>,
}

/// One node.
#[derive(Debug)]
pub struct Node {
    state: State,
    membership: Membership,
    keys: Keys,
    replays: Replays,
    contacts: Contacts,
    counters: Counters,
    rng: StdRng,
    /// Datagrams and frames sent.
    sequence: u64,
    /// Not before this time members are told again of what is new; monotonic.
    spread_ms: u64,
    /// When that is due.
    spread_due_ms: u64,
}

/// As long as something is new in a large cluster, so many members are told of it,
const SPREAD_TO: usize = 3;
/// so often.
const SPREAD_EVERY_MS: u64 = 200;

impl Node {
    /// A node that knows nobody.
    ///
    /// # Errors
    /// Its name or address is not fit.
    pub fn new(settings: Settings, now: Now) -> Result<Self, SettingsError> {
        let Settings {
            own,
            detection,
            keys,
            random,
        } = settings;
        if !is_name(&own.name) {
            return Err(SettingsError::Name(own.name));
        }
        if own.gossip_address.ip().is_unspecified() || own.gossip_address.port() == 0 {
            return Err(SettingsError::Address(own.gossip_address));
        }
        let mut rng = StdRng::from_seed(random);
        let identity = Identity {
            name: own.name.clone(),
            address: own.gossip_address,
            incarnation: own.incarnation,
            renewal: 0,
        };
        let of_membership = StdRng::from_seed(rng.random());
        Ok(Self {
            state: State::new(own, now),
            membership: Membership::new(identity, detection, of_membership),
            keys,
            replays: Replays::default(),
            contacts: Contacts::new(detection),
            counters: Counters::default(),
            rng,
            sequence: 0,
            spread_ms: 0,
            spread_due_ms: u64::MAX,
        })
    }

    /// What it knows.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Who owns what.
    pub fn timeline(&self) -> &Arc<Timeline> {
        self.state.timeline()
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.state.take_events()
    }

    /// For status pages.
    pub fn snapshot(&self, now: Now) -> Snapshot {
        self.state.snapshot(now)
    }

    /// What was counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many others are alive, as far as this node can tell.
    pub fn alive_count(&self) -> usize {
        self.membership.alive().count()
    }

    /// Where a node is to be found.
    pub fn address_of(&self, name: &str) -> Option<SocketAddr> {
        self.contacts.address_of(name)
    }

    /// A datagram has come.
    pub fn receive(&mut self, from: SocketAddr, datagram: &[u8], now: Now, out: &mut Outbox) {
        self.counters.datagrams_received += 1;
        self.counters.bytes_received += datagram.len() as u64;
        if let Err(cause) = self.take_datagram(from, datagram, now) {
            self.counters.refused(cause);
        }
        self.settle_after(false, now, out);
    }

    fn take_datagram(&mut self, from: SocketAddr, bytes: &[u8], now: Now) -> Result<(), Cause> {
        let plain = Datagram::open(&self.keys, bytes)?;
        let datagram = Datagram::read(&plain)?;
        if *datagram.name == *self.state.own().name {
            return Err(Cause::Own);
        }
        // It would shut out all later lives of its sender.
        if !is_incarnation(datagram.incarnation, now.unix_ms) {
            return Err(Cause::Malformed);
        }
        let sender = self
            .replays
            .take(datagram.name, datagram.incarnation, datagram.sequence)?
            .name;
        let me = &self.state.own().name;
        let is_to_me = datagram.to == receiver(me, self.state.incarnation());
        if !is_to_me && datagram.to != 0 {
            return Err(Cause::Stale);
        }
        if !self.state.may_gossip() {
            return Ok(());
        }
        // An announcement could have been recorded before this node was started.
        if is_to_me {
            self.contacts
                .heard(&sender, datagram.incarnation, now.monotonic_ms);
            let (digest, followers) = (datagram.digest, datagram.followers);
            self.state
                .contact(&sender, datagram.incarnation, digest, followers, now);
        }
        let is_equal = datagram.digest == self.state.digest();
        let jitter = self.rng.random();
        self.contacts
            .compared(&sender, from, is_equal, jitter, now.monotonic_ms);
        if !datagram.payload.is_empty() {
            self.membership.receive(datagram.payload, now.monotonic_ms);
        }
        Ok(())
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now, out: &mut Outbox) {
        if self.state.next_due_ms() <= now.monotonic_ms {
            self.state.tick(now);
        }
        if self.state.may_gossip() {
            self.membership.tick(now.monotonic_ms);
        }
        self.spread(now, out);
        self.settle(now, out);
    }

    /// When to call [`Node::tick`], in monotonic ms.
    pub fn next_due_ms(&self) -> u64 {
        let state = self.state.next_due_ms();
        if !self.state.may_gossip() {
            return state;
        }
        let membership = self.membership.next_due_ms().unwrap_or(u64::MAX);
        let contacts = self.contacts.next_due_ms();
        state.min(membership).min(contacts).min(self.spread_due_ms)
    }

    /// These are addresses of other nodes, perhaps; to be told each time they were looked up. When
    /// each was tried, [`Node::join_round_over`] is to be called.
    pub fn join(&mut self, addresses: &[SocketAddr], now: Now, out: &mut Outbox) {
        for address in addresses {
            if *address != self.state.own().gossip_address {
                out.exchanges.push((Arc::from(""), *address));
            }
        }
        self.settle(now, out);
    }

    /// All join addresses were tried: each has answered or will not.
    pub fn join_round_over(&mut self, now: Now, out: &mut Outbox) {
        self.state.join_round_over(now);
        self.settle(now, out);
    }

    /// What the engine wants of this node from now on.
    pub fn wish(&mut self, wish: Wish, now: Now, out: &mut Outbox) {
        self.state.wish(wish, now);
        self.settle(now, out);
    }

    /// Tells others that this node goes now. It does not scrape any more.
    pub fn leave(&mut self, now: Now, out: &mut Outbox) {
        if self.state.may_gossip() {
            self.membership.leave(now.monotonic_ms);
            self.send_messages(now, out);
        }
    }

    /// Opens a stream: the asking side and its first frame.
    pub fn ask(&mut self, purpose: Purpose, now: Now) -> (Stream, Vec<u8>) {
        if purpose == Purpose::Exchange {
            self.counters.exchanges_started += 1;
        }
        self.conversation(now).ask(purpose)
    }

    /// A frame has come on a stream.
    pub fn take(&mut self, stream: &mut Stream, frame: &[u8], now: Now, out: &mut Outbox) -> Taken {
        let mut conversation = self.conversation(now);
        let taken = conversation.take(stream, frame);
        let Conversation {
            heard,
            members,
            is_news,
            ..
        } = conversation;
        for member in members {
            self.contacts.learnt(&member, now.monotonic_ms);
        }
        if let Some(peer) = heard {
            self.heard(&peer, is_news, now);
        }
        match &taken.then {
            Then::Over(None) => self.counters.exchanges_done += 1,
            Then::Failed(Failure::Unreadable(cause)) => self.counters.refused(*cause),
            _ => {}
        }
        self.settle(now, out);
        taken
    }

    /// The last frame of a stream, after this node's program had the word. `Ok(None)`: a handover
    /// was taken.
    pub fn verdict(
        &mut self,
        stream: &mut Stream,
        verdict: Result<Option<Vec<u8>>, String>,
        now: Now,
    ) -> Vec<u8> {
        self.conversation(now).verdict(stream, verdict)
    }

    /// A peer answered on a stream.
    fn heard(&mut self, peer: &Peer, is_news: bool, now: Now) {
        self.contacts.learnt(peer, now.monotonic_ms);
        self.contacts
            .heard(&peer.name, peer.incarnation, now.monotonic_ms);
        self.contacts
            .exchanged(&peer.name, is_news, now.monotonic_ms);
        if let Some(address) = peer.gossip_address {
            self.greet(&peer.name, peer.incarnation, address, now);
        }
    }

    /// Makes a node known to the membership protocol, if it is not.
    fn greet(&mut self, name: &Arc<str>, incarnation: u64, address: SocketAddr, now: Now) {
        if !self.state.may_gossip() {
            return;
        }
        if !self.contacts.is_alive(name, incarnation) && *name != self.state.own().name {
            // Whoever is there now, it answers: it may have begun another life.
            let whoever = Identity::unknown(address);
            self.membership.announce(whoever, now.monotonic_ms);
        }
    }

    /// Passes on what the parts want.
    fn settle(&mut self, now: Now, out: &mut Outbox) {
        self.settle_after(true, now, out);
    }

    /// The same. `is_news`: whether the state may want exchanges now that it did not want at the
    /// last tick. To find out costs a look at all members: too much for each datagram.
    fn settle_after(&mut self, mut is_news: bool, now: Now, out: &mut Outbox) {
        if self.state.may_gossip() {
            is_news |= self.settle_membership(now);
            let members = self.membership.alive_count();
            let comparisons = self.contacts.take_comparisons(members, now.monotonic_ms);
            out.exchanges.extend(comparisons);
        }
        if is_news {
            out.exchanges.extend(self.state.to_exchange_with(now));
        }
        self.send_messages(now, out);
        if self.spread_due_ms == u64::MAX && self.state.is_spreading(now) {
            self.spread_due_ms = self.spread_ms.max(now.monotonic_ms);
        }
    }

    /// The membership protocol hears of this node's lives, the state of those of others. As long as
    /// the node may not gossip, the protocol stands still. Returns whether the state heard of
    /// anything.
    fn settle_membership(&mut self, now: Now) -> bool {
        self.membership
            .begin_life(self.state.incarnation(), now.monotonic_ms);
        let mut is_news = false;
        for finding in self.membership.take_findings() {
            is_news = true;
            match finding {
                Finding::Up(identity) => {
                    self.contacts.up(&identity, now.monotonic_ms);
                    self.state.up(&identity.name, identity.incarnation, now);
                }
                Finding::Down(identity) => self.contacts.down(&identity, now.monotonic_ms),
            }
        }
        for (name, incarnation) in self.contacts.believed_dead(now.monotonic_ms) {
            is_news = true;
            self.state.down(&name, incarnation, now);
        }
        for address in self.contacts.take_questions(now.monotonic_ms) {
            // An announcement is answered, and shows one that lives that it was thought dead.
            let whoever = Identity::unknown(address);
            self.membership.announce(whoever, now.monotonic_ms);
        }
        let strangers = self
            .contacts
            .take_greetings(&mut self.rng, now.monotonic_ms);
        for stranger in strangers {
            if let Some(address) = stranger.gossip_address {
                self.greet(&stranger.name, stranger.incarnation, address, now);
            }
        }
        // Some of the above may have ended this life of the node.
        if self.state.may_gossip() {
            self.membership
                .begin_life(self.state.incarnation(), now.monotonic_ms);
        }
        is_news
    }

    fn send_messages(&mut self, now: Now, out: &mut Outbox) {
        for message in self.membership.take_messages() {
            self.send(&message.to, &message.payload, now, out);
        }
    }

    /// In a large cluster news would take too long by what the membership protocol sends alone.
    fn spread(&mut self, now: Now, out: &mut Outbox) {
        if !self.state.is_spreading(now) {
            self.spread_due_ms = u64::MAX;
            return;
        }
        if self.spread_ms > now.monotonic_ms {
            return;
        }
        self.spread_ms = now.monotonic_ms + SPREAD_EVERY_MS;
        self.spread_due_ms = self.spread_ms;
        let alive = self.membership.alive();
        let chosen = alive.sample(&mut self.rng, SPREAD_TO);
        let chosen: Vec<Identity> = chosen.into_iter().cloned().collect();
        for to in chosen {
            self.send(&to, &[], now, out);
        }
    }

    fn send(&mut self, to: &Identity, payload: &[u8], now: Now, out: &mut Outbox) {
        let nonce = self.nonce();
        let followers = self.state.followers();
        let has_room = payload.len() + followers.len() <= PAYLOAD_BYTES_MAX;
        let receiver = match &*to.name {
            "" => 0,
            name => receiver(name, to.incarnation),
        };
        let datagram = Datagram {
            name: &self.state.own().name,
            incarnation: self.state.incarnation(),
            sequence: self.sequence,
            to: receiver,
            sent_ms: now.unix_ms,
            digest: self.state.digest(),
            followers: if has_room { followers } else { &[] },
            payload,
        };
        let Some(bytes) = datagram.seal(&self.keys, &nonce) else {
            self.counters.datagrams_oversized += 1;
            return;
        };
        self.counters.datagrams_sent += 1;
        self.counters.bytes_sent += bytes.len() as u64;
        out.datagrams.push((to.address, bytes));
    }

    fn conversation(&mut self, now: Now) -> Conversation<'_> {
        let nonce = self.nonce();
        let random = self.rng.random::<u64>().max(1);
        Conversation {
            nonce,
            random,
            state: &mut self.state,
            keys: &self.keys,
            now,
            heard: None,
            members: Vec::new(),
            is_news: false,
        }
    }

    /// Never the same twice: random, and a counter in case the random numbers are bad.
    fn nonce(&mut self) -> Nonce {
        self.sequence += 1;
        let mut nonce: Nonce = self.rng.random();
        nonce[..8].copy_from_slice(&self.sequence.to_be_bytes());
        nonce
    }
}

#[cfg(test)]
mod tests;
