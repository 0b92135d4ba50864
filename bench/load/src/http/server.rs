//! Listeners and a handler -> answered requests, until told to stop. One thread, no locks.
//!
//! Connections wait without a buffer. Waking up costs more than a small request, so when requests
//! come closer together than `coalesce`, the loop sleeps that long before it looks again; arrival
//! times are the kernel's and do not suffer.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::TcpListener;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::connection::{Connection, Sent, State};
pub(crate) use super::connection::{Manner, Reply};
use super::request::{Parsed, Request, parse};
use crate::error::Error;
use crate::sys::{self, Epoll, Event, HUNG_UP, READABLE, WRITABLE};

/// What a server does with its requests.
pub(crate) trait Handler {
    /// Whether a new connection is taken; else it is closed at once.
    fn accepts(&mut self) -> bool;
    /// Answers one request.
    fn answer(&mut self, request: &Request<'_>) -> Reply;
    /// The reply with this token is with the kernel as a whole.
    fn completed(&mut self, token: u64);
}

/// Bounds and timing of one server.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) body_bytes_max: usize,
    /// Pause between looks at the sockets while requests come closer than this; 0 for none.
    pub(crate) coalesce: Duration,
}

/// Listeners have tokens below this, connections from it on.
const LISTENERS_MAX: u64 = 1 << 16;
const POLL_MS: i32 = 50;
const READ_BYTES: usize = 256 * 1024;

/// Wall clock in ns since the Unix epoch.
pub(crate) fn wall_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

/// Serves until `stop()` is true, which is asked at least every 50 ms.
///
/// # Errors
/// Only when epoll itself fails; a failing connection is closed.
pub(crate) fn serve<H: Handler>(
    listeners: Vec<TcpListener>,
    handler: &mut H,
    settings: Settings,
    stop: &dyn Fn() -> bool,
) -> Result<(), Error> {
    let epoll = Epoll::new().map_err(Error::io("create an epoll instance"))?;
    for (index, listener) in listeners.iter().enumerate() {
        listener
            .set_nonblocking(true)
            .map_err(Error::io("make a listener non-blocking"))?;
        // Without it arrival times are those of reading: less exact, still right.
        let _ = sys::stamp_arrivals(listener);
        epoll
            .add(listener, READABLE, index as u64)
            .map_err(Error::io("watch a listener"))?;
    }
    let mut server = Server {
        epoll,
        listeners,
        handler,
        settings,
        connections: Vec::new(),
        free: Vec::new(),
        generation: 0,
        timers: BinaryHeap::new(),
        scratch: vec![0; READ_BYTES],
        full: false,
    };
    server.run(stop)
}

struct Server<'h, H> {
    epoll: Epoll,
    listeners: Vec<TcpListener>,
    handler: &'h mut H,
    settings: Settings,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    generation: u32,
    /// When, slot, generation.
    timers: BinaryHeap<Reverse<(Instant, usize, u32)>>,
    scratch: Vec<u8>,
    /// Whether the limit of open files was hit and said.
    full: bool,
}

