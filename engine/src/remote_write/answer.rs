//! The answer to a request -> what becomes of its batch: done, again, in parts, or given up.
//!
//! A refused batch is halved to find what is refused, within a budget of 64 requests and 30 s, and
//! a number of requests a second for the endpoint; what the budget leaves is sent once more and
//! dropped if it is refused. Series found are remembered for a while and tried apart from the rest
//! of the next refused batch, so that one bad series costs three requests a batch and not thirty.
//!
//! What may have arrived already (an attempt before ended without an answer, or a former run of the
//! process may have sent it) is refused as out of order if it had. Then a batch is cut between
//! records (units), without a budget, and a refused unit counts as sent again: others in the same
//! request may not have arrived.

use super::batch::{Piece, Unit};
use super::offer::Verdict;
use super::queue::{Notice, Now, ShardQueue};
use super::retry::{Action, CONFIG_FAULT_PAUSE_MS, SendResult, decide, is_out_of_order};
use super::stats::DropCause;
use super::window::{Isolation, RequestId, State};
use super::wire::labels_text;
use xxhash_rust::xxh3::xxh3_64;

/// Requests that the search in one batch may take.
const ISOLATION_REQUESTS_MAX: u32 = 64;
/// Time that the search in one batch may take.
const ISOLATION_MS_MAX: u64 = 30_000;
/// How long a refused series is remembered.
const SUSPECT_MS: u64 = 10 * 60_000;
/// Refused series remembered; at the bound all are forgotten.
const SUSPECTS_MAX: usize = 4_096;
/// How long nothing more is said of a receiver that does not answer.
const RETRYING_QUIET_MS: u64 = 60_000;
/// How long nothing more is said of a receiver that has not written all.
const UNWRITTEN_QUIET_MS: u64 = 10 * 60_000;
/// Bytes of a series or an answer shown in a notice.
const SHOWN_BYTES_MAX: usize = 300;

impl ShardQueue {
    /// Takes the answer to a request. An unknown id is ignored.
    pub fn on_result(&mut self, id: RequestId, result: &SendResult, elapsed_us: u64, now: Now) {
        let class = match result {
            SendResult::Status { code, .. } => usize::from(code / 100).min(5),
            _ => 0,
        };
        if let Some((_, families)) = self.metadata_in_flight.filter(|(have, _)| *have == id) {
            self.stats.requests[class] += 1;
            self.metadata_in_flight = None;
            match class {
                2 => self.stats.metadata_sent += u64::from(families),
                _ => self.stats.metadata_failed += u64::from(families),
            }
            return;
        }
        let Some(sequence) = self.window.find(id) else {
            return;
        };
        self.stats.requests[class] += 1;
        self.stats.latency.record(elapsed_us);
        let batch = self.window.get_mut(sequence);
        batch.state = State::Due(now.monotonic_ms);
        match self.offer.answered(batch.pieces[0].form, result) {
            Verdict::Content => {}
            Verdict::OtherCompression => return,
            Verdict::OtherMessage => {
                // A success without a word of what was written may be one.
                batch.pieces[0].may_have_arrived |= class == 2;
                if !std::mem::replace(&mut self.fell_back, true) {
                    self.notice(Notice::FellBack {
                        answer: answer_text(result),
                    });
                }
                return;
            }
        }
        match decide(result, self.endpoint.queue.retry_on_http_429) {
            Action::Done => {
                self.acknowledged(sequence, DropCause::NotWritten, result, now);
                if self.retrying_until_ms.take().is_some() {
                    self.notice(Notice::Recovered);
                }
            }
            Action::PartlyStored => {
                self.stats.requests_partly_stored += 1;
                self.acknowledged(sequence, DropCause::Refused, result, now);
            }
            Action::Retry { retry_after_ms } => {
                let batch = self.window.get_mut(sequence);
                batch.attempt += 1;
                // A rate limit is checked before anything is stored; all else may be a late answer.
                batch.pieces[0].may_have_arrived |=
                    !matches!(result, SendResult::Status { code: 429, .. });
                let pause_ms = batch.backoff.pause_ms(retry_after_ms);
                batch.state = State::Due(now.monotonic_ms + pause_ms);
                if retry_after_ms.is_some() {
                    self.pause(now.monotonic_ms + pause_ms);
                }
                if self
                    .retrying_until_ms
                    .is_none_or(|quiet_ms| now.monotonic_ms >= quiet_ms)
                {
                    self.retrying_until_ms = Some(now.monotonic_ms + RETRYING_QUIET_MS);
                    self.notice(Notice::Retrying {
                        answer: answer_text(result),
                    });
                }
            }
            Action::ConfigFault => {
                let due_ms = now.monotonic_ms + CONFIG_FAULT_PAUSE_MS;
                let batch = self.window.get_mut(sequence);
                batch.attempt += 1;
                batch.state = State::Due(due_ms);
                self.pause(due_ms);
                self.stats.config_faults += 1;
                if let SendResult::Status { code, reason, .. } = result {
                    self.notice(Notice::ConfigFault {
                        code: *code,
                        reason: shown(reason),
                    });
                }
            }
            Action::TooLarge => self.too_large(sequence, result),
            Action::OutOfOrder => self.out_of_order(sequence, result, now),
            Action::Refused => self.refused(sequence, result, now),
            Action::RateLimited => {
                self.give_up(sequence, DropCause::RateLimited, result);
            }
        }
    }

