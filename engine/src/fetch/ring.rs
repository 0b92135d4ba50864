//! One io_uring per shard -> the fetcher's [`Driver`].
//!
//! Runs on: shard, made and used in one thread. Requests and connects are queued and go to the
//! kernel together; every connection has one receive operation for its whole life, which takes a
//! buffer only when bytes are there. Where the buffers run short (responses that wait for their
//! turn hold them), a connection is read with recvmsg(2), as under epoll, until there are some.
//!
//! **Ownership**: what the kernel may write to or read from belongs to the driver, not to a
//! connection: a closed one leaves its slot behind until the kernel has answered all of its
//! operations, and the driver's end waits for all of them.

mod buffers;
mod completions;
mod slot;

use super::driver::{Driver, Event, OpenError, Received};
use super::socket::{is_quiet, open, receive_with_time, retry, socket_error};
use super::wake::LoopWaker;
use buffers::{BUFFERS, Buffers, GROUP};
use completions::Operation;
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use slab::Slab;
use slot::{Armed, Chunk, Connecting, Slot};
use socket2::SockAddr;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

/// Operations queued between two submissions; more are submitted early.
const QUEUED_MAX: u32 = 512;
/// Completions that may wait; the kernel keeps more elsewhere, at a cost.
const COMPLETIONS_MAX: u32 = 4096;
/// Size of the buffer for reading without the ring, in bytes.
const DIRECT_BYTES: usize = 64 * 1024;
/// Free bytes before the ones read without the ring, for a part of a line that came before.
const HEADROOM_BYTES: usize = 8 * 1024;
/// How long the driver's end waits for operations to be cancelled.
const CANCEL_TIMEOUT_NS: u32 = 500_000_000;

/// The io_uring driver.
pub struct Uring {
    ring: IoUring,
    buffers: Buffers,
    /// What the receive operations are told: room for the time of arrival. The kernel may read
    /// it as long as one of them lives.
    message: Box<libc::msghdr>,
    slots: Slab<Slot>,
    /// What each filled buffer holds, and which one follows it on the same connection.
    chunks: Box<[Chunk]>,
    /// Filled buffer that is with the caller.
    lent: Option<u16>,
    direct: Box<[u8]>,
    send_buffers: Vec<Vec<u8>>,
    /// Counts submissions, to know which operations are queued still.
    submissions: u64,
    waker: Arc<LoopWaker>,
    waker_armed: bool,
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring")
            .field("connections", &self.slots.len())
            .field("buffers_free", &self.buffers.free())
            .finish_non_exhaustive()
    }
}

/// A connection of this driver: its slot.
#[derive(Debug)]
pub struct RingConnection(u32);

impl Uring {
    /// A driver with no connections, to be used by this thread only.
    ///
    /// # Errors
    /// The kernel has no io_uring that can do this (Linux 6.1 can), or does not allow it here.
    pub fn new() -> io::Result<Uring> {
        let ring = IoUring::builder()
            .setup_cqsize(COMPLETIONS_MAX)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .build(QUEUED_MAX)?;
        if !ring.params().is_feature_nodrop() || !ring.params().is_feature_ext_arg() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let waker = LoopWaker::new()?;
        let buffers = Buffers::register(&ring)?;
        // SAFETY: msghdr is plain data, for which all zeros is valid.
        let mut message: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        message.msg_controllen = slot::CONTROL_BYTES as _;
        Ok(Uring {
            ring,
            buffers,
            message,
            slots: Slab::new(),
            chunks: vec![Chunk::default(); usize::from(BUFFERS)].into(),
            lent: None,
            direct: vec![0; HEADROOM_BYTES + DIRECT_BYTES].into(),
            send_buffers: Vec::new(),
            submissions: 0,
            waker,
            waker_armed: false,
        })
    }

