//! Figures of the control plane and of all shards -> the text of `/metrics`.

use super::cluster_figures::{self, ClusterFigures};
use super::jobs::{JobFigures, Jobs};
use super::store_figures;
use crate::clock;
use crate::discovery::Discovery;
use crate::metrics::table::{self, Metric};
use crate::metrics::{Exposition, Latency, ProcessFigures, ShardFigures};
use crate::server::FiguresNow;
use crate::service::store::StoreFigures;
use ringscrape_wal::error::DamageKind;
use ringscrape_wal::segments::DeletionCause;
use ringscrape_wal::stats::LogStats;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// What the control loop itself counts.
#[derive(Debug)]
pub(super) struct ControlFigures {
    shard_count: usize,
    started_ms: i64,
    reload_ok: bool,
    reload_ok_ms: i64,
    too_many_targets_said: u64,
}

/// The control plane's figures at one moment.
#[derive(Debug)]
pub(super) struct ControlSnapshot {
    shard_count: usize,
    pub(super) started_ms: i64,
    reload_ok: bool,
    reload_ok_ms: i64,
    pub(super) jobs: Vec<JobFigures>,
    sd_file_errors: u64,
    sd_http_failures: u64,
    /// Targets that their next owners did not get what was known of.
    pub(super) handovers_failed: u64,
    /// Stored configurations created, updated and deleted through the API.
    pub(super) config_changes: [u64; 3],
    /// `None`: there is no scraping service.
    pub(super) store: Option<StoreFigures>,
    pub(super) web: FiguresNow,
    /// `None`: there is no cluster.
    pub(super) cluster: Option<Box<ClusterFigures>>,
}

impl ControlFigures {
    pub(super) fn new(shard_count: usize) -> Self {
        let now_ms = clock::now_ms();
        Self {
            shard_count,
            started_ms: now_ms,
            reload_ok: true,
            reload_ok_ms: now_ms,
            too_many_targets_said: 0,
        }
    }

    pub(super) fn reloaded(&mut self, ok: bool) {
        self.reload_ok = ok;
        if ok {
            self.reload_ok_ms = clock::now_ms();
        }
    }

    /// Whether this many targets have not been warned about yet; a tenth more is worth a new line.
    pub(super) fn first_time_too_many(&mut self, targets: u64) -> bool {
        let new = targets > self.too_many_targets_said + self.too_many_targets_said / 10;
        if new {
            self.too_many_targets_said = targets;
        }
        new
    }

    pub(super) fn snapshot(&self, jobs: &Jobs, discovery: &Discovery) -> ControlSnapshot {
        ControlSnapshot {
            shard_count: self.shard_count,
            started_ms: self.started_ms,
            reload_ok: self.reload_ok,
            reload_ok_ms: self.reload_ok_ms,
            jobs: jobs.figures(),
            sd_file_errors: discovery
                .counters()
                .file_read_errors
                .load(Ordering::Relaxed),
            sd_http_failures: discovery.counters().http_failures.load(Ordering::Relaxed),
            handovers_failed: 0,
            config_changes: [0; 3],
            store: None,
            web: FiguresNow::default(),
            cluster: None,
        }
    }
}

/// The text of `/metrics`.
pub(super) fn render(control: &ControlSnapshot, shards: &[ShardFigures]) -> String {
    let mut out = Exposition::new();
    process(&mut out, control);
    super::web_figures::write(&mut out, &control.web);
    jobs(&mut out, &control.jobs);
    scrapes(&mut out, shards);
    moves(&mut out, control, shards);
    log(&mut out, shards);
    super::endpoint_figures::write(&mut out, shards);
    if let Some(cluster) = &control.cluster {
        cluster_figures::render(&mut out, cluster);
    }
    out.into_text()
}

