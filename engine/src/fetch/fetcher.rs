//! Starts, deadlines and socket events of a shard's targets -> exchanges driven to their end.
//!
//! A slab of targets by id; an exchange is there only while a scrape is in flight. Connections are
//! kept between scrapes, one per target.

mod steps;

use super::driver::{Driver, EVENTS_MAX, Event};
use super::error::{FetchError, Phase};
use super::exchange::{Exchange, Stage, Verdict};
use super::limits::{FetcherLimits, MemoryUse};
use super::poll::Epoll;
use super::pool::BodyPool;
use super::request::FetchRequest;
use super::response::{Head, ResponseError};
use super::wake::LoopWaker;
use super::{BodySink, Now};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// What the system calls of one turn of an exchange count as, in bytes worked on.
const TURN_BYTES: usize = 2 << 10;

/// One target's connection and scrape.
#[derive(Debug)]
struct Entry<C> {
    connection: Option<C>,
    /// Counts connections; with the id it is the token of their events.
    epoch: u32,
    /// In the queue of those with something to do.
    queued: bool,
    /// In the stack of those that became idle.
    in_idle: bool,
    /// The address connected to, or to be tried first.
    address: Option<SocketAddr>,
    exchange: Option<Box<Exchange>>,
}

/// The scrape client of one shard.
#[derive(Debug)]
pub struct Fetcher<D: Driver = Epoll> {
    driver: D,
    limits: FetcherLimits,
    entries: Vec<Entry<D::Connection>>,
    /// Ids with something to do; each once.
    ready: VecDeque<u32>,
    /// Ids whose response has to wait for a slot; may hold ids that wait no more.
    parked: VecDeque<u32>,
    slots_used: usize,
    in_flight: usize,
    /// Steps that will be followed by others soon.
    activity: u64,
    connections: usize,
    pool: BodyPool,
    events: Vec<Event>,
    /// Scratch: the head being read, the request being sent.
    head: Head,
    request: Vec<u8>,
    /// Ids whose connection became idle, the latest on top; may hold ids of others by now.
    idle: Vec<u32>,
}

/// How far one turn of an exchange came.
enum Turn {
    /// It waits for an event.
    Wait,
    /// It has more to do.
    Again,
    /// The response has ended.
    Ended { keep_alive: bool },
}

impl Fetcher<Epoll> {
    /// A fetcher on an epoll fd of its own.
    ///
    /// # Errors
    /// The system gave no epoll fd.
    pub fn new(limits: FetcherLimits) -> io::Result<Fetcher<Epoll>> {
        Ok(Fetcher::with_driver(Epoll::new()?, limits))
    }

    /// Readable when [`Fetcher::poll`] has something to do (beside what its last call left).
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.driver.as_fd()
    }
}

impl<D: Driver> Fetcher<D> {
    /// A fetcher on a driver without connections.
    pub fn with_driver(driver: D, limits: FetcherLimits) -> Fetcher<D> {
        Fetcher {
            driver,
            limits,
            entries: Vec::new(),
            ready: VecDeque::new(),
            parked: VecDeque::new(),
            slots_used: 0,
            in_flight: 0,
            activity: 0,
            connections: 0,
            pool: BodyPool::new(limits),
            events: Vec::new(),
            head: Head::default(),
            request: Vec::new(),
            idle: Vec::new(),
        }
    }

