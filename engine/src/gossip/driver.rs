//! Sockets, mailboxes and time -> calls of the node, and what it wants done.

use super::incarnation::Incarnation;
use super::join::{self, Found, JoinAddress};
use super::mailbox::{
    EVENTS_WAITING_MAX, FromGossip, GossipStatus, StoreSlot, StreamCounters, ToGossip,
};
use super::options::ClusterOptions;
use super::sockets::Sockets;
use super::streams::{self, Open, StreamError};
use crate::clock;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use ringscrape_cluster::Now;
use ringscrape_cluster::exchange::{Failure, Purpose};
use ringscrape_cluster::node::{Node, Outbox};
use ringscrape_cluster::state::Event;
use ringscrape_cluster::timeline::Timeline;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Notify, mpsc};
use tracing::{debug, info, warn};

/// Datagrams that are read in one go, before anything else has its turn.
const DATAGRAMS_PER_TURN: usize = 64;
/// How long a round of join addresses waits for those that do not answer.
const JOIN_PATIENCE: Duration = Duration::from_millis(JOIN_PATIENCE_MS);
/// A node that has just started tries all join addresses again for as long.
const JOIN_PATIENCE_MS: u64 = 2_000;
/// The pause between.
const JOIN_PAUSE_MS: u64 = 150;
/// A node that knows nobody tries its join addresses at least this often.
const LONELY_REJOIN_MS: u64 = 5_000;

/// What both clocks say.
pub(super) fn now() -> Now {
    Now {
        unix_ms: clock::now_ms(),
        monotonic_ms: clock::monotonic_ms(),
    }
}

/// The node, and what its streams and its loop share. Borrowed for one step at a time.
pub(super) struct Core {
    pub(super) node: Node,
    pub(super) out: Outbox,
    pub(super) streams: StreamCounters,
    pub(super) rng: StdRng,
    pub(super) control: mpsc::Sender<FromGossip>,
    pub(super) drop_share: f64,
    pub(super) store: StoreSlot,
    join: Option<JoinRound>,
}

/// A round of join addresses that is under way.
struct JoinRound {
    number: u64,
    left: usize,
    answered: usize,
    refusals: Vec<String>,
}

/// What the streams hold of the node.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) core: Rc<RefCell<Core>>,
    /// The node was told something: its wishes are to be seen to.
    pub(super) changed: Rc<Notify>,
    pub(super) open: Rc<RefCell<Open>>,
}

/// The loop of the gossip thread.
pub(super) struct Driver {
    node: Node,
    options: ClusterOptions,
    incarnation: Incarnation,
    join: Vec<JoinAddress>,
    control: mpsc::Sender<FromGossip>,
    rng: StdRng,
    pub(super) store: StoreSlot,
}

impl Driver {
    pub(super) fn new(
        node: Node,
        options: ClusterOptions,
        incarnation: Incarnation,
        join: Vec<JoinAddress>,
        control: mpsc::Sender<FromGossip>,
        rng: StdRng,
    ) -> Self {
        Self {
            node,
            options,
            incarnation,
            join,
            control,
            rng,
            store: StoreSlot::default(),
        }
    }

    /// Runs until it is stopped. Blocks.
    pub(super) fn run(self, sockets: Sockets, messages: mpsc::Receiver<ToGossip>) {
        let control = self.control.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let ended = match runtime {
            Ok(runtime) => {
                let local = tokio::task::LocalSet::new();
                let ended = local.block_on(&runtime, self.turns(sockets, messages));
                // A look-up that hangs in the system's resolver must not keep the thread.
                drop(local);
                runtime.shutdown_background();
                ended
            }
            Err(error) => Err(format!("cannot start the gossip's runtime: {error}")),
        };
        if let Err(reason) = ended {
            // Nobody to tell: the process ends anyway.
            let _ = control.blocking_send(FromGossip::Failed(reason));
        }
    }