    /// Queues an operation. False: there is no room, whatever is done.
    fn push(&mut self, entry: &squeue::Entry) -> bool {
        for _ in 0..2 {
            // SAFETY: what the operations point to (addresses and bytes in slots, the message)
            // stays where it is until the kernel has answered them.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return true;
            }
            if self.submit().is_err() {
                return false;
            }
        }
        false
    }

    /// Hands what is queued to the kernel.
    fn submit(&mut self) -> io::Result<()> {
        if self.ring.submission().is_empty() {
            return Ok(());
        }
        self.submissions += 1;
        match retry(|| self.ring.submit()) {
            // Completions have to be taken first.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Has the kernel tell what comes on a connection that it watches no more.
    fn arm(&mut self, index: u32) {
        let slot = &self.slots[index as usize];
        let (Some(socket), Armed::No) = (&slot.socket, slot.armed) else {
            return;
        };
        let fd = Fd(socket.as_raw_fd());
        // The kernel refuses to receive without a buffer at hand, even if there is nothing.
        let (entry, armed) = if self.buffers.free() > 0 {
            let message = &raw const *self.message;
            let entry = opcode::RecvMsgMulti::new(fd, message, GROUP).build();
            (
                entry.user_data(Operation::Receive.user_data(index)),
                Armed::Receive,
            )
        } else {
            let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).build();
            (
                entry.user_data(Operation::Poll.user_data(index)),
                Armed::Poll,
            )
        };
        if self.push(&entry) {
            let submissions = self.submissions;
            self.slots[index as usize].note_operation(submissions);
            self.slots[index as usize].armed = armed;
        }
    }

    /// Takes back the buffer that was with the caller.
    fn take_back(&mut self) {
        if let Some(buffer) = self.lent.take() {
            self.buffers.give_back(buffer);
        }
    }

    /// Waits for a completion.
    fn wait_for_completions(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if !self.waker_armed {
            let fd = Fd(self.waker.as_fd().as_raw_fd());
            let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true);
            let entry = entry.build().user_data(Operation::Waker.user_data(0));
            self.waker_armed = self.push(&entry);
        }
        let timeout = timeout.map(Timespec::from);
        let arguments = match &timeout {
            Some(timeout) => SubmitArgs::new().timespec(timeout),
            None => SubmitArgs::new(),
        };
        self.submissions += 1;
        match self.ring.submitter().submit_with_args(1, &arguments) {
            Ok(_) => {}
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY) => {}
                _ => return Err(error),
            },
        }
        self.waker.clear_if_rung();
        Ok(())
    }
}

impl Driver for Uring {
    type Connection = RingConnection;

    fn connect(&mut self, token: u64, address: SocketAddr) -> Result<RingConnection, OpenError> {
        let socket = open(address, 0).map_err(socket_error)?;
        let fd = Fd(socket.as_raw_fd());
        let address = Box::new(SockAddr::from(address));
        let (at, len) = (address.as_ptr(), address.len());
        let index = self.slots.insert(Slot::new(socket, token, address)) as u32;
        let entry = opcode::Connect::new(fd, at.cast(), len).build();
        if !self.push(&entry.user_data(Operation::Connect.user_data(index))) {
            self.slots.remove(index as usize);
            return Err(OpenError::Socket(libc::ENOBUFS));
        }
        let submissions = self.submissions;
        self.slots[index as usize].note_operation(submissions);
        Ok(RingConnection(index))
    }

