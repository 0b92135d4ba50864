//! `/proc/self` -> CPU time, memory and file descriptors of this process.

/// What `/proc/self` says. A figure that cannot be read is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ProcessFigures {
    /// User and system time, in seconds.
    pub cpu_seconds: f64,
    /// Resident set, in bytes.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Soft limit of file descriptors.
    pub max_fds: u64,
}

impl ProcessFigures {
    /// Reads the figures now.
    pub fn read() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let open_fds =
            std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
        Self {
            cpu_seconds: cpu_seconds(&stat, ticks_per_second()),
            resident_bytes: resident_pages(&statm) * page_bytes(),
            open_fds,
            max_fds: nofile_limits().0,
        }
    }
}

/// Soft and hard limit of open file descriptors.
pub fn nofile_limits() -> (u64, u64) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid rlimit that the call fills.
    let ok = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    if ok {
        (limit.rlim_cur, limit.rlim_max)
    } else {
        (0, 0)
    }
}

/// Raises the soft limit of open file descriptors to the hard one, as far as the system allows.
pub fn raise_nofile_limit() {
    let (soft, hard) = nofile_limits();
    if soft < hard {
        let limit = libc::rlimit {
            rlim_cur: hard,
            rlim_max: hard,
        };
        // SAFETY: `limit` is a valid rlimit. A refusal leaves the limit as it was, and the limit
        // in force is what the callers read.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

fn ticks_per_second() -> f64 {
    // SAFETY: sysconf takes no pointers.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    if ticks > 0 { ticks as f64 } else { 100.0 }
}

fn page_bytes() -> u64 {
    // SAFETY: sysconf takes no pointers.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096)
}

/// utime and stime are fields 14 and 15 of proc(5) stat, counted after the name in parentheses.
fn cpu_seconds(stat: &str, ticks_per_second: f64) -> f64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut next = || {
        fields
            .next()
            .and_then(|field| field.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (next() + next()) / ticks_per_second
}

fn resident_pages(statm: &str) -> u64 {
    statm
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|field| field.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stat_with_a_hostile_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 150 0 0 0 250 50 0 0 20 0 3 0 100";
        assert_eq!(cpu_seconds(stat, 100.0), 3.0);
        assert_eq!(cpu_seconds("", 100.0), 0.0);
        assert_eq!(resident_pages("1000 42 3"), 42);
    }

    #[test]
    fn reads_this_process() {
        let figures = ProcessFigures::read();
        assert!(figures.resident_bytes > 0 && figures.open_fds > 0 && figures.max_fds > 0);
    }
}
