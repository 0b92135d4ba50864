//! What is due when -> how long the shard sleeps, and what ends its sleep.

use super::{JOIN_MS, RECOVERY_POLL_MS, SLEEP_MS_MAX, Shard, TICK_MS, TICK_MS_MAX};
use crate::clock;
use crate::mailbox::ToShard;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

impl Shard {
    /// Sleeps until the next thing is due, a message or an answer comes, or the next tick.
    pub(super) async fn wait(&mut self, more: bool, send_at_ms: u64) -> Result<(), String> {
        let write_at = self.driver.poll(Instant::now());
        if self.driver.is_busy() || self.restoring.get() || self.former.borrow().is_working() {
            // The other tasks get their turn, and the executor takes what its rings have done. It
            // never sleeps in its rings, as this task is always ready when it looks: besides being
            // dear, such a sleep of glommio 0.9 was seen not to end, under load, with a timer set.
            glommio::executor().yield_task_queue_now().await;
            self.busy_ms = (self.busy_ms * 2).clamp(1, TICK_MS);
        } else {
            self.busy_ms = 0;
        }
        let now_us = clock::monotonic_us();
        let now_ms = now_us / 1_000;
        self.turn_at_ms = now_ms;
        self.notice_standstill(now_ms, self.turn_began_ms);
        if more || send_at_ms <= now_ms || self.message.is_some() {
            return Ok(());
        }
        let write_in = write_at.map(|at| at.saturating_duration_since(Instant::now()));
        let write_at_ms = write_in.map_or(u64::MAX, |time| {
            now_ms + time.as_micros().div_ceil(1_000) as u64
        });
        let until_ms = self.wake_at_ms(now_ms, send_at_ms.min(write_at_ms));
        if until_ms > now_ms && !self.poll_sources() {
            self.turn_at_ms = until_ms;
            let sleep_us = (until_ms * 1_000).saturating_sub(now_us);
            self.sleep(Duration::from_micros(sleep_us))?;
        }
        Ok(())
    }

    /// If it is that much later than it should be, others may have taken the targets.
    pub(super) fn notice_standstill(&mut self, now_ms: u64, expected_ms: u64) {
        let late_ms = now_ms.saturating_sub(expected_ms);
        if self.options.standstill_ms > 0 && late_ms > self.options.standstill_ms {
            self.scrapes.stand_still();
        }
    }

    /// Stops the thread, not only this task; what arrives from targets does not end it.
    pub(super) fn sleep(&mut self, time: Duration) -> Result<(), String> {
        self.fetcher
            .wait(Some(time), false)
            .map_err(|error| format!("cannot wait: {error}"))
    }

    /// Whether there is a message, or an answer that is waited for; what comes later ends the next
    /// sleep.
    fn poll_sources(&mut self) -> bool {
        let mut context = Context::from_waker(&self.waker);
        if let Poll::Ready(received) = self.messages.poll_recv(&mut context) {
            // A closed mailbox: the control loop is gone, and with it the process.
            self.message = Some(received.unwrap_or(ToShard::Stop { deadline_ms: 0 }));
        }
        self.sending.poll_answers(&mut context).is_ready() || self.message.is_some()
    }

    /// When to go on, with something that can wait a little at `soft_ms`.
    fn wake_at_ms(&mut self, now_ms: u64, soft_ms: u64) -> u64 {
        let stopping = self.stop_deadline_ms.is_some();
        let mut until_ms = now_ms + SLEEP_MS_MAX;
        if let Some(due_ms) = self.scrapes.wheel.next_deadline()
            && !stopping
        {
            until_ms = until_ms.min(due_ms);
        }
        let joins = until_ms <= now_ms + JOIN_MS;
        if !joins || until_ms > soft_ms.saturating_add(JOIN_MS) {
            until_ms = until_ms.min(soft_ms);
        }
        if self.fetcher.in_flight() > 0 && !joins {
            until_ms = until_ms.min(now_ms + self.tick_ms);
            self.tick_ms = (self.tick_ms * 2).min(TICK_MS_MAX);
        }
        if self.links.is_some() || self.scrapes.names.has_questions() {
            until_ms = until_ms.min(now_ms + RECOVERY_POLL_MS);
        }
        if self.busy_ms > 0 {
            until_ms = until_ms.min(now_ms + self.busy_ms);
        }
        let is_urgent = now_ms < self.urgent_until_ms || self.scrapes.moves.is_waiting();
        if stopping || is_urgent {
            until_ms = until_ms.min(now_ms + TICK_MS);
        }
        until_ms
    }
}