fn process(out: &mut Exposition, control: &ControlSnapshot) {
    let figures = ProcessFigures::read();
    out.sample(
        &table::BUILD_INFO,
        &[("version", env!("CARGO_PKG_VERSION"))],
        1.0,
    );
    out.sample(&table::SHARDS, &[], control.shard_count as f64);
    out.sample(&table::START_TIME, &[], control.started_ms as f64 / 1e3);
    out.sample(&table::CPU_SECONDS, &[], figures.cpu_seconds);
    out.sample(&table::RESIDENT_BYTES, &[], figures.resident_bytes as f64);
    out.sample(&table::OPEN_FDS, &[], figures.open_fds as f64);
    out.sample(&table::MAX_FDS, &[], figures.max_fds as f64);
    out.sample(
        &table::CONFIG_SUCCESSFUL,
        &[],
        f64::from(u8::from(control.reload_ok)),
    );
    out.sample(
        &table::CONFIG_SUCCESS_TIME,
        &[],
        control.reload_ok_ms as f64 / 1e3,
    );
    let changes = [
        &table::CONFIGS_CREATED,
        &table::CONFIGS_UPDATED,
        &table::CONFIGS_DELETED,
    ];
    for (metric, count) in changes.into_iter().zip(control.config_changes) {
        out.sample(metric, &[], count as f64);
    }
    if let Some(store) = &control.store {
        store_figures::render(out, store);
    }
    out.sample(&table::SD_FILE_ERRORS, &[], control.sd_file_errors as f64);
    out.sample(
        &table::SD_HTTP_FAILURES,
        &[],
        control.sd_http_failures as f64,
    );
}

fn jobs(out: &mut Exposition, jobs: &[JobFigures]) {
    let mut gauge = |metric: &'static Metric, value: fn(&JobFigures) -> f64| {
        for job in jobs {
            out.sample(metric, &[("scrape_job", &job.name)], value(job));
        }
    };
    gauge(&table::POOL_TARGETS, |job| job.active as f64);
    gauge(&table::POOL_EXCEEDED_LIMIT, |job| {
        f64::from(u8::from(job.limit_exceeded))
    });
    gauge(&table::POOL_DROPPED, |job| job.dropped as f64);
    gauge(&table::POOL_FAILED, |job| job.failed as f64);
}

pub(super) fn sum(shards: &[ShardFigures], value: impl Fn(&ShardFigures) -> u64) -> f64 {
    shards.iter().map(value).sum::<u64>() as f64
}

fn latency<'a>(all: impl Iterator<Item = &'a Latency>) -> Latency {
    all.fold(Latency::new(), |mut sum, one| {
        sum.add(one);
        sum
    })
}

fn summary(out: &mut Exposition, metric: &'static Metric, labels: &[(&str, &str)], all: &Latency) {
    out.latency(metric, labels, all.histogram(), all.sum_us());
}

fn by_name<'a>(
    maps: impl Iterator<Item = &'a BTreeMap<&'static str, u64>>,
) -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::new();
    for (name, value) in maps.flatten() {
        *sums.entry(*name).or_insert(0) += value;
    }
    sums
}