    /// If the next request of this batch belongs to a search that has to wait its turn: until when.
    pub(super) fn isolation_wait(&mut self, sequence: u64, now: Now) -> Option<u64> {
        let spent = self.isolation_is_spent(sequence, now);
        let batch = self.window.get_mut(sequence);
        let isolation = batch.isolation.as_mut()?;
        // A retry of the same piece has had its turn.
        if spent || batch.attempt > 0 {
            return None;
        }
        if self.isolation_tokens < 1.0 {
            return Some(now.monotonic_ms + 100);
        }
        self.isolation_tokens -= 1.0;
        isolation.requests += 1;
        None
    }

    /// Gives up all that is left of a batch.
    pub(super) fn drop_batch(&mut self, sequence: u64, cause: DropCause) {
        let batch = self.window.get_mut(sequence);
        let samples: u64 = batch
            .pieces
            .drain(..)
            .map(|piece| u64::from(piece.series))
            .sum();
        self.stats.drop_samples(cause, samples);
        self.window.finish(sequence);
    }

    fn pause(&mut self, until_ms: u64) {
        self.paused_until_ms = self.paused_until_ms.max(until_ms);
    }

    fn isolation_is_spent(&self, sequence: u64, now: Now) -> bool {
        let isolation = self.window.get(sequence).isolation;
        isolation.is_some_and(|isolation| {
            isolation.requests >= ISOLATION_REQUESTS_MAX || now.monotonic_ms > isolation.until_ms
        })
    }

    /// Ends the first piece: the receiver has it, or as much of it as it says. For `cause` it has
    /// not the rest.
    fn acknowledged(&mut self, sequence: u64, cause: DropCause, result: &SendResult, now: Now) {
        let newest = self.window.get(sequence).timestamp_ms_newest;
        let piece = self.take_piece(sequence);
        let written = match result {
            SendResult::Status {
                written: Some(written),
                ..
            } => written.of(piece.series),
            _ => piece.series,
        };
        self.stats.samples_sent += u64::from(written);
        let highest = &mut self.stats.timestamp_ms_highest_sent;
        *highest = (*highest).max(newest);
        let rest = piece.series - written;
        if rest > 0 && self.has_arrived_before(&piece, result) {
            self.stats.samples_resent += u64::from(rest);
        } else if rest > 0 {
            self.stats.drop_samples(cause, rest.into());
            if now.monotonic_ms >= self.unwritten_quiet_until_ms {
                self.unwritten_quiet_until_ms = now.monotonic_ms + UNWRITTEN_QUIET_MS;
                self.notice(Notice::NotWritten {
                    samples: rest,
                    of: piece.series,
                    answer: answer_text(result),
                });
            }
        }
        self.end_piece(sequence);
    }

    /// Whether samples of the piece are refused because they were sent before.
    fn has_arrived_before(&self, piece: &Piece, result: &SendResult) -> bool {
        let SendResult::Status { reason, .. } = result else {
            return false;
        };
        let before = |unit: &Unit| unit.position < self.resend_end;
        is_out_of_order(reason) && (piece.may_have_arrived || piece.units.iter().any(before))
    }

    fn take_piece(&mut self, sequence: u64) -> Piece {
        let batch = self.window.get_mut(sequence);
        batch.attempt = 0;
        batch.backoff.reset();
        batch
            .pieces
            .pop_front()
            .expect("BUG: an empty batch is active")
    }

