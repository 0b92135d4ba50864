//! Caps on bytes and age -> how near they are, and what they delete.

use super::ShardLog;
use crate::caps::CapUse;
use crate::segments::{Deletion, DeletionCause};

impl ShardLog {
    /// How near each endpoint is to losing samples to the caps on bytes and age; nothing without
    /// caps.
    pub fn cap_uses(&self, now_ms: i64) -> Vec<CapUse> {
        let (bytes_max, age_ms_max) = (
            self.options.retention_bytes_max,
            self.options.retention_age_ms_max,
        );
        let mut uses = Vec::new();
        if bytes_max.is_none() && age_ms_max.is_none() {
            return uses;
        }
        for cursor in self.cursors.holding() {
            let (bytes, oldest_ms) = self.segments.held(cursor.low_water);
            let mut add = |cause, ratio| {
                uses.push(CapUse {
                    endpoint: cursor.endpoint.clone(),
                    cause,
                    ratio,
                });
            };
            if let Some(max) = bytes_max {
                add(
                    DeletionCause::RetentionBytes,
                    bytes as f64 / max.max(1) as f64,
                );
            }
            if let Some(max) = age_ms_max {
                let age_ms = oldest_ms.map_or(0, |ms| now_ms.saturating_sub(ms).max(0));
                add(
                    DeletionCause::RetentionAge,
                    age_ms as f64 / max.max(1) as f64,
                );
            }
        }
        uses
    }

    /// Closed segments beyond the caps on bytes and age, acknowledged or not. Report what was lost
    /// by `count_lost`.
    pub fn retention(&mut self, now_ms: i64) -> Vec<Deletion> {
        let oldest_ms = self
            .options
            .retention_age_ms_max
            .map(|age| now_ms.saturating_sub(age));
        let deletions = self.segments.retain(
            self.options.retention_bytes_max,
            oldest_ms,
            self.low_water,
            self.tail.start(),
        );
        for deletion in &deletions {
            match deletion.cause {
                DeletionCause::RetentionBytes => self.stats.segments_dropped_bytes += 1,
                DeletionCause::RetentionAge => self.stats.segments_dropped_age += 1,
                DeletionCause::Acknowledged => {}
            }
        }
        deletions
    }

    /// Counts the samples that a deletion took from some endpoint.
    pub fn count_lost(&mut self, cause: DeletionCause, samples: u64) {
        match cause {
            DeletionCause::RetentionBytes => self.stats.samples_dropped_bytes += samples,
            DeletionCause::RetentionAge => self.stats.samples_dropped_age += samples,
            DeletionCause::Acknowledged => {}
        }
    }
}
