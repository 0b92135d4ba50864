//! The steps of one exchange: connect, send, receive, follow a redirect; each goes as far as it can
//! without waiting.

use super::{Fetcher, Turn};
use crate::fetch::BodySink;
use crate::fetch::driver::{Driver, OpenError};
use crate::fetch::error::FetchError;
use crate::fetch::exchange::{Exchange, Flow, Stage};
use crate::fetch::redirect::{Authority, Hop};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

impl<D: Driver> Fetcher<D> {
    /// One step after another until the exchange has to wait or has ended.
    pub(super) fn advance<S: BodySink>(
        &mut self,
        id: u32,
        exchange: &mut Exchange,
        sink: &mut S,
    ) -> Result<Turn, FetchError> {
        loop {
            match exchange.stage {
                Stage::Resolving => return Ok(Turn::Wait),
                Stage::Connecting if self.entries[id as usize].connection.is_none() => {
                    self.connect(id, exchange)?;
                    return Ok(Turn::Wait);
                }
                Stage::Connecting | Stage::Sending(_) => {
                    if !self.send(id, exchange)? {
                        return Ok(Turn::Wait);
                    }
                }
                Stage::Receiving => return self.receive(id, exchange, sink),
            }
        }
    }

    /// Begins to connect to the next address for which the system does not refuse at once.
    fn connect(&mut self, id: u32, exchange: &mut Exchange) -> Result<(), FetchError> {
        while let Some(address) = exchange.address() {
            if !exchange.request.allows(address.ip()) {
                let error = FetchError::Network { address };
                exchange.connect_error.get_or_insert(error);
                exchange.tried += 1;
                continue;
            }
            let entry = &mut self.entries[id as usize];
            entry.epoch = entry.epoch.wrapping_add(1);
            entry.address = Some(address);
            let token = u64::from(entry.epoch) << 32 | u64::from(id);
            if self.connections >= self.limits.connections_max && !self.close_an_idle_connection() {
                exchange
                    .connect_error
                    .get_or_insert(FetchError::ConnectionsMax(self.connections));
                break;
            }
            let mut result = self.driver.connect(token, address);
            if let Err(OpenError::Socket(libc::EMFILE | libc::ENFILE)) = result
                && self.close_an_idle_connection()
            {
                result = self.driver.connect(token, address);
            }
            let error = match result {
                Ok(connection) => {
                    self.entries[id as usize].connection = Some(connection);
                    self.connections += 1;
                    return Ok(());
                }
                Err(OpenError::Socket(errno)) => FetchError::Socket { address, errno },
                Err(OpenError::Connect(errno)) => FetchError::Connect { address, errno },
            };
            exchange.connect_error.get_or_insert(error);
            exchange.tried += 1;
        }
        let error = exchange.connect_error.take();
        Err(error.expect("BUG: there is at least one address"))
    }

