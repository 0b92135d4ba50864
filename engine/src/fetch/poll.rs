//! One edge-triggered epoll fd per shard, non-blocking sockets -> the fetcher's [`Driver`].
//!
//! Runs on: shard. No call waits but `wait`. Every socket is registered once, when it is made, for
//! its whole life; the kernel's arrival time of received bytes is asked for (`SO_TIMESTAMPNS`),
//! because the shard reads them up to a tick later.

use super::driver::{Driver, EVENTS_MAX, Event, OpenError, Received};
use super::socket::{check, errno, is_quiet, open, receive_with_time, retry, socket_error};
use super::wake::LoopWaker;
use socket2::{SockAddr, Socket};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Size of the shared receive buffer, in bytes.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Free bytes before received ones, for a part of a line that came before.
const HEADROOM_BYTES: usize = 8 * 1024;

/// The epoll driver.
#[derive(Debug)]
pub struct Epoll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
    buffer: Box<[u8]>,
    waker: Arc<LoopWaker>,
}

impl Epoll {
    /// A driver with no connections.
    ///
    /// # Errors
    /// epoll_create1(2) or eventfd(2) failed: too many open files, or no memory.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: no pointers are passed.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        Ok(Epoll {
            // SAFETY: the fd was just made and is owned by nobody else.
            epoll: unsafe { OwnedFd::from_raw_fd(fd) },
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX],
            buffer: vec![0; HEADROOM_BYTES + RECEIVE_BYTES].into(),
            waker: LoopWaker::new()?,
        })
    }

    fn open(&self, token: u64, address: SocketAddr) -> Result<Socket, OpenError> {
        let socket = open(address, libc::SOCK_NONBLOCK).map_err(socket_error)?;
        match socket.connect(&SockAddr::from(address)) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => {
                return Err(OpenError::Connect(errno(&error)));
            }
            _ => {}
        }
        // After connect: a socket that has not begun to connect counts as hung up.
        let flags = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        let mut event = libc::epoll_event {
            events: flags as u32,
            u64: token,
        };
        let (epoll, fd) = (self.epoll.as_raw_fd(), socket.as_raw_fd());
        // SAFETY: `event` lives through the call; both fds are open.
        check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) })
            .map_err(socket_error)?;
        Ok(socket)
    }
}

impl AsFd for Epoll {
    /// Readable when there are events: to be watched by the shard's loop.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Driver for Epoll {
    type Connection = Socket;

    fn connect(&mut self, token: u64, address: SocketAddr) -> Result<Socket, OpenError> {
        self.open(token, address)
    }

    fn send(&mut self, connection: &mut Socket, bytes: &[u8]) -> io::Result<usize> {
        // socket2 sends with MSG_NOSIGNAL on Linux only if told to.
        retry(|| connection.send_with_flags(bytes, libc::MSG_NOSIGNAL))
    }

    fn receive(&mut self, connection: &mut Socket) -> io::Result<Received<'_>> {
        let fd = connection.as_raw_fd();
        let room = &mut self.buffer[HEADROOM_BYTES..];
        let (len, arrival_unix_ns) = retry(|| receive_with_time(fd, room))?;
        Ok(Received {
            start: HEADROOM_BYTES,
            end: HEADROOM_BYTES + len,
            arrival_unix_ns,
            // epoll(7): on a stream a short read means that the buffer is empty. What a FIN
            // behind it means, its own event says.
            drained: len < RECEIVE_BYTES,
            buffer: &mut self.buffer,
        })
    }

    fn is_quiet(&mut self, connection: &mut Socket) -> bool {
        is_quiet(connection)
    }

    fn close(&mut self, connection: Socket) {
        // Its last descriptor: the kernel takes it out of the epoll set.
        drop(connection);
    }

    fn events(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let room = &mut self.events;
        let fd = self.epoll.as_raw_fd();
        let count = retry(|| {
            // SAFETY: `room` is `EVENTS_MAX` events long, which is the count given.
            check(unsafe { libc::epoll_wait(fd, room.as_mut_ptr(), EVENTS_MAX as i32, 0) })
        })?;
        events.extend(self.events[..count as usize].iter().map(|event| {
            let flags = event.events as i32;
            Event {
                token: event.u64,
                closed: flags & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) != 0,
                readable: flags & libc::EPOLLIN != 0,
            }
        }));
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>, wake_on_readable: bool) -> io::Result<()> {
        // Not in the epoll set: arriving bytes must be able to leave a sleeping shard alone.
        let sockets = wake_on_readable.then(|| self.epoll.as_fd());
        self.waker.wait(timeout, sockets)
    }

    fn waker(&self) -> Arc<LoopWaker> {
        Arc::clone(&self.waker)
    }

    fn memory_bytes(&self) -> usize {
        self.buffer.len() + size_of_val(&self.events[..])
    }
}
