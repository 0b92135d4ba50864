//! The fetcher, on any driver, driven as a shard does: all that is due at a tick is started, what
//! has arrived is worked on, then the thread sleeps to the next tick.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ringscrape_engine::config::{ScrapeProtocol, ScrapeRules};
use ringscrape_engine::fetch::{
    BodySink, Driver, FetchError, FetchRequest, FetchStats, Fetcher, FetcherLimits, Now,
    RequestSettings,
};
use ringscrape_engine::parse::Dialect;

use super::{Cost, Pace, thread_cpu};

/// Takes every body and counts them.
#[derive(Debug, Default)]
struct Counter {
    done: u32,
    error: Option<FetchError>,
}

impl BodySink for Counter {
    fn head(&mut self, _: u32, _: Dialect) -> Result<(), FetchError> {
        Ok(())
    }

    fn window(&mut self, _: u32, bytes: &[u8], _: bool) -> Result<usize, FetchError> {
        Ok(std::hint::black_box(bytes).len())
    }

    fn done(&mut self, _: u32, result: Result<FetchStats, FetchError>) {
        match result {
            Ok(_) => self.done += 1,
            Err(error) => self.error = Some(error),
        }
    }

    fn need_address(&mut self, _: u32, _: &str, _: u16) {}
}

fn rules() -> ScrapeRules {
    ScrapeRules {
        scrape_protocols: vec![ScrapeProtocol::PrometheusText0_0_4],
        ..ScrapeRules::default()
    }
}

fn now(begin: Instant) -> Now {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Now {
        monotonic_ns: begin.elapsed().as_nanos() as u64,
        unix_ns: unix.map_or(0, |unix| unix.as_nanos() as i64),
    }
}

/// Scrapes over `driver` at `pace`, waking up every `tick` only.
pub(crate) fn run<D: Driver>(
    driver: D,
    address: SocketAddr,
    pace: Pace,
    tick: Duration,
) -> io::Result<Cost> {
    let mut fetcher = Fetcher::with_driver(driver, FetcherLimits::default());
    let mut sink = Counter::default();
    let settings = Arc::new(RequestSettings::new(&rules(), 10_000));
    let request =
        FetchRequest::new(&address.to_string(), "/metrics", settings).map_err(io::Error::other)?;
    let request = Arc::new(request);
    let addresses: Arc<[SocketAddr]> = Arc::new([address]);
    let begin = Instant::now();
    // Connects, not all at once: the listener's queue is short.
    for id in 0..pace.connections {
        let (request, addresses) = (Arc::clone(&request), Arc::clone(&addresses));
        fetcher.start(id, request, addresses, now(begin), &mut sink);
        while fetcher.in_flight() > 50 {
            settle(&mut fetcher, begin, &mut sink)?;
        }
    }
    while fetcher.in_flight() > 0 {
        settle(&mut fetcher, begin, &mut sink)?;
    }

    let before = sink.done;
    let paced = Instant::now();
    let cpu = thread_cpu();
    let mut started = 0;
    let mut next_tick = tick;
    let interval = Duration::from_secs(1) / pace.per_second;
    loop {
        let elapsed = paced.elapsed();
        let due = match elapsed < pace.duration {
            true => (elapsed.as_nanos() / interval.as_nanos()) as u32,
            false => started,
        };
        let at = now(begin);
        while started < due && fetcher.phase(started % pace.connections).is_none() {
            let (request, addresses) = (Arc::clone(&request), Arc::clone(&addresses));
            fetcher.start(
                started % pace.connections,
                request,
                addresses,
                at,
                &mut sink,
            );
            started += 1;
        }
        while fetcher.poll(at, &mut sink)? {}
        if elapsed >= pace.duration && fetcher.in_flight() == 0 {
            break;
        }
        while next_tick <= paced.elapsed() {
            next_tick += tick;
        }
        fetcher.wait(Some(next_tick.saturating_sub(paced.elapsed())), false)?;
    }
    let cpu = thread_cpu() - cpu;
    match sink.error {
        Some(error) => Err(io::Error::other(error)),
        None => Ok(Cost {
            cpu,
            scrapes: sink.done - before,
        }),
    }
}

/// Waits for what comes next and works on it.
fn settle<D: Driver>(
    fetcher: &mut Fetcher<D>,
    begin: Instant,
    sink: &mut Counter,
) -> io::Result<()> {
    while fetcher.poll(now(begin), sink)? {}
    if fetcher.in_flight() > 0 {
        fetcher.wait(Some(Duration::from_millis(5)), true)?;
    }
    Ok(())
}
