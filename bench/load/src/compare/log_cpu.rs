//! An agent under load, looked at often -> the share of its CPU time that its log has: records
//! encoded, written, synced, and read back for sending.
//!
//! A moment belongs to the log if the function that is nearest to the leaf of all that are the
//! agent's own is one of its log, or if the kernel works at a file for it. So what is called by the
//! log (copying, compressing, the allocator) is the log's, and what the log calls to hand records
//! on is not. Where an agent has no such functions that are known here, nothing is said.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::agents::Agent;
use super::classes::{Stack, stacks};
use super::perf::{self, Walk};
use super::pprof;
use crate::error::Error;

/// How often an agent was looked at, and how often that was in its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Looks {
    pub(super) by: &'static str,
    pub(super) all: u64,
    pub(super) log: u64,
}

impl Looks {
    /// The log's share, 0 to 1.
    pub(super) fn share(&self) -> f64 {
        self.log as f64 / self.all.max(1) as f64
    }
}

/// Beginnings of functions that are an agent's own, and of those that are its log.
struct Functions {
    own: &'static [&'static str],
    log: &'static [&'static str],
}

const RINGSCRAPE: Functions = Functions {
    own: &["ringscrape_", "crc32c::"],
    log: &["ringscrape_wal::", "ringscrape_engine::log::", "crc32c::"],
};

const PROMETHEUS: Functions = Functions {
    own: &["github.com/prometheus/prometheus/"],
    log: &[
        "github.com/prometheus/prometheus/tsdb/agent.(*appender).Commit",
        "github.com/prometheus/prometheus/tsdb/agent.(*appender).log",
        "github.com/prometheus/prometheus/tsdb/encoding.",
        "github.com/prometheus/prometheus/tsdb/record.",
        "github.com/prometheus/prometheus/tsdb/wal.",
        "github.com/prometheus/prometheus/tsdb/wlog.",
    ],
};

/// Beginnings of kernel functions that only reading, writing and syncing a file have on their
/// stack.
const FILES: &[&str] = &[
    "generic_perform_write",
    "generic_file_",
    "filemap_read",
    "filemap_get_pages",
    "filemap_fdatawrite",
    "file_write_and_wait",
    "vfs_fsync",
    "io_fsync",
    "ext4_",
    "xfs_",
    "btrfs_",
    "f2fs_",
    "iomap_",
    "ovl_",
    "shmem_",
];

/// Threads of the kernel's that do for a process what would block it: here files only.
const FILE_THREAD: &str = "iou-wrk-";

/// Looks at a running agent for a while; `None` if its functions are not known.
///
/// # Errors
/// perf may not look, or the agent does not say what it saw of itself.
pub(super) fn look(
    agent: &Agent,
    process: u32,
    listen: SocketAddr,
    length: Duration,
    dir: &Path,
) -> Result<Option<Looks>, Error> {
    let program = agent.program().file_name().and_then(|name| name.to_str());
    match program {
        Some("ringscrape") => {
            let text = perf::look(process, length, Walk::UnwindTables, dir)?;
            Ok(Some(of_perf(&text)))
        }
        Some("prometheus") => Ok(Some(of_profile(&pprof::look(listen, length)?))),
        _ => Ok(None),
    }
}

/// What `perf script` says of ringscrape.
fn of_perf(text: &str) -> Looks {
    let all = stacks(text);
    let is_log = |stack: &&Stack<'_>| {
        stack.thread.starts_with(FILE_THREAD)
            || (stack.in_kernel && stack.functions.iter().any(|name| begins(name, FILES)))
            || RINGSCRAPE.has_log(&stack.functions)
    };
    Looks {
        by: "perf",
        all: all.len() as u64,
        log: all.iter().filter(is_log).count() as u64,
    }
}

/// What a Prometheus saw of itself.
fn of_profile(profile: &pprof::Profile) -> Looks {
    let mut looks = Looks {
        by: "pprof",
        ..Looks::default()
    };
    for (stack, count) in profile.stacks() {
        looks.all += count;
        if PROMETHEUS.has_log(&stack) {
            looks.log += count;
        }
    }
    looks
}

impl Functions {
    /// Whether of a stack's own functions the nearest to the leaf is one of the log.
    fn has_log(&self, stack: &[&str]) -> bool {
        // Of a trait's function the type comes first.
        let bare = |name: &&str| begins(name.trim_start_matches(['<', '&', '*']), self.own);
        let own = stack.iter().find(|name| bare(name));
        own.is_some_and(|name| begins(name.trim_start_matches(['<', '&', '*']), self.log))
    }
}

fn begins(name: &str, with: &[&str]) -> bool {
    with.iter().any(|one| name.starts_with(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_ringscrape() {
        let text = "\
shard-0-1 \n\t 10 __memmove_avx512\n\t 11 <ringscrape_wal::frame::X as rkyv::Y>::f\n\t 12 \
ringscrape_engine::shard::x\n\n\
shard-0-1 \n\t 10 ringscrape_engine::remote_write::fill\n\t 11 ringscrape_wal::reader::x\n\n\
shard-0-1 \n\tffffffff81b47cf4 copy\n\tffffffff8158c594 generic_perform_write\n\n\
shard-0-1 \n\tffffffff81b47cf4 copy\n\tffffffff8158c594 tcp_sendmsg\n\t 11 __send\n\n\
iou-wrk-7 \n\tffffffff81b47cf4 schedule\n\n\
shard-0-1 \n\t 10 ringscrape_engine::logger::x\n\n\
shard-0-1 \n\t 10 crc32c::hw::x\n\n\
shard-0-1 \n\t 10 malloc\n\n";
        let looks = of_perf(text);
        assert_eq!((looks.all, looks.log), (8, 4));
        assert_eq!(looks.share(), 0.5);
        assert_eq!(of_perf("").share(), 0.0);
    }

    #[test]
    fn moments_of_prometheus() {
        let of = |names: &[&str]| {
            let names: Vec<String> = names
                .iter()
                .map(|name| name.replace("P/", "github.com/prometheus/prometheus/"))
                .collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            PROMETHEUS.has_log(&names)
        };
        assert!(of(&[
            "syscall.Syscall",
            "os.(*File).Write",
            "P/tsdb/wlog.(*WL).flushPage"
        ]));
        assert!(of(&[
            "P/tsdb/agent.(*appender).logSeries",
            "P/scrape.(*scrapeLoop).run"
        ]));
        assert!(of(&[
            "snappy.encodeBlock",
            "P/tsdb/wlog.(*WL).log",
            "P/tsdb/agent.x"
        ]));
        // The log's reader hands samples to the queue of what is to be sent.
        assert!(!of(&[
            "P/storage/remote.(*QueueManager).Append",
            "P/tsdb/wlog.(*Watcher).run"
        ]));
        assert!(!of(&[
            "P/tsdb/agent.(*appender).Append",
            "P/scrape.(*scrapeLoop).append"
        ]));
        assert!(!of(&["runtime.gcBgMarkWorker"]));
    }
}