fn scrapes(out: &mut Exposition, shards: &[ShardFigures]) {
    for (result, count) in by_name(shards.iter().map(|shard| &shard.scrapes)) {
        out.sample(&table::SCRAPES, &[("result", result)], count as f64);
    }
    let duration = latency(shards.iter().map(|shard| &shard.scrape_duration));
    summary(out, &table::SCRAPE_DURATION, &[], &duration);
    let lateness = latency(shards.iter().map(|shard| &shard.slot_lateness));
    summary(out, &table::SLOT_LATENESS, &[], &lateness);
    let mut add = |metric, labels: &[(&str, &str)], value: fn(&ShardFigures) -> u64| {
        out.sample(metric, labels, sum(shards, value));
    };
    add(&table::SLOTS_MISSED, &[("cause", "overrun")], |shard| {
        shard.slots_missed_overrun
    });
    add(&table::SLOTS_MISSED, &[("cause", "late")], |shard| {
        shard.slots_missed_late
    });
    add(&table::SLOTS_MISSED, &[("cause", "held")], |shard| {
        shard.slots_missed_held
    });
    let mut add = |metric, labels: &[(&str, &str)], value: fn(&ShardFigures) -> u64| {
        out.sample(metric, labels, sum(shards, value));
    };
    add(&table::SAMPLES, &[], |shard| shard.samples);
    add(&table::STALE_MARKERS, &[], |shard| shard.stale_markers);
    add(&table::MATCH_SAMPLES, &[("path", "matched")], |shard| {
        shard.matched
    });
    add(&table::MATCH_SAMPLES, &[("path", "parsed")], |shard| {
        shard.parsed
    });
    add(&table::SCRAPE_BYTES, &[("kind", "wire")], |shard| {
        shard.wire_bytes
    });
    add(&table::SCRAPE_BYTES, &[("kind", "body")], |shard| {
        shard.body_bytes
    });
    add(&table::CONNECTIONS_OPENED, &[], |shard| {
        shard.connections_opened
    });
    add(
        &table::SAMPLES_DROPPED,
        &[("cause", "metric_relabel")],
        |shard| shard.relabel_dropped,
    );
    add(
        &table::SAMPLES_DROPPED,
        &[("cause", "duplicate")],
        |shard| shard.duplicates,
    );
    add(
        &table::SAMPLES_DROPPED,
        &[("cause", "out_of_order")],
        |shard| shard.out_of_order,
    );
    add(
        &table::SAMPLES_DROPPED,
        &[("cause", "out_of_bounds")],
        |shard| shard.out_of_bounds,
    );
    add(&table::SAMPLES_DROPPED, &[("cause", "exemplar")], |shard| {
        shard.exemplars_dropped
    });
    add(&table::EXCEEDED_SAMPLE_LIMIT, &[], |shard| {
        shard.exceeded_sample_limit
    });
    add(&table::EXCEEDED_BODY_LIMIT, &[], |shard| {
        shard.exceeded_body_limit
    });
    add(&table::DUPLICATES, &[], |shard| shard.duplicates);
    add(&table::OUT_OF_ORDER, &[], |shard| shard.out_of_order);
    add(&table::OUT_OF_BOUNDS, &[], |shard| shard.out_of_bounds);
    for (purpose, bytes) in by_name(shards.iter().map(|shard| &shard.memory)) {
        out.sample(&table::TABLE_BYTES, &[("purpose", purpose)], bytes as f64);
    }
}

fn moves(out: &mut Exposition, control: &ControlSnapshot, shards: &[ShardFigures]) {
    let missed = sum(shards, |shard| shard.slots_missed_takeover);
    out.sample(&table::TAKEOVER_MISSED, &[], missed);
    let takeover = latency(shards.iter().map(|shard| &shard.takeover));
    summary(out, &table::TAKEOVER_SECONDS, &[], &takeover);
    let mut targets = |result, value: fn(&ShardFigures) -> u64| {
        let count = sum(shards, value);
        out.sample(&table::HANDOVER_TARGETS, &[("result", result)], count);
    };
    targets("sent", |shard| shard.handovers_sent);
    targets("used", |shard| shard.handovers_used);
    targets("late", |shard| shard.handovers_late);
    targets("unused", |shard| shard.handovers_unused);
    let failed = control.handovers_failed as f64;
    out.sample(&table::HANDOVER_TARGETS, &[("result", "failed")], failed);
}

