//! A shape -> a whole cluster, event by event, in true time.

use crate::actions::Action;
use crate::agreement::Agreement;
use crate::director::Director;
use crate::figures::Figures;
use crate::judge::{Judge, unix_ms};
use crate::ledger::Ledger;
use crate::network::{Network, NodeId};
use crate::notes::view_note;
use crate::process::{Process, Running, SOCKET_DATAGRAMS_MAX, name, node_at};
use crate::random::Random;
use crate::scraper::Scraper;
use crate::shape::Shape;
use crate::streams::Streams;
use crate::time::{EPOCH_MS, MILLI, Micros, Queue, SECOND};
use crate::trace::Trace;
use crate::views::Views;
use crate::world::World;
use ringscrape_cluster::Now;
use ringscrape_cluster::node::{Node, Outbox};
use ringscrape_cluster::state::{Death, Event};
use std::collections::VecDeque;
use std::rc::Rc;

/// A cluster and its world.
#[derive(Debug)]
pub struct Simulation {
    pub(crate) shape: Shape,
    pub(crate) now: Micros,
    pub(crate) queue: Queue<Happening>,
    pub(crate) random: Random,
    pub(crate) network: Network,
    pub(crate) processes: Vec<Process>,
    pub(crate) streams: Streams,
    pub(crate) world: World,
    pub(crate) views: Views,
    pub(crate) ledger: Ledger,
    pub(crate) judge: Judge,
    pub(crate) director: Director,
    pub(crate) agreement: Agreement,
    pub(crate) figures: Figures,
    pub(crate) trace: Trace,
    pub(crate) breach: Option<Breach>,
    /// Of each target the index of the member that has it, in a view.
    pub(crate) owners: Option<(crate::views::ViewId, Vec<u32>)>,
}

/// Something that happens at its time.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A node is to be woken, if that is still its alarm.
    Alarm(NodeId, u32),
    /// A datagram arrives: from, to.
    Datagram(NodeId, NodeId, Rc<[u8]>),
    /// A stream is open.
    Connected(u64),
    /// A frame arrives at one end of a stream: whether it is the answering one.
    Frame(u64, bool, Vec<u8>),
    /// Nobody waits for a stream any more.
    StreamOver(u64),
    /// A process of this life looks its join addresses up.
    Join(NodeId, u32),
    /// A process of this life tries to join by a node again.
    Knock(NodeId, u32, NodeId),
    /// A process of this life does not wait for join addresses any more.
    JoinOver(NodeId, u32),
    /// Discovery of a process of this life has answered.
    Ready(NodeId, u32),
    /// A change or a fault.
    Do(Action),
    /// All nodes are looked at.
    Poll,
}

/// The cluster broke a promise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}\n{notes}")]
pub struct Breach {
    /// When, in true time.
    pub at: Micros,
    /// What.
    pub what: String,
    /// What the nodes concerned did before.
    pub notes: String,
}

/// Slots are judged so long after they and their interval are over: clocks may be set back by less.
const JUDGE_AFTER_MS: i64 = 10_000;
/// Slots are made so far ahead: clocks may be set ahead by less.
const SLOTS_AHEAD_MS: i64 = 10_000;
/// An alarm rings late by up to this.
const ALARM_LATE: Micros = 2 * MILLI;
/// Ticks in a row without the time going on, after which a node is taken to be stuck.
const IDLE_TICKS_MAX: u32 = 1_000;