    async fn turns(
        self,
        sockets: Sockets,
        messages: mpsc::Receiver<ToGossip>,
    ) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("cannot use the gossip's socket: {error}");
        let udp = UdpSocket::from_std(sockets.udp).map_err(failed)?;
        let tcp = TcpListener::from_std(sockets.tcp).map_err(failed)?;
        let core = Core {
            node: self.node,
            out: Outbox::default(),
            streams: StreamCounters::default(),
            rng: self.rng,
            control: self.control.clone(),
            drop_share: self.options.drop_exchanges,
            store: self.store,
            join: None,
        };
        let (found, joins) = mpsc::channel(1);
        let turns = Turns {
            shared: Shared {
                core: Rc::new(RefCell::new(core)),
                changed: Rc::default(),
                open: Rc::default(),
            },
            udp,
            tcp,
            options: self.options,
            incarnation: self.incarnation,
            join_addresses: self.join.into(),
            control: self.control,
            waiting: VecDeque::new(),
            rounds: 0,
            started_ms: clock::monotonic_ms(),
            has_tried: false,
            found,
            next_join_ms: Some(0),
        };
        turns.run(messages, joins).await
    }
}

/// What comes of a round's look-ups.
enum Join {
    Found(Found),
    /// The patience with a round, by its number, is over.
    Impatient(u64),
}

struct Turns {
    shared: Shared,
    udp: UdpSocket,
    tcp: TcpListener,
    options: ClusterOptions,
    incarnation: Incarnation,
    join_addresses: Rc<[JoinAddress]>,
    control: mpsc::Sender<FromGossip>,
    /// What finds no room in control's mailbox.
    waiting: VecDeque<FromGossip>,
    rounds: u64,
    started_ms: u64,
    /// The join addresses have had their chance before a cluster was founded.
    has_tried: bool,
    found: mpsc::Sender<Join>,
    /// When to try the join addresses, in monotonic ms; `None`: not again, or a round is under way.
    next_join_ms: Option<u64>,
}

