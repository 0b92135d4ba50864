//! The system calls that the standard library has no safe form of, each wrapped once.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

/// An epoll instance; level triggered.
pub(crate) struct Epoll(OwnedFd);

/// Reading is possible or the peer has closed.
pub(crate) const READABLE: u32 = libc::EPOLLIN as u32 | libc::EPOLLRDHUP as u32;
/// Writing is possible.
pub(crate) const WRITABLE: u32 = libc::EPOLLOUT as u32;
/// The peer has closed its sending side or the connection is gone.
pub(crate) const HUNG_UP: u32 =
    libc::EPOLLRDHUP as u32 | libc::EPOLLHUP as u32 | libc::EPOLLERR as u32;

/// Which events are ready on which token.
pub(crate) type Event = libc::epoll_event;

impl Epoll {
    pub(crate) fn new() -> io::Result<Epoll> {
        // SAFETY: no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above returned a new descriptor that nobody else owns.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(crate) fn add(&self, fd: &impl AsRawFd, interest: u32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, interest, token)
    }

    pub(crate) fn change(&self, fd: &impl AsRawFd, interest: u32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, interest, token)
    }

    /// Needed before closing where a child of this process may be starting: between its fork and
    /// its exec it holds a copy of the descriptor, and events of a closed one go on coming.
    pub(crate) fn remove(&self, fd: &impl AsRawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    fn control(&self, op: i32, fd: &impl AsRawFd, events: u32, token: u64) -> io::Result<()> {
        let mut event = Event { events, u64: token };
        // SAFETY: `event` is valid for the call; the kernel copies it.
        let result =
            unsafe { libc::epoll_ctl(self.0.as_raw_fd(), op, fd.as_raw_fd(), &raw mut event) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Waits for at most `timeout_ms` and returns how many of `events` are filled; 0 on a signal.
    pub(crate) fn wait(&self, events: &mut [Event], timeout_ms: i32) -> io::Result<usize> {
        // SAFETY: the pointer and the length describe one valid slice.
        let count = unsafe {
            libc::epoll_wait(
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                events.len() as i32,
                timeout_ms,
            )
        };
        if count >= 0 {
            return Ok(count as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() == io::ErrorKind::Interrupted {
            Ok(0)
        } else {
            Err(error)
        }
    }
}

/// Asks the kernel to stamp what arrives on connections accepted from this listener.
pub(crate) fn stamp_arrivals(listener: &impl AsRawFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer and the size describe `on`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Receives into `buffer`; the second value is the kernel's arrival time in ns since the Unix epoch
/// where it gives one.
pub(crate) fn receive(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<(usize, Option<u64>)> {
    // Aligned for cmsghdr; large enough for one timestamp.
    let mut control = [0u64; 16];
    let mut parts = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut parts;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: `message` points to one valid buffer and one valid control area, both outlive the
    // call.
    let length = unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut message, 0) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has filled `message`; the macros stay inside its control area.
    let stamp = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SO_TIMESTAMPNS
        {
            let time: libc::timespec = std::ptr::read_unaligned(libc::CMSG_DATA(header).cast());
            Some(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
        } else {
            None
        }
    };
    Ok((length as usize, stamp))
}

/// Raises the soft limit of open files to the hard one and returns it.
pub(crate) fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is valid for both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return 1024;
        }
        let before = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0 {
            limit.rlim_max
        } else {
            before
        }
    }
}

/// Raises the limit of open files and refuses a run that would need more.
///
/// # Errors
/// `Invalid` naming both numbers and the remedy.
pub(crate) fn need_open_files(needed: u64, what: &str) -> Result<(), Error> {
    let limit = raise_open_files();
    if needed <= limit {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "{what} needs {needed} open files, but the hard limit of this process is {limit}: raise it \
         (`ulimit -Hn {needed}` as root, LimitNOFILE= in a unit) or ask for fewer targets"
    )))
}

static SIGNALLED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_signal(_: libc::c_int) {
    SIGNALLED.store(true, Ordering::Relaxed);
}

/// From now on SIGINT and SIGTERM make [`signalled`] true instead of ending the process.
pub(crate) fn catch_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let handler: extern "C" fn(libc::c_int) = note_signal;
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// Whether SIGINT or SIGTERM has come since [`catch_signals`].
pub(crate) fn signalled() -> bool {
    SIGNALLED.load(Ordering::Relaxed)
}

/// Keeps the calling thread, and threads and processes that it starts from now on, on one core.
pub(crate) fn pin_thread(core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: all-zero is an empty set; `core` is inside of it.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        set
    };
    // SAFETY: the pointer and the size describe `set`.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Makes a command start its program on one core.
pub(crate) fn pin_child(command: &mut std::process::Command, core: usize) {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(move || pin_thread(core)) };
}

/// Sends `signal` to a process that this one has started.
pub(crate) fn send_signal(pid: u32, signal: i32) {
    // SAFETY: no pointers; a process that is gone yields an error that does not matter.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// Clock ticks per second, the unit of CPU times in `/proc/PID/stat`.
pub(crate) fn ticks_per_second() -> f64 {
    // SAFETY: no pointers.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    if ticks > 0 { ticks as f64 } else { 100.0 }
}

/// CPU seconds (user and system) that the calling thread has used.
pub(crate) fn thread_cpu_seconds() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is valid for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
