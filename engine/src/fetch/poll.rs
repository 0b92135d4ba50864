//! One edge-triggered epoll fd per shard, non-blocking sockets -> the fetcher's [`Driver`].
//!
//! Runs on: shard. No call waits. Every socket is registered once, when it is made, for its whole
//! life; the kernel's arrival time of received bytes is asked for (`SO_TIMESTAMPNS`), because the
//! shard reads them up to a tick later.

use super::driver::{Driver, EVENTS_MAX, Event, OpenError, Received};
use socket2::{SockAddr, Socket};
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Size of the shared receive buffer, in bytes.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Free bytes before received ones, for a part of a line that came before.
const HEADROOM_BYTES: usize = 8 * 1024;
/// Room for the control messages of one recvmsg: one timespec; in u64 for its alignment.
const CONTROL_WORDS: usize = 8;

/// The epoll driver.
#[derive(Debug)]
pub struct Epoll {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
    buffer: Box<[u8]>,
}

impl Epoll {
    /// A driver with no connections.
    ///
    /// # Errors
    /// epoll_create1(2) failed: too many open files, or no memory.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: no pointers are passed.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        Ok(Epoll {
            // SAFETY: the fd was just made and is owned by nobody else.
            epoll: unsafe { OwnedFd::from_raw_fd(fd) },
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX],
            buffer: vec![0; HEADROOM_BYTES + RECEIVE_BYTES].into(),
        })
    }

    fn open(&self, token: u64, address: SocketAddr) -> Result<Socket, OpenError> {
        let family = match address {
            SocketAddr::V4(_) => libc::AF_INET,
            SocketAddr::V6(_) => libc::AF_INET6,
        };
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers are passed.
        let fd = check(unsafe { libc::socket(family, kind, 0) }).map_err(socket_error)?;
        // SAFETY: the fd was just made and is owned by nobody else.
        let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(fd) });
        socket.set_tcp_nodelay(true).map_err(socket_error)?;
        enable_timestamps(&socket).map_err(socket_error)?;
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
        let mut byte = [0_u8; 1];
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        // SAFETY: the buffer is one byte long and lives through the call.
        let result = unsafe {
            libc::recv(
                connection.as_raw_fd(),
                byte.as_mut_ptr().cast(),
                byte.len(),
                flags,
            )
        };
        result < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
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
}

/// Asks the kernel to note when bytes arrive.
fn enable_timestamps(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is a c_int of the length given.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            mem::size_of::<libc::c_int>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Receives into `room`; the length, and the arrival time of the last byte in ns since the epoch.
fn receive_with_time(fd: i32, room: &mut [u8]) -> io::Result<(usize, Option<i64>)> {
    let mut control = [0_u64; CONTROL_WORDS];
    let mut part = libc::iovec {
        iov_base: room.as_mut_ptr().cast(),
        iov_len: room.len(),
    };
    // SAFETY: msghdr is plain data, for which all zeros is valid.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(&control) as _;
    // SAFETY: `message` points to one iovec over `room` and to `control`, with their lengths; all
    // three live through the call.
    let len = unsafe { libc::recvmsg(fd, &mut message, libc::MSG_DONTWAIT) };
    if len < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut arrival = None;
    // SAFETY: the kernel has set `msg_controllen` to what it wrote into `control`, which is
    // aligned for cmsghdr; the CMSG functions stay within that length.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&message);
        while !header.is_null() {
            let kind = ((*header).cmsg_level, (*header).cmsg_type);
            if kind == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
                let time: libc::timespec = libc::CMSG_DATA(header)
                    .cast::<libc::timespec>()
                    .read_unaligned();
                arrival = time.tv_sec.checked_mul(1_000_000_000);
                arrival = arrival.and_then(|ns| ns.checked_add(time.tv_nsec));
            }
            header = libc::CMSG_NXTHDR(&message, header);
        }
    }
    Ok((len as usize, arrival))
}

/// Calls again while a signal interrupts.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    match result {
        0.. => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

fn socket_error(error: io::Error) -> OpenError {
    OpenError::Socket(errno(&error))
}