    /// Sends what is left of the request; false: has to wait, true: go on.
    fn send(&mut self, id: u32, exchange: &mut Exchange) -> Result<bool, FetchError> {
        let entry = &mut self.entries[id as usize];
        let Some(connection) = &mut entry.connection else {
            exchange.stage = Stage::Connecting;
            return Ok(true);
        };
        let mut sent = match exchange.stage {
            Stage::Sending(sent) => sent,
            _ => 0,
        };
        exchange.request.write(&mut self.request);
        while sent < self.request.len() {
            match self.driver.send(connection, &self.request[sent..]) {
                Ok(bytes) => {
                    sent += bytes;
                    exchange.stage = Stage::Sending(sent);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if exchange.stage == Stage::Connecting => {
                    let address = exchange.address().or(entry.address);
                    let address = address.expect("BUG: a connection without an address");
                    let errno = errno(&error);
                    let error = FetchError::Connect { address, errno };
                    exchange.connect_error.get_or_insert(error);
                    exchange.tried += 1;
                    exchange.peer_closed = false;
                    self.close(id);
                    return Ok(true);
                }
                Err(error) => return Err(connection_error(entry.address, &error, exchange)),
            }
        }
        exchange.stage = Stage::Receiving;
        Ok(true)
    }

    /// Reads and works on what has arrived.
    fn receive<S: BodySink>(
        &mut self,
        id: u32,
        exchange: &mut Exchange,
        sink: &mut S,
    ) -> Result<Turn, FetchError> {
        if !exchange.has_slot {
            if self.slots_used >= self.limits.responses_max {
                if !exchange.queued_for_slot {
                    exchange.queued_for_slot = true;
                    self.parked.push_back(id);
                }
                return Ok(Turn::Wait);
            }
            exchange.has_slot = true;
            exchange.queued_for_slot = false;
            self.slots_used += 1;
        }
        loop {
            let mut pending = std::mem::take(&mut exchange.pending);
            let is_pending = !pending.is_empty() || exchange.is_finishing;
            let entry = &mut self.entries[id as usize];
            let Some(connection) = &mut entry.connection else {
                return Ok(Turn::Wait);
            };
            let (buffer, range, drained) = if !is_pending {
                let received = match self.driver.receive(connection) {
                    Ok(received) => received,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if !exchange.has_response() {
                            self.release_slot(exchange);
                        }
                        return Ok(Turn::Wait);
                    }
                    Err(error) => return Err(connection_error(entry.address, &error, exchange)),
                };
                if received.start == received.end {
                    return Ok(match exchange.closed(id, &mut self.pool, sink)? {
                        Flow::Ended { keep_alive } => Turn::Ended { keep_alive },
                        _ => Turn::Again,
                    });
                }
                exchange.note_received(received.end - received.start, received.arrival_unix_ns);
                let drained = received.drained && !exchange.peer_closed;
                (received.buffer, received.start..received.end, drained)
            } else {
                let end = pending.len();
                (&mut pending[..], 0..end, false)
            };
            let (pool, head) = (&mut self.pool, &mut self.head);
            match exchange.receive(id, buffer, range.clone(), pool, head, sink)? {
                Flow::Ended { keep_alive } => {
                    self.pool.give_buffer(pending);
                    return Ok(Turn::Ended { keep_alive });
                }
                Flow::Finishing => {
                    self.pool.give_buffer(pending);
                    return Ok(Turn::Again);
                }
                Flow::Paused(from) if !is_pending => {
                    exchange.pending = self.pool.take_buffer();
                    exchange.pending.extend_from_slice(&buffer[from..range.end]);
                    return Ok(Turn::Again);
                }
                Flow::Paused(from) => {
                    pending.drain(..from);
                    exchange.pending = pending;
                    return Ok(Turn::Again);
                }
                Flow::NeedMore => self.pool.give_buffer(pending),
            }
            if drained {
                return Ok(Turn::Wait);
            }
            if self.pool.budget == 0 {
                return Ok(Turn::Again);
            }
        }
    }

    /// Makes the exchange ready for a redirect's next hop.
    pub(super) fn redirect<S: BodySink>(
        &mut self,
        id: u32,
        exchange: &mut Exchange,
        hop: Hop,
        keep_alive: bool,
        sink: &mut S,
    ) {
        exchange.expect_response(&mut self.pool);
        self.release_slot(exchange);
        exchange.request = hop.request;
        exchange.requests += 1;
        exchange.retried = false;
        exchange.reused = keep_alive && hop.authority == Authority::Same;
        if exchange.reused {
            exchange.stage = Stage::Sending(0);
            return;
        }
        self.close(id);
        exchange.stage = Stage::Connecting;
        match hop.authority {
            Authority::Same => exchange.tried = 0,
            Authority::Address(address) => set_addresses(exchange, Arc::new([address])),
            Authority::Name(name, port) => {
                exchange.stage = Stage::Resolving;
                sink.need_address(id, &name, port);
            }
        }
    }

    /// Out of descriptors: an idle connection makes room. The one idle for the shortest time,
    /// roughly: with targets scraped in turn, its next use is the farthest away.
    fn close_an_idle_connection(&mut self) -> bool {
        while let Some(id) = self.idle.pop() {
            let entry = &mut self.entries[id as usize];
            entry.in_idle = false;
            if entry.exchange.is_none() && entry.connection.is_some() {
                self.close(id);
                return true;
            }
        }
        false
    }
}

pub(super) fn set_addresses(exchange: &mut Exchange, addresses: Arc<[SocketAddr]>) {
    exchange.addresses = addresses;
    exchange.first_address = 0;
    exchange.tried = 0;
    exchange.connect_error = None;
    exchange.stage = Stage::Connecting;
}

fn connection_error(
    address: Option<SocketAddr>,
    error: &io::Error,
    exchange: &Exchange,
) -> FetchError {
    FetchError::Connection {
        address: address.expect("BUG: a connection without an address"),
        errno: errno(error),
        phase: exchange.phase(),
    }
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