impl Simulation {
    /// A cluster in which nothing has happened yet.
    pub fn new(shape: Shape) -> Self {
        let mut random = Random::new(shape.seed);
        let count = shape.nodes + shape.spares;
        let world = World::new(
            &mut random.fork(),
            shape.targets,
            shape.followed,
            shape.nodes,
        );
        let processes = (0..count).map(|id| Process::new(id, &shape, &world, random.fork()));
        let processes: Vec<Process> = processes.collect();
        let names: Vec<String> = (0..count).map(name).collect();
        let mut simulation = Self {
            now: 0,
            queue: Queue::new(),
            network: Network::new(shape.links.clone(), random.fork()),
            processes,
            streams: Streams::default(),
            views: Views::new(&names),
            ledger: Ledger::new(EPOCH_MS - SLOTS_AHEAD_MS),
            judge: Judge::default(),
            director: Director::new(&shape, random.fork()),
            agreement: Agreement::default(),
            figures: Figures {
                nodes: shape.nodes,
                targets: shape.targets,
                ..Figures::default()
            },
            trace: Trace::new(count),
            breach: None,
            owners: None,
            random,
            world,
            shape,
        };
        simulation
            .ledger
            .extend(&simulation.world, EPOCH_MS + SLOTS_AHEAD_MS);
        for node in 0..simulation.shape.nodes {
            let at = simulation.shape.start_gap * node as Micros;
            simulation.queue.add(at, Happening::Do(Action::Start(node)));
        }
        simulation.queue.add(0, Happening::Poll);
        simulation
    }

    /// Runs to the end. `progress` is called now and then with the true time.
    ///
    /// # Errors
    /// The first promise that was broken.
    pub fn run(
        mut self,
        mut progress: impl FnMut(Micros, &Figures),
    ) -> Result<Figures, Box<Breach>> {
        while let Some((at, happening)) = self.queue.take() {
            self.now = at;
            self.figures.events += 1;
            if self.figures.events.is_multiple_of(1 << 16) {
                self.figures.tally = self.judge.tally.clone();
                progress(at, &self.figures);
            }
            self.handle(happening);
            if let Some(breach) = self.breach.take() {
                return Err(Box::new(breach));
            }
            if self.director.is_done {
                break;
            }
        }
        self.measure_skew();
        if let Some(breach) = self.breach.take() {
            return Err(Box::new(breach));
        }
        self.figures.duration = self.now;
        self.figures.tally = self.judge.tally;
        self.figures.views = self.views.count();
        self.figures.trace = self.trace.digest();
        Ok(self.figures)
    }

    fn handle(&mut self, happening: Happening) {
        match happening {
            Happening::Alarm(node, life) => self.alarm(node, life),
            Happening::Datagram(from, to, bytes) => self.datagram(from, to, bytes),
            Happening::Connected(stream) => self.connected(stream),
            Happening::Frame(stream, is_answerer, bytes) => self.frame(stream, is_answerer, bytes),
            Happening::StreamOver(stream) => self.stream_over(stream),
            Happening::Join(node, life) => self.join(node, life),
            Happening::Knock(node, life, to) => self.knock(node, life, to),
            Happening::JoinOver(node, life) => self.join_over(node, life),
            Happening::Ready(node, life) => self.ready(node, life),
            Happening::Do(action) => self.act(action),
            Happening::Poll => self.poll(),
        }
    }

    /// Lets a node do something, and does what it wants then. Nothing if it does not run.
    pub(crate) fn drive<T>(
        &mut self,
        id: NodeId,
        action: impl FnOnce(&mut Node, Now, &mut Outbox) -> T,
    ) -> Option<T> {
        let process = &mut self.processes[id];
        let now = process.clock.now(self.now);
        let running = process
            .running
            .as_mut()
            .filter(|running| !running.is_paused)?;
        let mut out = Outbox::default();
        let result = action(&mut running.node, now, &mut out);
        let events = running.node.take_events();
        let due_ms = running.node.next_due_ms();
        for (address, bytes) in out.datagrams {
            self.send(id, address, bytes);
        }
        for (_, address) in out.exchanges {
            self.open(id, address, false);
        }
        for event in events {
            self.event(id, event);
        }
        self.set_alarm(id, due_ms, now);
        Some(result)
    }

    fn set_alarm(&mut self, id: NodeId, due_ms: u64, now: Now) {
        let process = &mut self.processes[id];
        let Some(running) = &mut process.running else {
            return;
        };
        if running.due_ms == due_ms && running.alarm > self.now {
            return;
        }
        running.due_ms = due_ms;
        // What is due already is done as soon as the clock has gone on.
        let due = process.clock.when(due_ms.max(now.monotonic_ms + 1));
        if due == Micros::MAX {
            running.alarm = due;
            return;
        }
        running.alarm = due + self.random.below(ALARM_LATE);
        let happening = Happening::Alarm(id, process.life);
        self.queue.add(running.alarm, happening);
    }

