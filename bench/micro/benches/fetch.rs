//! Gzip responses in memory -> time to make windows of them, inflated whole and in pieces. The
//! driver copies them to its receive buffer, as the kernel would; nothing else is simulated.

use std::collections::VecDeque;
use std::hint::black_box;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use libdeflater::{CompressionLvl, Compressor};
use ringscrape_engine::config::{ScrapeProtocol, ScrapeRules};
use ringscrape_engine::fetch::{
    BodySink, Driver, Event, FetchError, FetchRequest, FetchStats, Fetcher, FetcherLimits,
    LoopWaker, Now, OpenError, Received, RequestSettings,
};
use ringscrape_engine::parse::Dialect;
use ringscrape_micro::node_like;

const NOW: Now = Now {
    monotonic_ns: 0,
    unix_ns: 0,
};
const HEADROOM: usize = 8 * 1024;
const ROOM: usize = 64 * 1024;

/// Answers every request with one response, at once.
struct Replay {
    response: Arc<[u8]>,
    buffer: Vec<u8>,
    events: VecDeque<u64>,
}

/// A connection: how much of the response was received.
struct Connection(usize);

impl Driver for Replay {
    type Connection = Connection;

    fn connect(&mut self, token: u64, _: SocketAddr) -> Result<Connection, OpenError> {
        self.events.push_back(token);
        Ok(Connection(0))
    }

    fn send(&mut self, connection: &mut Connection, bytes: &[u8]) -> io::Result<usize> {
        connection.0 = 0;
        Ok(bytes.len())
    }

    fn receive(&mut self, connection: &mut Connection) -> io::Result<Received<'_>> {
        let rest = &self.response[connection.0..];
        if rest.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = rest.len().min(ROOM);
        self.buffer[HEADROOM..HEADROOM + len].copy_from_slice(&rest[..len]);
        connection.0 += len;
        Ok(Received {
            start: HEADROOM,
            end: HEADROOM + len,
            arrival_unix_ns: None,
            drained: false,
            buffer: &mut self.buffer,
        })
    }

    fn is_quiet(&mut self, _: &mut Connection) -> bool {
        true
    }

    fn close(&mut self, _: Connection) {}

    fn events(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let event = |token| Event {
            token,
            closed: false,
            readable: true,
        };
        events.extend(self.events.drain(..).map(event));
        Ok(())
    }

    fn wait(&mut self, _: Option<Duration>, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn waker(&self) -> Arc<LoopWaker> {
        unreachable!("nothing waits here")
    }

    fn memory_bytes(&self) -> usize {
        self.buffer.len()
    }
}

/// Takes what ends in a line, as a parser does.
#[derive(Default)]
struct Sink {
    done: usize,
}

impl BodySink for Sink {
    fn head(&mut self, _: u32, _: Dialect) -> Result<(), FetchError> {
        Ok(())
    }

    fn window(&mut self, _: u32, bytes: &[u8], _: bool) -> Result<usize, FetchError> {
        let bytes = black_box(bytes);
        Ok(memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1))
    }

    fn done(&mut self, _: u32, result: Result<FetchStats, FetchError>) {
        result.expect("the response is well-formed");
        self.done += 1;
    }

    fn need_address(&mut self, _: u32, _: &str, _: u16) {}
}

fn request() -> Arc<FetchRequest> {
    let rules = ScrapeRules {
        scrape_protocols: vec![ScrapeProtocol::PrometheusText0_0_4],
        ..ScrapeRules::default()
    };
    let settings = Arc::new(RequestSettings::new(&rules, 10_000));
    Arc::new(FetchRequest::new("h:1", "/metrics", settings).expect("a plain request"))
}

/// A response with `body` compressed as exporters do; in chunks as Go's server sends them.
fn response(body: &str, is_chunked: bool) -> Arc<[u8]> {
    let mut compressor = Compressor::new(CompressionLvl::default());
    let mut content = vec![0; compressor.gzip_compress_bound(body.len())];
    let len = compressor
        .gzip_compress(body.as_bytes(), &mut content)
        .expect("there is room");
    content.truncate(len);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\n";
    let mut response = head.as_bytes().to_vec();
    if is_chunked {
        response.extend(b"Transfer-Encoding: chunked\r\n\r\n");
        for chunk in content.chunks(2048) {
            response.extend(format!("{:x}\r\n", chunk.len()).bytes());
            response.extend_from_slice(chunk);
            response.extend(b"\r\n");
        }
        response.extend(b"0\r\n\r\n");
    } else {
        response.extend(format!("Content-Length: {len}\r\n\r\n").bytes());
        response.extend(content);
    }
    response.into()
}

fn fetch(c: &mut Criterion) {
    let addresses: Arc<[SocketAddr]> = Arc::new([([127, 0, 0, 1], 1).into()]);
    let request = request();
    for samples in [1000, 10_000] {
        let body = node_like(samples, 7);
        let mut group = c.benchmark_group(format!("fetch/gzip/{samples}"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        for (form, is_chunked) in [("length", false), ("chunked", true)] {
            for (way, whole_body_bytes_max) in [("whole", 1 << 20), ("pieces", 0)] {
                let driver = Replay {
                    response: response(&body, is_chunked),
                    buffer: vec![0; HEADROOM + ROOM],
                    events: VecDeque::new(),
                };
                let limits = FetcherLimits {
                    whole_body_bytes_max,
                    ..FetcherLimits::default()
                };
                let mut fetcher = Fetcher::with_driver(driver, limits);
                let mut sink = Sink::default();
                group.bench_function(format!("{form}/{way}"), |b| {
                    b.iter(|| {
                        let done = sink.done;
                        let (request, addresses) = (Arc::clone(&request), Arc::clone(&addresses));
                        fetcher.start(0, request, addresses, NOW, &mut sink);
                        while sink.done == done {
                            fetcher.poll(NOW, &mut sink).expect("it has no faults");
                        }
                    });
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, fetch);
criterion_main!(benches);