    /// Starts to fetch `request` for `id` (small numbers: they index a slab) from the first of
    /// `addresses` that answers. May end at once, within this call. What it sends goes out with the
    /// next [`Fetcher::poll`] or [`Fetcher::wait`] at the latest: a driver may batch it.
    ///
    /// # Panics
    /// BUG: a fetch of `id` is in flight.
    pub fn start<S: BodySink>(
        &mut self,
        id: u32,
        request: Arc<FetchRequest>,
        addresses: Arc<[SocketAddr]>,
        now: Now,
        sink: &mut S,
    ) {
        let index = id as usize;
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, || Entry {
                connection: None,
                epoch: 0,
                queued: false,
                in_idle: false,
                address: None,
                exchange: None,
            });
        }
        let entry = &mut self.entries[index];
        assert!(
            entry.exchange.is_none(),
            "BUG: a fetch of this id is in flight"
        );
        self.in_flight += 1;
        if addresses.is_empty() {
            self.in_flight -= 1;
            let host = request.host().to_owned();
            let reason = "no such host".to_owned();
            return sink.done(id, Err(FetchError::Resolve { host, reason }));
        }
        let known = |address: SocketAddr| {
            let position = addresses.iter().position(|a| *a == address);
            position.filter(|_| request.allows(address.ip()))
        };
        let first_address = entry.address.and_then(known);
        let mut exchange = Box::new(Exchange::new(request, addresses, now));
        exchange.first_address = first_address.unwrap_or(0);
        if first_address.is_some() && entry.connection.is_some() {
            exchange.reused = true;
            exchange.stage = Stage::Sending(0);
        } else {
            self.close(id);
        }
        self.run(id, exchange, now, sink);
    }

    /// Does what can be done now: reads events and drives exchanges, up to the limit per call.
    /// True: there is more to do at once.
    ///
    /// # Errors
    /// The driver's event queue failed; the shard can't go on.
    pub fn poll<S: BodySink>(&mut self, now: Now, sink: &mut S) -> io::Result<bool> {
        self.pool.budget = self.limits.poll_bytes_max;
        self.pool.trim(now.monotonic_ns);
        loop {
            let mut events = std::mem::take(&mut self.events);
            events.clear();
            let result = self.driver.events(&mut events);
            for event in &events {
                self.notice(*event);
            }
            let full = events.len() == EVENTS_MAX;
            self.events = events;
            result?;
            while self.pool.budget > 0
                && let Some(id) = self.ready.pop_front()
            {
                let entry = &mut self.entries[id as usize];
                entry.queued = false;
                if let Some(exchange) = entry.exchange.take() {
                    self.pool.budget = self.pool.budget.saturating_sub(TURN_BYTES);
                    self.run(id, exchange, now, sink);
                }
            }
            let more = full || !self.ready.is_empty();
            if !more || self.pool.budget == 0 {
                self.driver.flush()?;
                return Ok(more);
            }
        }
    }

    /// Ends the fetch of `id`, if one is in flight, because its time is up.
    pub fn timeout<S: BodySink>(&mut self, id: u32, sink: &mut S) {
        let Some(entry) = self.entries.get_mut(id as usize) else {
            return;
        };
        let Some(exchange) = entry.exchange.take() else {
            return;
        };
        if exchange.stage == Stage::Connecting {
            // The next scrape begins with the next address.
            let next = (exchange.first_address + exchange.tried + 1) % exchange.addresses.len();
            entry.address = Some(exchange.addresses[next]);
        }
        let error = FetchError::Timeout(exchange.phase());
        self.end(id, exchange, false);
        sink.done(id, Err(error));
    }

    /// Closes the connection of `id` and drops what is in flight, without a word to the sink: the
    /// target is gone.
    pub fn forget(&mut self, id: u32) {
        let Some(entry) = self.entries.get_mut(id as usize) else {
            return;
        };
        entry.address = None;
        match entry.exchange.take() {
            Some(exchange) => self.end(id, exchange, false),
            None => self.close(id),
        }
    }

    /// The resolver's answer to [`BodySink::need_address`] for `host`. Too late, it is ignored.
    pub fn resolved<S: BodySink>(
        &mut self,
        id: u32,
        host: &str,
        result: Result<Vec<SocketAddr>, String>,
        now: Now,
        sink: &mut S,
    ) {
        let Some(entry) = self.entries.get_mut(id as usize) else {
            return;
        };
        let waits = |exchange: &Exchange| {
            let name = exchange.request.host();
            let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
            exchange.stage == Stage::Resolving && name == host
        };
        let Some(mut exchange) = entry.exchange.take_if(|exchange| waits(exchange)) else {
            return;
        };
        let reason = match result {
            Ok(addresses) if !addresses.is_empty() => {
                steps::set_addresses(&mut exchange, addresses.into());
                return self.run(id, exchange, now, sink);
            }
            Ok(_) => "no such host".to_owned(),
            Err(reason) => reason,
        };
        self.end(id, exchange, false);
        let host = host.to_owned();
        sink.done(id, Err(FetchError::Resolve { host, reason }));
    }

    /// Fetches in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Grows with every step of a connection being made, and with every part of a response that is
    /// not its last: there is more to do soon, mostly within a round trip. A request that waits for
    /// its connection makes the scrape longer than it need be.
    pub fn activity(&self) -> u64 {
        self.activity
    }

    /// Waits until [`Fetcher::waker`] wakes, until `timeout` (`None`: for ever) or, if
    /// `wake_on_readable`, until [`Fetcher::poll`] has something to do, beside what its last call
    /// left. Without `wake_on_readable` bytes may arrive and wait for the next poll. May end early.
    ///
    /// # Errors
    /// The system can't wait; the shard can't go on.
    pub fn wait(&mut self, timeout: Option<Duration>, wake_on_readable: bool) -> io::Result<()> {
        self.driver.wait(timeout, wake_on_readable)
    }

    /// Ends the present or the next [`Fetcher::wait`], from any thread.
    pub fn waker(&self) -> Arc<LoopWaker> {
        self.driver.waker()
    }

    /// What the fetch of `id` is doing; `None`: none is in flight.
    pub fn phase(&self, id: u32) -> Option<Phase> {
        let exchange = self.entries.get(id as usize)?.exchange.as_ref()?;
        Some(exchange.phase())
    }

    /// Connections open or being made, idle ones included.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// What it holds in memory, in a few additions.
    pub fn memory_use(&self) -> MemoryUse {
        let bodies = self.pool.memory_use();
        let queues = self.ready.capacity() + self.parked.capacity() + self.idle.capacity();
        MemoryUse {
            connections_bytes: self.entries.capacity() * size_of::<Entry<D::Connection>>()
                + self.in_flight * size_of::<Exchange>()
                + queues * size_of::<u32>(),
            bodies_bytes: bodies.bodies_bytes,
            pooled_bytes: bodies.pooled_bytes + self.driver.memory_bytes(),
        }
    }

    #[cfg(test)]
    pub(super) fn driver_mut(&mut self) -> &mut D {
        &mut self.driver
    }

    /// Whether all that fetches take for a time has been given back.
    #[cfg(test)]
    pub(super) fn holds_nothing(&self) -> bool {
        let bodies_bytes = self.pool.memory_use().bodies_bytes;
        (self.in_flight, self.slots_used, bodies_bytes) == (0, 0, 0)
    }

    /// Notes an event of a connection.
    fn notice(&mut self, event: Event) {
        let id = event.token as u32;
        let Some(entry) = self.entries.get_mut(id as usize) else {
            return;
        };
        if entry.epoch != (event.token >> 32) as u32 {
            return;
        }
        let Some(connection) = &mut entry.connection else {
            return;
        };
        match &mut entry.exchange {
            Some(exchange) => {
                exchange.peer_closed |= event.closed;
                self.enqueue(id);
            }
            // An idle connection: ended by the server, or bytes that nobody asked for.
            None if event.closed || (event.readable && !self.driver.is_quiet(connection)) => {
                self.close(id);
            }
            None => {}
        }
    }

    fn enqueue(&mut self, id: u32) {
        let entry = &mut self.entries[id as usize];
        if !entry.queued {
            entry.queued = true;
            self.ready.push_back(id);
        }
    }

    /// Drives an exchange, taken out of its entry, as far as it goes now.
    fn run<S: BodySink>(&mut self, id: u32, mut exchange: Box<Exchange>, now: Now, sink: &mut S) {
        loop {
            let wire_bytes = exchange.wire_bytes;
            let error = match self.advance(id, &mut exchange, sink) {
                Ok(Turn::Ended { keep_alive }) => match exchange.take_verdict() {
                    None => {
                        let stats = exchange.stats(now);
                        self.end(id, exchange, keep_alive);
                        return sink.done(id, Ok(stats));
                    }
                    Some(Verdict::Fail(error)) => {
                        self.end(id, exchange, keep_alive);
                        return sink.done(id, Err(error));
                    }
                    Some(Verdict::Redirect(hop)) => {
                        self.redirect(id, &mut exchange, hop, keep_alive, sink);
                        continue;
                    }
                },
                Ok(turn) => {
                    let has_received = exchange.wire_bytes > wire_bytes;
                    let is_connecting = exchange.stage == Stage::Connecting;
                    self.activity += u64::from(is_connecting || has_received);
                    let pending_bytes = exchange.pending.len();
                    self.pool
                        .count_pending(&mut exchange.pending_counted, pending_bytes);
                    self.entries[id as usize].exchange = Some(exchange);
                    if matches!(turn, Turn::Again) {
                        self.enqueue(id);
                    }
                    return;
                }
                Err(error) => error,
            };
            // A server may close a kept connection at any time, also while a request is under way
            // to it: that is no failure of the target, once.
            if exchange.reused && !exchange.retried && !exchange.has_response() && is_lost(&error) {
                self.close(id);
                exchange.expect_response(&mut self.pool);
                exchange.reused = false;
                exchange.retried = true;
                exchange.tried = 0;
                exchange.stage = Stage::Connecting;
                continue;
            }
            self.end(id, exchange, false);
            return sink.done(id, Err(error));
        }
    }

    /// An exchange is over: what it holds is given back, its connection kept or closed.
    fn end(&mut self, id: u32, mut exchange: Box<Exchange>, keep_alive: bool) {
        exchange.release(&mut self.pool);
        self.release_slot(&mut exchange);
        self.in_flight -= 1;
        let entry = &mut self.entries[id as usize];
        if !keep_alive {
            self.close(id);
        } else if !std::mem::replace(&mut entry.in_idle, true) {
            self.idle.push(id);
        }
    }

    fn release_slot(&mut self, exchange: &mut Exchange) {
        if !std::mem::take(&mut exchange.has_slot) {
            return;
        }
        self.slots_used -= 1;
        while let Some(id) = self.parked.pop_front() {
            let waits = self.entries[id as usize].exchange.as_mut();
            if let Some(next) = waits.filter(|next| next.queued_for_slot) {
                next.queued_for_slot = false;
                self.enqueue(id);
                return;
            }
        }
    }

    fn close(&mut self, id: u32) {
        if let Some(connection) = self.entries[id as usize].connection.take() {
            self.connections -= 1;
            self.driver.close(connection);
        }
    }
}

/// Whether the error is what a connection given up by the server looks like.
fn is_lost(error: &FetchError) -> bool {
    match error {
        FetchError::Connection { errno, .. } => {
            matches!(*errno, libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED)
        }
        FetchError::Response { error, .. } => *error == ResponseError::NoResponse,
        _ => false,
    }
}