    fn alarm(&mut self, id: NodeId, life: u32) {
        let process = &mut self.processes[id];
        let now = process.clock.now(self.now);
        let Some(running) = &mut process.running else {
            return;
        };
        if process.life != life || running.alarm != self.now || running.is_paused {
            return;
        }
        let is_idle = running.due_ms <= running.ticked_ms;
        running.ticked_ms = now.monotonic_ms;
        running.idle_ticks = if is_idle { running.idle_ticks + 1 } else { 0 };
        if running.idle_ticks > IDLE_TICKS_MAX {
            let what = format!("node-{id} wants to be woken again and again, with nothing to do");
            self.breach(what, &[id]);
        }
        self.trace.happened(self.now, b'a', [id as u64, 0], &[]);
        self.drive(id, |node, now, out| node.tick(now, out));
    }

    fn send(&mut self, from: NodeId, address: std::net::SocketAddr, bytes: Vec<u8>) {
        self.figures.datagram_bytes += bytes.len() as u64;
        let Some(to) = node_at(address).filter(|to| *to < self.processes.len()) else {
            return;
        };
        let bytes: Rc<[u8]> = bytes.into();
        let queue = &mut self.queue;
        self.network.datagram(from, to, self.now, |at| {
            queue.add(at, Happening::Datagram(from, to, bytes.clone()));
        });
    }

    fn datagram(&mut self, from: NodeId, to: NodeId, bytes: Rc<[u8]>) {
        self.trace
            .happened(self.now, b'd', [from as u64, to as u64], &bytes);
        let Some(running) = &mut self.processes[to].running else {
            return;
        };
        if running.is_paused {
            if running.socket.len() < SOCKET_DATAGRAMS_MAX {
                running.socket.push_back((from, bytes));
            }
            return;
        }
        let address = crate::process::address(from);
        self.drive(to, |node, now, out| node.receive(address, &bytes, now, out));
    }

    fn event(&mut self, id: NodeId, event: Event) {
        let process = &mut self.processes[id];
        let moment = process.moment(self.now);
        let Some(running) = &mut process.running else {
            return;
        };
        let scraper = &mut running.scraper;
        scraper.advance(moment, &mut self.ledger, &self.views);
        match &event {
            Event::TimelineChanged => {
                let timeline = running.node.timeline().clone();
                let before = scraper.views().to_vec();
                let (ledger, views) = (&mut self.ledger, &mut self.views);
                scraper.switch(&timeline, moment, ledger, views, &self.world);
                if before != scraper.views() {
                    let note = view_note(scraper, &self.views);
                    self.trace.note(self.now, id, note);
                }
                return;
            }
            Event::Died {
                reason,
                incarnation,
            } => {
                process.stored_incarnation = *incarnation;
                let is_accused = matches!(reason, Death::Accused { .. });
                self.figures.false_accusations += u64::from(is_accused);
                self.note_harm(id, "found dead");
            }
            Event::IncarnationRaised(incarnation) => process.stored_incarnation = *incarnation,
            Event::Isolated(is_isolated) => running.is_isolated = *is_isolated,
            Event::StoodStill { .. } => {
                scraper.is_held = true;
                self.note_harm(id, "stood still");
            }
            Event::GoOn => {
                scraper.is_held = false;
            }
            Event::Agreed { after_ms, .. } => self.figures.proposals.add(after_ms * MILLI),
            Event::Refused(refusal) => {
                let what = format!("node-{id} is refused: {refusal}");
                self.breach(what, &[id]);
            }
            _ => {}
        }
        self.trace.note(self.now, id, format!("{event:?}"));
    }

