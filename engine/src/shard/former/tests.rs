//! Logs of former numbers of shards, sound and damaged -> stages of endpoints; what is sent, kept.

use super::*;
use crate::config::{Config, Endpoint};
use crate::remote_write::progress::Progress;
use crate::remote_write::{Now, QueueOptions, ShardQueue};
use crate::shard::sender::{Sender, reader};
use ringscrape_wal::definition::{Layout, Route, Target, next_id};
use ringscrape_wal::log::{LogOptions, ShardLog, Write};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

fn former(shard: usize, shard_count: usize, generations: &[u64]) -> Former {
    former_in(Path::new("/nowhere"), shard, shard_count, generations)
}

fn former_in(dir: &Path, shard: usize, shard_count: usize, generations: &[u64]) -> Former {
    let logs: Vec<FormerLog> = generations
        .iter()
        .map(|generation| FormerLog {
            generation: *generation,
            dir: dir.to_owned(),
        })
        .collect();
    let caps = Caps {
        bytes_max: 0,
        age_ms_max: 0,
    };
    // Messages that find nobody count as not said.
    let (reports, _) = mpsc::channel(8);
    Former::new(shard, shard_count, &logs, caps, reports)
}

/// A directory with a record for `e`.
fn log_in(dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    let mut log = ShardLog::new(LogOptions::default(), 1);
    let layout = Layout {
        id: next_id(),
        runs: Box::default(),
        len: 0,
    };
    let target = Target {
        id: next_id(),
        key: 1,
        labels: Box::default(),
    };
    let route = Route {
        id: next_id(),
        endpoints: ["e".into()].into(),
    };
    let scrape = Scrape {
        target: Arc::new(target),
        route: Arc::new(route),
        timestamp_ms: 1,
        layout: Arc::new(layout),
        values: Vec::new(),
        stale: Box::default(),
        sides: None,
    };
    log.append(Arc::new(scrape), 0);
    log.close();
    let mut file = Vec::new();
    for write in log.take_writes(0) {
        if let Write::Bytes { bytes, .. } = write {
            file.extend(bytes);
        }
    }
    std::fs::write(dir.join("00000000000000000001.wal"), file).unwrap();
}

/// One former log, of which `e` is to have everything, and the time.
struct Trial {
    former: Former,
    dir: PathBuf,
    now_ms: u64,
    _temp: tempfile::TempDir,
}

impl Trial {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("former-000001/shard-000");
        log_in(&dir);
        let mut former = former_in(&dir, 0, 1, &[1]);
        former.set_endpoints(vec![Named {
            identity: "e".into(),
            former: Vec::new(),
        }]);
        Self {
            former,
            dir,
            now_ms: 5,
            _temp: temp,
        }
    }

    /// What `keep` does, later.
    fn keep_after(&mut self, ms: u64) {
        self.now_ms += ms;
        let dir = &mut self.former.dirs[0];
        if self.now_ms < dir.retry_at_ms || dir.is_done {
            return;
        }
        let mut worked = match dir.log.take() {
            Some(log) => work::see_to(log, 0, None, None),
            None => work::open_dir(&self.dir, None, dir.is_without_patience(self.now_ms)),
        };
        self.former.working += 1;
        self.former.took(0, &mut worked, self.now_ms);
    }

    fn drain(&mut self) {
        let end = self.former.dirs[0].log.as_ref().unwrap().end();
        self.former.advance(0, "e", (end, end));
        self.keep_after(1_000);
    }

    /// Where the endpoint is next, once all shards have sent it what it waits for.
    fn next(&mut self, stage: Stage) -> Stage {
        if let Stage::Waiting(generation) = stage {
            self.former.all_have_sent("e".into(), generation);
        }
        self.former.next_stage(stage, "e")
    }
}

#[test]
fn a_directory_that_can_be_read_in_time_comes_first() {
    let mut trial = Trial::new();
    let away = trial.dir.with_extension("away");
    std::fs::rename(&trial.dir, &away).unwrap();
    std::fs::write(&trial.dir, "no directory").unwrap();
    for _ in 0..PATIENCE_MS / RETRY_MS {
        trial.keep_after(RETRY_MS);
        assert_eq!(trial.next(Stage::Opening(0)), Stage::Opening(0));
        assert_eq!(trial.former.unreadable(), 1);
    }
    std::fs::remove_file(&trial.dir).unwrap();
    std::fs::rename(&away, &trial.dir).unwrap();
    trial.keep_after(RETRY_MS);
    assert_eq!(trial.next(Stage::Opening(0)), Stage::Reading(0));
    assert_eq!(trial.former.unreadable(), 0);
}

#[test]
fn a_directory_that_cannot_be_read_is_passed_over_and_sent_when_it_can() {
    let mut trial = Trial::new();
    let away = trial.dir.with_extension("away");
    std::fs::rename(&trial.dir, &away).unwrap();
    std::fs::write(&trial.dir, "no directory").unwrap();
    trial.keep_after(0);
    trial.keep_after(PATIENCE_MS);
    assert_eq!(trial.next(Stage::Opening(0)), Stage::Waiting(1));
    assert_eq!(trial.next(Stage::Waiting(1)), Stage::Live);
    assert_eq!(trial.next(Stage::Live), Stage::Live);
    assert_eq!(
        (trial.former.unreadable(), trial.former.dirs_left()),
        (1, 1)
    );

    std::fs::remove_file(&trial.dir).unwrap();
    std::fs::rename(&away, &trial.dir).unwrap();
    trial.keep_after(RETRY_MS);
    assert_eq!(trial.former.unreadable(), 0);
    assert_eq!(trial.next(Stage::Live), Stage::Reading(0));
    trial.drain();
    assert_eq!(trial.next(Stage::Reading(0)), Stage::Waiting(1));
    assert_eq!(trial.next(Stage::Waiting(1)), Stage::Live);
    assert_eq!(trial.next(Stage::Live), Stage::Live);
    assert!(trial.former.is_gone(0) && !trial.dir.exists());
}

