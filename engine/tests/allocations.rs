//! Scrapes like the ones before -> not one allocation, from the body's windows to the log's files
//! and back from its tail.
//!
//! What it cannot see: the sockets before it, the requests after it, and what the executor takes
//! for each write to a file.

use ringscrape_engine::config::model::ScrapeRules;
use ringscrape_engine::matcher::Tables;
use ringscrape_engine::parse::Dialect;
use ringscrape_engine::scrape::{Report, TargetState, Walk};
use ringscrape_wal::definition::{Route, Target, next_id};
use ringscrape_wal::log::{LogOptions, ShardLog, Write};
use ringscrape_wal::scrape::{Position, Scrape};
use ringscrape_wal::tail::TailRead;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

/// Counts what a thread asks of the system's allocator.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that `System` wants.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SERIES: usize = 1_000;
const TARGETS: usize = 4;
/// Targets that share a body differ in this many values from scrape to scrape.
const BODIES: usize = 7;
/// Bytes that arrive at once.
const WINDOW_BYTES: usize = 16 << 10;
/// Scrapes between two visits of the one who writes the files, and of the reader.
const VISIT_EVERY: usize = 40;

/// A body as node_exporter writes them: families with comments, integers, decimals, `%g` numbers.
fn body(scrape: usize) -> String {
    let mut body = String::new();
    for family in 0..SERIES / 20 {
        let name = format!("node_family_{family}_total");
        body += &format!("# HELP {name} What it counts, in a line.\n# TYPE {name} counter\n");
        for cpu in 0..20 {
            let value = match cpu % 4 {
                0 => format!("{}", 17 * cpu + scrape),
                1 => format!("{:.2}", 3.25 * (cpu + scrape) as f64),
                2 => format!("{}.{}e+09", 1 + cpu % 9, 123_456 + scrape),
                _ => "0".to_owned(),
            };
            body += &format!("{name}{{cpu=\"{cpu}\",mode=\"idle\"}} {value}\n");
        }
    }
    body
}

/// What a shard has of the path from bodies to endpoints.
struct Shard {
    tables: Tables,
    targets: Vec<(Arc<Target>, TargetState)>,
    route: Arc<Route>,
    log: ShardLog,
    writes: Vec<Write>,
    read_to: Position,
    samples_read: u64,
    file_bytes: u64,
    now_ms: i64,
}

impl Shard {
    fn new() -> Self {
        let rules = Arc::new(ScrapeRules::default());
        let target = |number| {
            let labels = [("instance", format!("n{number}:9100")), ("job", "n".into())];
            let target = Arc::new(Target {
                id: next_id(),
                key: 1 + number as u64,
                labels: labels.map(|(n, v)| (n.into(), v.into())).into(),
            });
            (target.clone(), TargetState::new(target, rules.clone()))
        };
        let log = ShardLog::new(LogOptions::default(), 1);
        Self {
            tables: Tables::with_pool(log.pool().clone()),
            targets: (0..TARGETS).map(target).collect(),
            route: Arc::new(Route {
                id: next_id(),
                endpoints: Box::new(["receiver".into()]),
            }),
            read_to: log.begin(),
            log,
            writes: Vec::new(),
            samples_read: 0,
            file_bytes: 0,
            now_ms: 1_700_000_000_000,
        }
    }

    fn scrape(&mut self, target: usize, body: &[u8]) -> u32 {
        self.now_ms += 1_000;
        let (target, state) = &mut self.targets[target];
        let mut walk = Walk::begin(&mut self.tables, state, Dialect::Text);
        let (mut from, mut to) = (0, 0);
        while to < body.len() {
            to = body.len().min(to + WINDOW_BYTES);
            let last = to == body.len();
            from += walk.feed(&body[from..to], last).expect("a good body");
        }
        let report = Report {
            timestamp_ms: self.now_ms,
            now_ms: self.now_ms,
            duration_s: 0.01,
            timeout_s: 10.0,
            body_bytes: body.len() as u64,
        };
        let outcome = walk.finish(&mut self.tables, state, &report);
        let scrape = self.log.pool().share(Scrape {
            target: target.clone(),
            route: self.route.clone(),
            timestamp_ms: outcome.timestamp_ms,
            layout: outcome.layout,
            values: outcome.values,
            stale: outcome.stale,
            sides: outcome.sides,
        });
        self.log.append(scrape, self.now_ms);
        outcome.stats.matched
    }

    /// The driver writes, an endpoint reads and acknowledges.
    fn visit(&mut self) {
        self.log.take_writes_into(self.now_ms, &mut self.writes);
        for write in self.writes.drain(..) {
            if let Write::Bytes {
                segment,
                offset,
                bytes,
            } = write
            {
                let offset = offset + bytes.len() as u32;
                self.file_bytes += bytes.len() as u64;
                self.log.written(Position { segment, offset });
                self.log.give_back(bytes);
            }
        }
        while let TailRead::Entry(entry) = self.log.tail_after(self.read_to) {
            let entry = entry.clone();
            self.samples_read += entry.scrape.values.len() as u64;
            self.read_to = entry.end;
        }
        self.log.release(self.read_to);
    }

    fn run(&mut self, scrapes: usize, bodies: &[String]) -> u64 {
        let mut matched = 0;
        for scrape in 0..scrapes {
            let body = &bodies[scrape % bodies.len()];
            matched += u64::from(self.scrape(scrape % TARGETS, body.as_bytes()));
            if scrape % VISIT_EVERY == VISIT_EVERY - 1 {
                self.visit();
            }
        }
        matched
    }
}

#[test]
fn a_scrape_like_the_one_before_allocates_nothing() {
    let bodies: Vec<String> = (0..BODIES).map(body).collect();
    let mut shard = Shard::new();
    shard.run(1_100, &bodies);
    shard.visit();
    let (keyframes, read, written) = (
        shard.log.stats().keyframes,
        shard.samples_read,
        shard.file_bytes,
    );
    let segments = shard.log.stats().segments_created;

    let before = ALLOCATIONS.get();
    let matched = shard.run(900, &bodies);
    let allocations = ALLOCATIONS.get() - before;

    assert_eq!(
        matched,
        900 * SERIES as u64,
        "every line took the fast path"
    );
    assert!(
        shard.log.stats().keyframes > keyframes + 50,
        "keyframes too"
    );
    assert!(
        shard.samples_read > read + 800 * SERIES as u64,
        "all was read"
    );
    assert!(shard.file_bytes > written, "all was written");
    assert_eq!(shard.log.stats().segments_created, segments);
    assert_eq!(allocations, 0);
}