impl Turns {
    async fn run(
        mut self,
        mut messages: mpsc::Receiver<ToGossip>,
        mut joins: mpsc::Receiver<Join>,
    ) -> Result<(), String> {
        loop {
            // First what has come: after a pause of this process it says who is alive.
            self.read_datagrams();
            self.see_to_it()?;
            let wait_ms = self.next_due_ms().saturating_sub(clock::monotonic_ms());
            let sleep = tokio::time::sleep(Duration::from_millis(wait_ms.min(60_000)));
            let control = self.control.clone();
            tokio::select! {
                // Read at the next turn, whatever it is.
                _ = self.udp.readable() => {}
                message = messages.recv() => match message {
                    Some(ToGossip::Stop) => return self.leave(),
                    Some(message) => self.take(message),
                    None => return Ok(()),
                },
                accepted = self.tcp.accept() => match accepted {
                    Ok((socket, from)) => streams::answer(&self.shared, socket, from),
                    Err(error) => {
                        warn!(%error, "cannot accept a stream of the cluster");
                        // Out of open files, most likely: not in a tight loop.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                join = joins.recv() => match join {
                    Some(Join::Found(found)) => self.join(found),
                    Some(Join::Impatient(number)) => self.lose_patience(number),
                    None => {}
                },
                () = self.shared.changed.notified() => {}
                permit = control.reserve(), if !self.waiting.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(message) = self.waiting.pop_front() {
                            permit.send(message);
                        }
                    }
                    Err(_) => return Ok(()),
                },
                () = sleep => {}
            }
            if self.control.is_closed() {
                return Ok(());
            }
        }
    }

    fn next_due_ms(&self) -> u64 {
        let join_ms = self.next_join_ms.unwrap_or(u64::MAX);
        self.shared.core.borrow().node.next_due_ms().min(join_ms)
    }

    fn read_datagrams(&mut self) {
        // One more byte than any packet has: what is longer is seen to be.
        let mut bytes = [0; 1_500];
        let core = &mut *self.shared.core.borrow_mut();
        for _ in 0..DATAGRAMS_PER_TURN {
            // Errors are those of packets sent before, or none is there.
            let Ok((len, from)) = self.udp.try_recv_from(&mut bytes) else {
                break;
            };
            core.node.receive(from, &bytes[..len], now(), &mut core.out);
        }
    }

    fn take(&mut self, message: ToGossip) {
        let core = &mut *self.shared.core.borrow_mut();
        // If the process stood still, the node is to know it before it says how it is.
        if core.node.next_due_ms() <= clock::monotonic_ms() {
            core.node.tick(now(), &mut core.out);
        }
        match message {
            ToGossip::Wish(wish) => core.node.wish(wish, now(), &mut core.out),
            ToGossip::Status(answer) => {
                let now = now();
                let status = GossipStatus {
                    snapshot: core.node.snapshot(now),
                    counters: *core.node.counters(),
                    streams: core.streams,
                    now_ms: now.unix_ms,
                };
                // Who asked may have gone.
                let _ = answer.send(status);
            }
            ToGossip::HandOver { to, bytes, done } => {
                let address = core.node.address_of(&to);
                let shared = self.shared.clone();
                tokio::task::spawn_local(async move {
                    let purpose = Purpose::Handover(to.clone(), bytes);
                    let result = streams::ask_node(&shared, &to, address, purpose).await;
                    let _ = done.send(result.map(|_| ()));
                });
            }
            ToGossip::Ask {
                to,
                question,
                answer,
            } => {
                let address = core.node.address_of(&to);
                let shared = self.shared.clone();
                tokio::task::spawn_local(async move {
                    let purpose = Purpose::Question(to.clone(), question);
                    let result = streams::ask_node(&shared, &to, address, purpose).await;
                    let _ = answer.send(result.map(Option::unwrap_or_default));
                });
            }
            ToGossip::Stop => {}
        }
    }

    /// Sees to all that is due and that the node wants.
    fn see_to_it(&mut self) -> Result<(), String> {
        let monotonic_ms = clock::monotonic_ms();
        if self
            .next_join_ms
            .is_some_and(|due_ms| due_ms <= monotonic_ms)
        {
            self.next_join_ms = None;
            let (found, addresses) = (self.found.clone(), self.join_addresses.clone());
            tokio::task::spawn_local(async move {
                let looked_up = join::look_up(&addresses).await;
                // The loop has ended.
                let _ = found.send(Join::Found(looked_up)).await;
            });
        }
        let shared = self.shared.clone();
        let core = &mut *shared.core.borrow_mut();
        if core.node.next_due_ms() <= monotonic_ms {
            core.node.tick(now(), &mut core.out);
        }
        for (to, bytes) in core.out.datagrams.drain(..) {
            if self.udp.try_send_to(&bytes, to).is_err() {
                core.streams.datagrams_unsent += 1;
            }
        }
        let exchanges = std::mem::take(&mut core.out.exchanges);
        for (name, address) in exchanges {
            streams::exchange(&self.shared, name, address);
        }
        let timeline = core.node.timeline().clone();
        let events = core.node.take_events();
        let round_over = core.join.as_ref().is_some_and(|round| round.left == 0);
        let mut dropped = 0;
        for event in events {
            dropped += u64::from(self.take_event(event, &timeline)?);
        }
        core.streams.events_dropped += dropped;
        if round_over {
            self.end_round(core)?;
        }
        Ok(())
    }

    /// Whether another event had to give way.
    fn take_event(&mut self, event: Event, timeline: &Arc<Timeline>) -> Result<bool, String> {
        let message = match event {
            Event::TimelineChanged => {
                let is_older = |message: &FromGossip| matches!(message, FromGossip::Timeline(_));
                self.waiting.retain(|message| !is_older(message));
                FromGossip::Timeline(timeline.clone())
            }
            Event::Refused(refusal) => return Err(refusal.to_string()),
            event => {
                if let Event::Died { incarnation, .. } | Event::IncarnationRaised(incarnation) =
                    event
                {
                    // Without the file the clock has to make the next start a later life.
                    if let Err(error) = self.incarnation.store(incarnation) {
                        warn!(%error, "the incarnation is not stored");
                    }
                }
                FromGossip::Event(event)
            }
        };
        let is_full = self.waiting.len() >= EVENTS_WAITING_MAX;
        if is_full {
            let is_event = |message: &FromGossip| matches!(message, FromGossip::Event(_));
            if let Some(index) = self.waiting.iter().position(is_event) {
                self.waiting.remove(index);
            }
        }
        self.waiting.push_back(message);
        Ok(is_full)
    }

    /// The join addresses were looked up.
    fn join(&mut self, found: Found) {
        let Found {
            mut addresses,
            errors,
        } = found;
        let shared = self.shared.clone();
        let core = &mut *shared.core.borrow_mut();
        for error in errors {
            warn!(%error, "a join address is not found");
        }
        addresses.shuffle(&mut core.rng);
        match self.options.max_join_peers {
            0 => {}
            max => addresses.truncate(max),
        }
        self.rounds += 1;
        core.streams.join_rounds += 1;
        let before = core.out.exchanges.len();
        core.node.join(&addresses, now(), &mut core.out);
        let to_join = core.out.exchanges[before..].iter();
        let left = to_join.filter(|(name, _)| name.is_empty()).count();
        debug!(round = self.rounds, peers = left, "trying to join");
        core.join = Some(JoinRound {
            number: self.rounds,
            left,
            answered: 0,
            refusals: Vec::new(),
        });
        let (found, number) = (self.found.clone(), self.rounds);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(JOIN_PATIENCE).await;
            let _ = found.send(Join::Impatient(number)).await;
        });
    }

    fn lose_patience(&mut self, number: u64) {
        let core = &mut *self.shared.core.borrow_mut();
        if let Some(round) = core.join.as_mut().filter(|round| round.number == number) {
            round.left = 0;
        }
    }

    /// All join addresses have answered, or will not.
    fn end_round(&mut self, core: &mut Core) -> Result<(), String> {
        let Some(round) = core.join.take() else {
            return Ok(());
        };
        let is_first = !std::mem::replace(&mut self.has_tried, true);
        let in_vain = round.answered == 0 && round.refusals.is_empty();
        let waited_ms = clock::monotonic_ms() - self.started_ms;
        if is_first && in_vain && !self.join_addresses.is_empty() && waited_ms < JOIN_PATIENCE_MS {
            self.has_tried = false;
            // One stream that broke, or a node that is about to start: no reason to found a cluster
            // beside the one that is there.
            self.next_join_ms = Some(clock::monotonic_ms() + JOIN_PAUSE_MS);
            self.shared.changed.notify_one();
            return Ok(());
        }
        if round.answered == 0 && !self.join_addresses.is_empty() {
            core.streams.join_rounds_failed += 1;
            if let Some(refusal) = round.refusals.first() {
                if is_first {
                    // A node of another cluster must not scrape the same targets beside this one.
                    return Err(format!("no node of the cluster takes this one: {refusal}"));
                }
                warn!(%refusal, "no join address takes this node");
            } else if is_first {
                info!("no join address answers: this may be the first node");
            }
        }
        core.node.join_round_over(now(), &mut core.out);
        let is_lonely = core.node.alive_count() == 0;
        let interval_ms = match self.options.rejoin_interval_ms {
            _ if self.join_addresses.is_empty() => None,
            0 => None,
            interval_ms if is_lonely => Some(interval_ms.min(LONELY_REJOIN_MS)),
            interval_ms => Some(interval_ms),
        };
        self.next_join_ms = interval_ms.map(|ms| clock::monotonic_ms().saturating_add(ms));
        self.shared.changed.notify_one();
        Ok(())
    }

    fn leave(&mut self) -> Result<(), String> {
        let core = &mut *self.shared.core.borrow_mut();
        core.node.leave(now(), &mut core.out);
        for (to, bytes) in core.out.datagrams.drain(..) {
            // What is lost now, the others find out by themselves.
            let _ = self.udp.try_send_to(&bytes, to);
        }
        Ok(())
    }
}

impl Core {
    /// An exchange with a join address has ended.
    pub(super) fn join_ended(&mut self, address: SocketAddr, result: Result<(), &StreamError>) {
        let Some(round) = &mut self.join else {
            return;
        };
        round.left = round.left.saturating_sub(1);
        match result {
            Ok(()) => round.answered += 1,
            Err(StreamError::Failure(Failure::Own)) => {}
            Err(StreamError::Failure(failure @ Failure::RefusedByPeer(_))) => {
                round.refusals.push(format!("{address}: {failure}"));
            }
            Err(error) => debug!(%address, %error, "a join address does not answer"),
        }
    }
}