#[test]
fn the_readable_part_of_a_directory_is_sent_and_the_rest_stays() {
    let mut trial = Trial::new();
    let broken = trial.dir.join("00000000000000000002.wal");
    symlink(&broken, &broken).unwrap();
    trial.keep_after(0);
    assert_eq!(trial.next(Stage::Opening(0)), Stage::Opening(0));
    trial.keep_after(PATIENCE_MS);
    assert_eq!(trial.next(Stage::Opening(0)), Stage::Reading(0));
    assert_eq!(trial.former.unreadable(), 1);
    trial.drain();
    assert!(trial.former.is_gone(0));
    assert_eq!(trial.former.unreadable(), 1, "until somebody mends it");
    let left: Vec<_> = std::fs::read_dir(&trial.dir).unwrap().collect();
    assert_eq!(left.len(), 1);
    assert!(broken.symlink_metadata().is_ok());
}

/// What reads the only former log for `e`.
fn sender(former: &Former) -> Sender {
    let text = "remote_write: [{url: 'http://e/'}]";
    let config = Config::parse(Path::new("/r.yml"), text, &|_| None).unwrap();
    let endpoint = Arc::new(Endpoint {
        identity: "e".to_owned(),
        ..Endpoint::clone(&config.remote_write[0])
    });
    let (low_water, highest_sent) = former.cursor(0, "e").unwrap();
    let options = QueueOptions {
        endpoint: endpoint.clone(),
        low_water,
        highest_sent,
        run_start: low_water,
        isolation_requests_per_s: 1.0,
    };
    Sender {
        endpoint,
        queue: ShardQueue::new(options, Now::default()),
        reader: reader("e", former.path(0)),
        stage: Stage::Reading(0),
        requests: mpsc::channel(1).0,
        answers: Vec::new(),
        allowance: 1,
        bound: 1,
        held: Vec::new(),
        read_error_quiet_until_ms: 0,
        stuck: None,
        progress: Progress::default(),
        at_end: false,
        backfill_until: None,
        former: Vec::new(),
    }
}

#[test]
fn a_segment_that_fails_is_given_up_though_the_log_is_worked_on_meanwhile() {
    let mut trial = Trial::new();
    trial.keep_after(0);
    let mut sender = sender(&trial.former);
    let broken = trial.dir.join("00000000000000000001.wal");
    std::fs::remove_file(&broken).unwrap();
    symlink(&broken, &broken).unwrap();
    let live = ShardLog::new(LogOptions::default(), 1);
    let mut turn = |former: &mut Former, now_ms: u64| {
        let now = Now {
            monotonic_ms: now_ms,
            unix_ms: 0,
        };
        let polled = sender.read(&live, former, now, 1, &mut Vec::new());
        let error = sender.reader.take_error();
        sender.note_read_error(error.as_ref(), former, now);
        (polled.at_end, sender.reader.take_damage().len())
    };
    for at_ms in (0..PATIENCE_MS).step_by(KEEP_INTERVAL_MS as usize) {
        assert_eq!(turn(&mut trial.former, at_ms), (false, 0));
        let log = trial.former.dirs[0].log.take();
        assert_eq!(turn(&mut trial.former, at_ms + 1), (false, 0));
        trial.former.dirs[0].log = log;
    }
    turn(&mut trial.former, PATIENCE_MS);
    assert_eq!(turn(&mut trial.former, PATIENCE_MS + 1), (true, 1));
    trial.drain();
    assert!(trial.former.is_gone(0));
    let kept = trial.dir.join("quarantine/00000000000000000001.wal");
    assert!(kept.symlink_metadata().is_ok());
}

/// The stages of an endpoint that is drained at once, when all shards are.
fn stages(former: &mut Former) -> Vec<Stage> {
    let mut stage = former.first_stage();
    let mut stages = vec![stage];
    while stage != Stage::Live {
        match stage {
            Stage::Opening(dir) => former.dirs[dir].is_done = true,
            Stage::Waiting(generation) => {
                assert_eq!(former.next_stage(stage, "e"), stage, "waits for the others");
                former.all_have_sent("e".into(), generation);
            }
            _ => {}
        }
        stage = former.next_stage(stage, "e");
        stages.push(stage);
    }
    stages
}

#[test]
fn older_logs_come_first_and_own_logs_last() {
    use Stage::{Live, Opening, Waiting};
    assert_eq!(stages(&mut former(0, 2, &[])), [Live]);
    assert_eq!(
        stages(&mut former(0, 2, &[1, 1, 1, 1])),
        [Opening(0), Opening(1), Waiting(1), Live]
    );
    assert_eq!(
        stages(&mut former(1, 2, &[1, 1, 4, 4, 4])),
        [Opening(0), Waiting(1), Opening(1), Waiting(4), Live]
    );
    // More shards than directories: it waits for those that have some.
    assert_eq!(
        stages(&mut former(5, 6, &[1, 1, 2])),
        [Waiting(1), Waiting(2), Live]
    );
}
