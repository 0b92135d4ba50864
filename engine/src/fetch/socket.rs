//! What both drivers do with a socket: open it, read from it together with the time of arrival.

use super::driver::OpenError;
use socket2::Socket;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Room for the control messages of one recvmsg: one timespec; in u64 for its alignment.
pub(super) const CONTROL_WORDS: usize = 8;

/// A TCP socket for `address`, with `flags` of socket(2), that notes when bytes arrive.
pub(super) fn open(address: SocketAddr, flags: libc::c_int) -> io::Result<Socket> {
    let family = match address {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags;
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: the fd was just made and is owned by nobody else.
    let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(fd) });
    socket.set_tcp_nodelay(true)?;
    enable_timestamps(&socket)?;
    Ok(socket)
}

/// Whether neither data nor an end waits.
pub(super) fn is_quiet(socket: &Socket) -> bool {
    let mut byte = [0_u8; 1];
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the buffer is one byte long and lives through the call.
    let result = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            byte.as_mut_ptr().cast(),
            byte.len(),
            flags,
        )
    };
    result < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
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
pub(super) fn receive_with_time(fd: i32, room: &mut [u8]) -> io::Result<(usize, Option<i64>)> {
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
pub(super) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

pub(super) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    match result {
        0.. => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

pub(super) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

pub(super) fn socket_error(error: io::Error) -> OpenError {
    OpenError::Socket(errno(&error))
}
