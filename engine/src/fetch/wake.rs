//! Wake-ups from other threads -> the end of a driver's wait.
//!
//! **Runs on**: the waiting half on the shard; [`LoopWaker::end_wait`] on any thread. Wake-ups
//! between two waits cost one system call together, and none is lost: whatever was published before
//! a wake-up is seen after the wait that it ends.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;
use std::time::Duration;

/// Ends the wait of one driver. `Waker::from(Arc<LoopWaker>)` makes it a task's waker.
#[derive(Debug)]
pub struct LoopWaker {
    event: OwnedFd,
    /// A wake-up is in the eventfd, or about to be.
    rung: AtomicBool,
}

impl LoopWaker {
    /// A waker that has not been used.
    ///
    /// # Errors
    /// eventfd(2) failed: too many open files, or no memory.
    pub(super) fn new() -> io::Result<Arc<LoopWaker>> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Arc::new(LoopWaker {
            // SAFETY: the fd was just made and is owned by nobody else.
            event: unsafe { OwnedFd::from_raw_fd(fd) },
            rung: AtomicBool::new(false),
        }))
    }

    /// Ends the present wait, or the next one if there is none.
    pub fn end_wait(&self) {
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        let one = 1_u64;
        // Fails only when the counter is full: then it is readable, which is all that matters.
        // SAFETY: eight bytes are read from `one`, which lives through the call.
        unsafe { libc::write(self.event.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Waits until woken, until `timeout` (nothing: for ever), or, if `also` is given, until that
    /// is readable.
    ///
    /// # Errors
    /// ppoll(2) failed: no memory.
    pub(super) fn wait(
        &self,
        timeout: Option<Duration>,
        also: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let poll = |fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        // A negative descriptor is passed over.
        let also = also.map_or(-1, |fd| fd.as_raw_fd());
        let mut polled = [poll(self.event.as_raw_fd()), poll(also)];
        let timeout = timeout.map(|timeout| libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let timeout = timeout
            .as_ref()
            .map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: two pollfds, the count given, and a timespec or null live through the call; no
        // signal mask is given.
        let count = unsafe { libc::ppoll(polled.as_mut_ptr(), 2, timeout, std::ptr::null()) };
        if count < 0 {
            let error = io::Error::last_os_error();
            // A signal ends the wait: whoever sent it may mean the caller.
            return match error.kind() {
                io::ErrorKind::Interrupted => Ok(()),
                _ => Err(error),
            };
        }
        if polled[0].revents != 0 {
            self.clear();
        }
        Ok(())
    }

    /// Takes a wake-up, if there is one.
    pub(super) fn clear_if_rung(&self) -> bool {
        let is_rung = self.rung.load(Ordering::Acquire);
        if is_rung {
            self.clear();
        }
        is_rung
    }

    /// Readable when woken.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Takes the wake-up. The eventfd first: a wake-up in between is part of this one, while in
    /// the other order its token would be taken and the flag stay set for ever.
    fn clear(&self) {
        let mut count = 0_u64;
        // SAFETY: eight bytes are written to `count`, which lives through the call.
        unsafe { libc::read(self.event.as_raw_fd(), (&raw mut count).cast(), 8) };
        self.rung.swap(false, Ordering::AcqRel);
    }
}

impl Wake for LoopWaker {
    fn wake(self: Arc<Self>) {
        self.end_wait();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.end_wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::time::Instant;

    /// What a test that works never waits for.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn waits(waker: &LoopWaker) -> bool {
        const SHORT: Duration = Duration::from_micros(300);
        let begin = Instant::now();
        waker.wait(Some(SHORT), None).unwrap();
        begin.elapsed() >= SHORT
    }

    #[test]
    fn one_wait_takes_all_wake_ups_before_it() {
        let waker = LoopWaker::new().unwrap();
        assert!(waits(&waker));
        for _ in 0..3 {
            waker.end_wait();
            std::task::Waker::from(Arc::clone(&waker)).wake_by_ref();
            waker.wait(None, None).unwrap();
            assert!(waits(&waker));
        }
    }

    #[test]
    fn another_descriptor_ends_a_wait_only_if_given() {
        let waker = LoopWaker::new().unwrap();
        let other = LoopWaker::new().unwrap();
        other.end_wait();
        waker.wait(None, Some(other.event.as_fd())).unwrap();
        assert!(waits(&waker));
    }

    #[test]
    fn what_was_published_before_a_wake_up_is_seen_after_it() {
        const ROUNDS: u64 = 20_000;
        let waker = LoopWaker::new().unwrap();
        let (published, seen) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=ROUNDS {
                    published.store(round, Ordering::Relaxed);
                    waker.end_wait();
                    // Sometimes in lockstep with the waiter, sometimes ahead of it.
                    while round % 3 == 0 && seen.load(Ordering::Relaxed) < round {
                        std::thread::yield_now();
                    }
                }
            });
            while seen.load(Ordering::Relaxed) < ROUNDS {
                let begin = Instant::now();
                waker.wait(Some(PATIENCE), None).unwrap();
                assert!(begin.elapsed() < PATIENCE, "a wake-up was lost");
                seen.store(published.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        });
    }
}