    /// A process starts.
    pub(crate) fn start(&mut self, id: NodeId, discovery: Micros) {
        if self.processes[id].running.is_some() {
            return;
        }
        self.set_jobs(id);
        let process = &mut self.processes[id];
        process.is_wanted = true;
        process.is_leaving = false;
        process.wish.is_active = false;
        let Some(node) = process.node(self.now, self.shape.detection_ms) else {
            self.breach(format!("node-{id} cannot be made"), &[id]);
            return;
        };
        let now = process.clock.now(self.now);
        let mut scraper = Scraper::new(
            (id, process.life),
            node.timeline(),
            &mut self.views,
            &self.world,
        );
        scraper.skip(process.moment(self.now));
        process.running = Some(Running {
            node,
            scraper,
            alarm: 0,
            due_ms: u64::MAX,
            ticked_ms: now.monotonic_ms.saturating_sub(1),
            idle_ticks: 0,
            is_paused: false,
            is_isolated: false,
            socket: VecDeque::new(),
            frames: Vec::new(),
            joining: 0,
            started: self.now,
        });
        let life = process.life;
        let note = format!("starts, incarnation {}", process.stored_incarnation);
        self.trace.note(self.now, id, note);
        let wish = process.wish.clone();
        self.drive(id, |node, now, out| node.wish(wish, now, out));
        self.queue.add(self.now, Happening::Join(id, life));
        self.queue
            .add(self.now + discovery, Happening::Ready(id, life));
    }

    /// A process is gone, at once.
    pub(crate) fn stop(&mut self, id: NodeId, why: &str) {
        let process = &mut self.processes[id];
        let moment = process.moment(self.now);
        if let Some(mut running) = process.running.take() {
            if !running.is_paused {
                running
                    .scraper
                    .advance(moment, &mut self.ledger, &self.views);
            }
            self.figures.node_time += self.now - running.started;
            self.trace.note(self.now, id, why.to_owned());
        }
    }

    fn ready(&mut self, id: NodeId, life: u32) {
        let process = &mut self.processes[id];
        if process.life != life || process.is_leaving {
            return;
        }
        process.wish.is_active = true;
        let is_paused = process.running.as_ref().is_some_and(|r| r.is_paused);
        if is_paused {
            let later = self.now + SECOND;
            self.queue.add(later, Happening::Ready(id, life));
        }
        self.tell_wish(id);
    }

    /// Tells a node what its engine wants.
    pub(crate) fn tell_wish(&mut self, id: NodeId) {
        let wish = self.processes[id].wish.clone();
        let weight = wish.weight;
        let is_active = wish.is_active;
        self.trace.note(
            self.now,
            id,
            format!("wishes active={is_active} weight={weight}"),
        );
        self.drive(id, |node, now, out| node.wish(wish, now, out));
    }

    /// A promise was broken: the run ends.
    pub(crate) fn breach(&mut self, what: String, nodes: &[NodeId]) {
        if self.breach.is_none() {
            let at = crate::time::text(self.now);
            self.breach = Some(Breach {
                at: self.now,
                what: format!("seed {}, at {at}: {what}", self.shape.seed),
                notes: self.trace.last_of(nodes),
            });
        }
    }

    /// Brings slots and scrapes up to now, and judges what is over.
    pub(crate) fn settle_slots(&mut self) {
        let now_ms = unix_ms(self.now);
        self.ledger.extend(&self.world, now_ms + SLOTS_AHEAD_MS);
        for process in &mut self.processes {
            let moment = process.moment(self.now);
            if let Some(running) = process.running.as_mut().filter(|r| !r.is_paused) {
                running
                    .scraper
                    .advance(moment, &mut self.ledger, &self.views);
            }
        }
        let over_ms = now_ms - JUDGE_AFTER_MS - self.world.interval_ms_max as i64;
        while let Some(slot) = self.ledger.take_before(over_ms) {
            if let Some(fault) = self.judge.judge(&slot, &self.views) {
                let what = format!("slot {fault:?}: {}", self.describe(&slot));
                let nodes = self.concerned(&slot);
                self.breach(what, &nodes);
                return;
            }
        }
    }
}
