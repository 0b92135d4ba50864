//! Paced scrapes over loopback -> CPU time of the scraping thread per scrape, in microseconds, for
//! each way to wait for sockets, beside what the bare system calls cost.
//!
//! The server is a thread on another core, and every client runs alone on its own. The ways take
//! turns, so that whatever else the machine does meets all of them; minimum and median of the turns
//! are shown. Under `cargo test` each way makes a few scrapes.

mod bare;
mod server;
mod tasks;
mod ticks;

use std::io::{self, Write};
use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use ringscrape_engine::fetch::{Epoll, Uring};

/// A pace: how many connections, how many scrapes a second altogether.
#[derive(Debug, Clone, Copy)]
struct Pace {
    connections: u32,
    per_second: u32,
    /// How long one measurement takes.
    duration: Duration,
}

/// CPU time of one run's scrapes.
#[derive(Debug, Clone, Copy)]
struct Cost {
    cpu: Duration,
    scrapes: u32,
}

impl Cost {
    fn us_per_scrape(self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / f64::from(self.scrapes.max(1))
    }
}

/// A way to scrape.
type Way = Box<dyn Fn(SocketAddr, Pace) -> io::Result<Cost>>;

fn ways() -> Vec<(String, Way)> {
    let mut ways: Vec<(String, Way)> = Vec::new();
    let has_ring = Uring::new().is_ok();
    ways.push(("bare send and recv".to_owned(), Box::new(bare::run)));
    for tick_ms in [4, 20, 40] {
        let tick = Duration::from_millis(tick_ms);
        ways.push((
            format!("epoll, tick {tick_ms} ms"),
            Box::new(move |address, pace| ticks::run(Epoll::new()?, address, pace, tick)),
        ));
        if has_ring {
            ways.push((
                format!("io_uring, tick {tick_ms} ms"),
                Box::new(move |address, pace| ticks::run(Uring::new()?, address, pace, tick)),
            ));
        }
    }
    ways.push(("a task and a stream each".to_owned(), Box::new(tasks::run)));
    ways
}

fn main() -> io::Result<()> {
    // As criterion does: only `cargo bench` measures.
    let measures = std::env::args().any(|argument| argument == "--bench");
    let server = server::Server::start()?;
    pin(0);
    let pace = |connections, per_second, duration_ms| Pace {
        connections,
        per_second,
        duration: Duration::from_millis(duration_ms),
    };
    let (turns, paces) = match measures {
        true => (
            3,
            vec![
                pace(2000, 2000, 600),
                pace(2000, 1000, 600),
                pace(100, 100, 1000),
            ],
        ),
        false => (1, vec![pace(10, 500, 100)]),
    };
    let ways = ways();
    let mut out = io::stdout().lock();
    for pace in paces {
        let mut costs = vec![Vec::new(); ways.len()];
        for _ in 0..turns {
            for ((name, way), costs) in ways.iter().zip(&mut costs) {
                let cost = way(server.address(), pace)
                    .map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
                assert!(cost.scrapes > 0, "{name}: no scrape was made");
                costs.push(cost.us_per_scrape());
            }
        }
        writeln!(
            out,
            "\n{} connections, {} scrapes/s, {} bytes: us of CPU per scrape",
            pace.connections,
            pace.per_second,
            server::BODY_BYTES
        )?;
        writeln!(out, "{:<28} {:>8} {:>8}", "", "min", "median")?;
        for ((name, _), costs) in ways.iter().zip(&mut costs) {
            costs.sort_by(f64::total_cmp);
            writeln!(
                out,
                "{name:<28} {:>8.1} {:>8.1}",
                costs[0],
                costs[costs.len() / 2]
            )?;
        }
    }
    Ok(())
}

/// CPU time of this thread so far, in the kernel and outside.
fn thread_cpu() -> Duration {
    // SAFETY: rusage is plain data, for which all zeros is valid.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: `usage` lives through the call.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) };
    let duration = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    duration(usage.ru_utime) + duration(usage.ru_stime)
}

/// Keeps this thread on core `core`, if there is one.
fn pin(core: usize) {
    // SAFETY: cpu_set_t is plain data; the set lives through the call, and `core` is within it.
    unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(core, &mut set);
        // Fails where there is no such core: then the figures are what they are.
        libc::sched_setaffinity(0, mem::size_of_val(&set), &set);
    }
}