    fn end_piece(&mut self, sequence: u64) {
        if self.window.get(sequence).pieces.is_empty() {
            self.window.finish(sequence);
        }
    }

    /// Puts the parts of the first piece in its place, in this order.
    fn put_parts(&mut self, sequence: u64, parts: [Option<Piece>; 2]) {
        let pieces = &mut self.window.get_mut(sequence).pieces;
        for part in parts.into_iter().rev().flatten() {
            pieces.push_front(part);
        }
    }

    /// Counts the first piece as given up and names one of its series.
    fn give_up(&mut self, sequence: u64, cause: DropCause, result: &SendResult) {
        let piece = self.take_piece(sequence);
        self.stats.drop_samples(cause, piece.series.into());
        let series = labels_text(&piece.first_labels(), SHOWN_BYTES_MAX);
        self.notice(Notice::Dropped {
            cause,
            samples: piece.series,
            series,
            answer: answer_text(result),
        });
        self.end_piece(sequence);
    }

    fn too_large(&mut self, sequence: u64, result: &SendResult) {
        let series = self.window.get(sequence).pieces[0].series;
        if series == 1 {
            self.give_up(sequence, DropCause::TooLarge, result);
            return;
        }
        if series / 2 < self.samples_per_send {
            self.samples_per_send = (self.samples_per_send.min(series) / 2).max(1);
            self.stats.batch_halvings += 1;
        }
        let piece = self.take_piece(sequence);
        let parts = piece.halve(&mut self.compressor);
        self.put_parts(sequence, parts);
    }

    fn out_of_order(&mut self, sequence: u64, result: &SendResult, now: Now) {
        let piece = &self.window.get(sequence).pieces[0];
        let may_have_arrived = |position| piece.may_have_arrived || position < self.resend_end;
        if !piece
            .units
            .iter()
            .any(|unit| may_have_arrived(unit.position))
        {
            self.refused(sequence, result, now);
        } else if piece.units.len() > 1 {
            let piece = self.take_piece(sequence);
            let parts = piece.halve_between_units(&mut self.compressor);
            self.put_parts(sequence, parts);
        } else {
            let piece = self.take_piece(sequence);
            self.stats.samples_resent += u64::from(piece.series);
            self.end_piece(sequence);
        }
    }

    fn refused(&mut self, sequence: u64, result: &SendResult, now: Now) {
        let spent = self.isolation_is_spent(sequence, now);
        let batch = self.window.get_mut(sequence);
        let piece = &batch.pieces[0];
        if piece.series == 1 {
            let hash = xxh3_64(&piece.first_labels());
            if self.suspects.len() >= SUSPECTS_MAX {
                self.suspects.clear();
            }
            self.suspects.insert(hash, now.monotonic_ms + SUSPECT_MS);
            self.give_up(sequence, DropCause::Refused, result);
            return;
        }
        if spent {
            self.give_up(sequence, DropCause::BudgetSpent, result);
            return;
        }
        let isolation = batch.isolation.get_or_insert(Isolation {
            requests: 0,
            until_ms: now.monotonic_ms + ISOLATION_MS_MAX,
            suspects_tried: false,
        });
        let try_suspects = !std::mem::replace(&mut isolation.suspects_tried, true);
        self.suspects
            .retain(|_, until_ms| *until_ms > now.monotonic_ms);
        let piece = self.take_piece(sequence);
        if try_suspects && !self.suspects.is_empty() {
            let suspects = &self.suspects;
            let parts = piece.split(&mut self.compressor, |_, labels| {
                !suspects.contains_key(&xxh3_64(labels))
            });
            if parts.iter().all(Option::is_some) {
                self.put_parts(sequence, parts);
                return;
            }
        }
        let parts = piece.halve(&mut self.compressor);
        self.put_parts(sequence, parts);
    }
}

/// How a request ended, for a log.
fn answer_text(result: &SendResult) -> String {
    match result {
        SendResult::Status { code, reason, .. } => {
            format!("{code}: {}", shown(reason)).trim_end().to_owned()
        }
        SendResult::TimedOut => "no answer in time".to_owned(),
        SendResult::Failed(error) => shown(error),
    }
}

/// The beginning of a text, one line, for a log.
fn shown(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SHOWN_BYTES_MAX)
        .collect::<String>()
        .trim()
        .to_owned()
}