    fn send(&mut self, connection: &mut RingConnection, bytes: &[u8]) -> io::Result<usize> {
        let index = connection.0;
        let slot = &mut self.slots[index as usize];
        match slot.connecting {
            Connecting::No => {}
            Connecting::Yes => return Err(io::ErrorKind::WouldBlock.into()),
            Connecting::Failed(errno) => return Err(io::Error::from_raw_os_error(errno)),
        }
        if let Some(errno) = slot.error {
            return Err(io::Error::from_raw_os_error(errno));
        }
        if !slot.sending.is_empty() {
            slot.wants_to_send = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let Some(socket) = &slot.socket else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let fd = Fd(socket.as_raw_fd());
        let mut sending = self.send_buffers.pop().unwrap_or_default();
        sending.clear();
        sending.extend_from_slice(bytes);
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let entry = opcode::Send::new(fd, sending.as_ptr(), sending.len() as u32);
        let entry = entry.flags(flags).build();
        if !self.push(&entry.user_data(Operation::Send.user_data(index))) {
            return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
        }
        let submissions = self.submissions;
        let slot = &mut self.slots[index as usize];
        slot.sending = sending;
        slot.note_operation(submissions);
        self.arm(index);
        Ok(bytes.len())
    }

    fn receive(&mut self, connection: &mut RingConnection) -> io::Result<Received<'_>> {
        self.take_back();
        let index = connection.0;
        let slot = &mut self.slots[index as usize];
        if let Some((buffer, chunk)) = slot.pop(&self.chunks) {
            let drained = slot.is_quiet();
            self.lent = Some(buffer);
            if drained {
                // The last of it may end the response: then nobody asks again.
                self.arm(index);
            }
            return Ok(Received {
                buffer: self.buffers.slice(buffer),
                start: chunk.start as usize,
                end: chunk.end as usize,
                arrival_unix_ns: chunk.arrival_unix_ns,
                drained: drained && self.slots[index as usize].armed != Armed::No,
            });
        }
        if slot.ended {
            return Ok(Received {
                buffer: &mut [],
                start: 0,
                end: 0,
                arrival_unix_ns: None,
                drained: false,
            });
        }
        if let Some(errno) = slot.error {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let Some(socket) = slot.socket.as_ref().filter(|_| slot.armed == Armed::No) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let fd = socket.as_raw_fd();
        let room = &mut self.direct[HEADROOM_BYTES..];
        let result = retry(|| receive_with_time(fd, room));
        // Nothing more was there, or that is to be told.
        let drained = match &result {
            Ok((len, _)) => (1..DIRECT_BYTES).contains(len),
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        if drained {
            self.arm(index);
        }
        let (len, arrival_unix_ns) = result?;
        Ok(Received {
            start: HEADROOM_BYTES,
            end: HEADROOM_BYTES + len,
            arrival_unix_ns,
            drained: drained && self.slots[index as usize].armed != Armed::No,
            buffer: &mut self.direct,
        })
    }

    fn is_quiet(&mut self, connection: &mut RingConnection) -> bool {
        let index = connection.0;
        let slot = &self.slots[index as usize];
        if !slot.is_quiet() {
            return false;
        }
        if slot.armed == Armed::No {
            if !slot.socket.as_ref().is_some_and(is_quiet) {
                return false;
            }
            self.arm(index);
        }
        true
    }

    fn close(&mut self, connection: RingConnection) {
        let index = connection.0 as usize;
        // What is queued names the descriptor, which may be another connection's soon; if it can't
        // be submitted, the descriptor stays open until it has been.
        let is_queued = self.slots[index].queued_since(self.submissions)
            && (self.submit().is_err() || !self.ring.submission().is_empty());
        let slot = &mut self.slots[index];
        slot.is_closed = true;
        if let Some(socket) = &slot.socket {
            // Operations keep the file open; this ends them, and tells the peer.
            let _ = socket.shutdown(Shutdown::Both);
        }
        if !is_queued {
            slot.socket = None;
        }
        while let Some((buffer, _)) = slot.pop(&self.chunks) {
            self.buffers.give_back(buffer);
        }
        if slot.operations == 0 {
            self.slots.remove(index);
        }
    }

    fn events(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        self.take_back();
        let (queued, has_work, overflows) = {
            let queue = self.ring.submission();
            (!queue.is_empty(), queue.taskrun(), queue.cq_overflow())
        };
        if queued || has_work || overflows {
            self.submissions += 1;
            match retry(|| self.ring.submit()) {
                Err(error) if error.raw_os_error() != Some(libc::EBUSY) => return Err(error),
                _ => {}
            }
        }
        self.complete(events);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.submit()
    }

    fn wait(&mut self, timeout: Option<Duration>, wake_on_readable: bool) -> io::Result<()> {
        if !wake_on_readable {
            self.submit()?;
            return self.waker.wait(timeout, None);
        }
        match self.waker.clear_if_rung() {
            true => Ok(()),
            false => self.wait_for_completions(timeout),
        }
    }

    fn waker(&self) -> Arc<LoopWaker> {
        Arc::clone(&self.waker)
    }

    fn memory_bytes(&self) -> usize {
        self.buffers.bytes()
            + self.direct.len()
            + self.slots.capacity() * size_of::<Slot>()
            + self.send_buffers.iter().map(Vec::capacity).sum::<usize>()
    }
}

#[cfg(test)]
impl Uring {
    /// Buffers that the kernel can fill, and connections not gone yet.
    pub(super) fn free_buffers_and_slots(&self) -> (u16, usize) {
        (self.buffers.free(), self.slots.len())
    }

    /// All of its buffers.
    pub(super) const BUFFERS: u16 = BUFFERS;
}

impl Drop for Uring {
    fn drop(&mut self) {
        // Connections are closed first, which ends what waits for the peer.
        for (_, slot) in &mut self.slots {
            if let Some(socket) = slot.socket.take() {
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
        let timeout = Timespec::new().nsec(CANCEL_TIMEOUT_NS);
        let cancelled = self
            .ring
            .submitter()
            .register_sync_cancel(Some(timeout), CancelBuilder::any());
        let is_idle = match cancelled {
            Ok(()) => true,
            Err(error) => error.raw_os_error() == Some(libc::ENOENT),
        };
        if is_idle {
            // SAFETY: every operation has ended, and no other is submitted.
            unsafe { self.buffers.unmap() };
        } else {
            // Rather lost than written to by the kernel when they are something else.
            std::mem::forget(std::mem::take(&mut self.slots));
            let message = Box::new(*self.message);
            std::mem::forget(std::mem::replace(&mut self.message, message));
        }
    }
}
