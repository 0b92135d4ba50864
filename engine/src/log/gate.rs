//! Something has become due -> one task of the same thread goes on: a flag that can be awaited.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// A gate that lets one waiting task pass each time it is opened.
#[derive(Debug, Default)]
pub(super) struct Gate {
    open: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Gate {
    /// Lets the task pass: the one that waits, or the next one that comes.
    pub(super) fn open(&self) {
        self.open.set(true);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Opened, and not passed yet.
    pub(super) fn is_open(&self) -> bool {
        self.open.get()
    }

    /// Waits until it is open and closes it.
    pub(super) async fn passed(&self) {
        poll_fn(|context| {
            if self.open.take() {
                return Poll::Ready(());
            }
            self.waiting.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