impl<H: Handler> Server<'_, H> {
    fn run(&mut self, stop: &dyn Fn() -> bool) -> Result<(), Error> {
        let mut events = vec![Event { events: 0, u64: 0 }; 1024];
        // Mean time between events, as an exponential average over some 20 of them.
        let mut gap = Duration::from_secs(1);
        let mut last = Instant::now();
        while !stop() {
            if gap < self.settings.coalesce {
                std::thread::sleep(self.settings.coalesce);
            }
            let count = self
                .epoll
                .wait(&mut events, self.timeout_ms())
                .map_err(Error::io("wait for sockets"))?;
            for event in &events[..count] {
                let (ready, token) = (event.events, event.u64);
                if token < LISTENERS_MAX {
                    self.accept(token as usize);
                } else {
                    self.ready((token - LISTENERS_MAX) as usize, ready);
                }
            }
            self.fire();
            let now = Instant::now();
            if count > 0 {
                gap = (gap * 19 + (now - last) / count as u32) / 20;
                last = now;
            } else if now - last > gap {
                gap = (gap * 19 + (now - last)) / 20;
            }
        }
        Ok(())
    }

    fn timeout_ms(&self) -> i32 {
        let Some(Reverse((at, ..))) = self.timers.peek() else {
            return POLL_MS;
        };
        let wait = at.saturating_duration_since(Instant::now());
        (wait.as_micros().div_ceil(1000) as i32).min(POLL_MS)
    }

    fn fire(&mut self) {
        while let Some(Reverse((at, slot, generation))) = self.timers.peek().copied() {
            if at > Instant::now() {
                return;
            }
            self.timers.pop();
            let Some(connection) = self.connections[slot].as_mut() else {
                continue;
            };
            if connection.generation != generation {
                continue;
            }
            match std::mem::replace(&mut connection.state, State::Reading) {
                State::Held(reply, sent) => self.send(slot, reply, sent),
                other => connection.state = other,
            }
        }
    }

    fn accept(&mut self, listener: usize) {
        loop {
            let stream = match self.listeners[listener].accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    if !self.full {
                        self.full = true;
                        tracing::error!(%error, "cannot accept a connection; it stays in the backlog");
                    }
                    // Level triggered: without a pause this would spin until a descriptor is free.
                    std::thread::sleep(Duration::from_millis(10));
                    return;
                }
            };
            if !self.handler.accepts() || stream.set_nonblocking(true).is_err() {
                continue;
            }
            let _ = stream.set_nodelay(true);
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            if self
                .epoll
                .add(&stream, READABLE, slot as u64 + LISTENERS_MAX)
                .is_err()
            {
                self.free.push(slot);
                continue;
            }
            self.generation = self.generation.wrapping_add(1);
            self.connections[slot] = Some(Connection {
                stream,
                input: Vec::new(),
                wanted: 0,
                state: State::Reading,
                interest: READABLE,
                generation: self.generation,
            });
        }
    }

    fn close(&mut self, slot: usize) {
        if let Some(connection) = self.connections[slot].take() {
            // Events of this one must not be taken for those of the slot's next user.
            let _ = self.epoll.remove(&connection.stream);
            self.free.push(slot);
        }
    }

    fn ready(&mut self, slot: usize, ready: u32) {
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        match std::mem::replace(&mut connection.state, State::Reading) {
            State::Reading => self.read(slot),
            State::Writing(reply, sent) => self.send(slot, reply, sent),
            // The peer gave up waiting: the reply will never arrive, so it must not count.
            State::Held(..) if ready & HUNG_UP != 0 => self.close(slot),
            held => connection.state = held,
        }
    }

    fn read(&mut self, slot: usize) {
        loop {
            let Some(connection) = self.connections[slot].as_mut() else {
                return;
            };
            let (length, stamp) = match sys::receive(&connection.stream, &mut self.scratch) {
                Ok((0, _)) => return self.close(slot),
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.close(slot),
            };
            let arrival_ns = stamp.unwrap_or_else(wall_ns);
            let whole = length < self.scratch.len();
            if connection.input.is_empty() {
                // The usual case: one read, one request, nothing copied.
                let scratch = std::mem::take(&mut self.scratch);
                self.take(slot, &scratch[..length], arrival_ns);
                self.scratch = scratch;
            } else {
                connection.input.extend_from_slice(&self.scratch[..length]);
                if connection.input.len() >= connection.wanted {
                    let input = std::mem::take(&mut connection.input);
                    self.take(slot, &input, arrival_ns);
                }
            }
            let reading = matches!(
                self.connections[slot]
                    .as_ref()
                    .map(|connection| &connection.state),
                Some(State::Reading)
            );
            if whole || !reading {
                return;
            }
        }
    }

    /// Answers the first request in `bytes` and keeps what follows.
    fn take(&mut self, slot: usize, bytes: &[u8], arrival_ns: u64) {
        let mut reply;
        let rest = match parse(bytes, self.settings.body_bytes_max, arrival_ns) {
            Parsed::Complete(request, used) => {
                let close = request.headers.close;
                reply = self.handler.answer(&request);
                reply.close |= close;
                &bytes[used..]
            }
            Parsed::Partial(wanted) => {
                let Some(connection) = self.connections[slot].as_mut() else {
                    return;
                };
                connection.wanted = wanted;
                connection.input.reserve_exact(wanted.max(bytes.len()));
                connection.input.extend_from_slice(bytes);
                return;
            }
            Parsed::Bad(status) => {
                reply = Reply::new(status, "text/plain", status.as_bytes());
                reply.close = true;
                &[]
            }
        };
        let Some(connection) = self.connections[slot].as_mut() else {
            return;
        };
        connection.wanted = 0;
        if !rest.is_empty() {
            connection.input = rest.to_vec();
        }
        match reply.manner {
            Manner::Late(pause) => self.hold(slot, reply, 0, Instant::now() + pause),
            _ => self.send(slot, reply, 0),
        }
    }

    fn hold(&mut self, slot: usize, reply: Reply, sent: usize, until: Instant) {
        let Some(connection) = self.connections[slot].as_mut() else {
            return;
        };
        connection.state = State::Held(reply, sent);
        self.timers
            .push(Reverse((until, slot, connection.generation)));
        self.interest(slot, HUNG_UP);
    }

    fn interest(&mut self, slot: usize, interest: u32) {
        let Some(connection) = self.connections[slot].as_mut() else {
            return;
        };
        if connection.interest == interest {
            return;
        }
        connection.interest = interest;
        let token = slot as u64 + LISTENERS_MAX;
        if self
            .epoll
            .change(&connection.stream, interest, token)
            .is_err()
        {
            self.close(slot);
        }
    }

    fn send(&mut self, slot: usize, reply: Reply, sent: usize) {
        let Some(connection) = self.connections[slot].as_mut() else {
            return;
        };
        match connection.send(&reply, sent) {
            Sent::Part(sent) => {
                connection.state = State::Writing(reply, sent);
                self.interest(slot, WRITABLE);
            }
            Sent::Pause(sent, until) => self.hold(slot, reply, sent, until),
            Sent::Over => self.close(slot),
            Sent::Whole => {
                self.handler.completed(reply.token);
                if reply.close {
                    return self.close(slot);
                }
                self.interest(slot, READABLE);
                self.next(slot);
            }
        }
    }

    /// Goes on with a request that arrived behind the one just answered.
    fn next(&mut self, slot: usize) {
        let Some(connection) = self.connections[slot].as_mut() else {
            return;
        };
        connection.state = State::Reading;
        if !connection.input.is_empty() {
            let input = std::mem::take(&mut connection.input);
            self.take(slot, &input, wall_ns());
        }
    }
}