fn log(out: &mut Exposition, shards: &[ShardFigures]) {
    let mut add = |metric, labels: &[(&str, &str)], value: fn(&ShardFigures) -> u64| {
        out.sample(metric, labels, sum(shards, value));
    };
    add(&table::WAL_RECORDS, &[], |shard| shard.log.records);
    add(&table::WAL_BYTES, &[("kind", "records")], |shard| {
        shard.log.record_bytes
    });
    add(&table::WAL_BYTES, &[("kind", "definitions")], |shard| {
        shard.log.definition_bytes
    });
    add(&table::WAL_BYTES, &[("kind", "overhead")], |shard| {
        shard.log.overhead_bytes
    });
    add(&table::WAL_SEGMENTS, &[], |shard| shard.log.segments);
    add(&table::WAL_DISK_BYTES, &[], |shard| shard.log.segment_bytes);
    add(&table::WAL_THINNED, &[], |shard| shard.log.segments_thinned);
    add(&table::WAL_THINNED_BYTES, &[], |shard| {
        shard.log.thinned_bytes
    });
    add(&table::WAL_FORMER, &[], |shard| shard.former_dirs);
    add(&table::WAL_FORMER_UNREADABLE, &[], |shard| {
        shard.former_unreadable
    });
    add(&table::WAL_CURSOR_FAILURES, &[], |shard| {
        shard.cursor_saves_failed
    });
    add(&table::WAL_TAIL_BYTES, &[], |shard| shard.log.tail_bytes);
    add(
        &table::WAL_WRITE_ERRORS,
        &[("cause", "no_space")],
        |shard| shard.log.failures_no_space,
    );
    add(&table::WAL_WRITE_ERRORS, &[("cause", "sync")], |shard| {
        shard.log.failures_sync
    });
    add(&table::WAL_WRITE_ERRORS, &[("cause", "io")], |shard| {
        shard.log.failures_io
    });
    add(&table::WAL_WRITE_ERRORS, &[("cause", "slow")], |shard| {
        shard.log.failures_slow
    });
    add(&table::WAL_NOT_DURABLE, &[], |shard| {
        shard.log.records_not_durable
    });
    add(&table::WAL_REWRITTEN, &[], |shard| {
        shard.log.records_rewritten
    });
    add(&table::WAL_LOST, &[("cause", "retention_bytes")], |shard| {
        shard.log.samples_dropped_bytes
    });
    add(&table::WAL_LOST, &[("cause", "retention_age")], |shard| {
        shard.log.samples_dropped_age
    });
    add(&table::WAL_LOST, &[("cause", "not_durable")], |shard| {
        shard.log.samples_dropped_not_durable
    });
    caps(out, shards);
    let mut add = |metric, labels: &[(&str, &str)], value: fn(&ShardFigures) -> u64| {
        out.sample(metric, labels, sum(shards, value));
    };
    add(&table::WAL_SYNCS, &[], |shard| shard.log.syncs);
    add(&table::WAL_DAMAGE, &[], |shard| shard.damaged);
    let mut damage = |cause, value: &dyn Fn(&LogStats) -> u64| {
        let all = shards.iter().map(|shard| value(&shard.log)).sum::<u64>();
        out.sample(&table::WAL_DAMAGE_BY_CAUSE, &[("cause", cause)], all as f64);
    };
    for (index, kind) in DamageKind::ALL.into_iter().enumerate() {
        damage(kind.name(), &|log| log.damage[index]);
    }
    damage("cursors", &|log| log.cursor_slots_damaged);
    damage("segment_missing", &|log| log.segments_missing);
    damage("repair_failed", &|log| log.repairs_failed);
    out.sample(
        &table::WAL_SYNC_SECONDS,
        &[],
        sum(shards, |shard| shard.log.sync_us) / 1e6,
    );
}

/// The shard that is nearest to each cap.
fn caps(out: &mut Exposition, shards: &[ShardFigures]) {
    let mut nearest: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for used in shards.iter().flat_map(|shard| &shard.caps) {
        let cause = match used.cause {
            DeletionCause::RetentionBytes => "retention_bytes",
            DeletionCause::RetentionAge => "retention_age",
            DeletionCause::Acknowledged => continue,
        };
        let ratio = nearest.entry((&used.endpoint, cause)).or_default();
        *ratio = ratio.max(used.ratio);
    }
    for ((endpoint, cause), ratio) in nearest {
        let labels = [("remote_name", endpoint), ("cause", cause)];
        out.sample(&table::WAL_CAP_RATIO, &labels, ratio);
    }
}
