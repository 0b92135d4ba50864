//! A script (request and its number -> page) -> an HTTP target with exact bytes and exact faults.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::server::{After, Request, Server, answer, reason};

/// Most bytes an endless body sends, so that a test that should stop reading cannot run for ever.
pub const ENDLESS_BYTES_MAX: u64 = 10 << 30;

/// One scrape as the script sees it.
#[derive(Debug)]
pub struct Scrape<'a> {
    /// 1 for the first request of this host and path, then 2, …
    pub number: u64,
    /// The request.
    pub request: &'a Request,
}

/// What a scrape gets.
#[derive(Debug, Clone)]
pub struct Page {
    /// Status code.
    pub status: u16,
    /// The Content-Type; none is sent if empty.
    pub content_type: String,
    /// The body before any compression.
    pub body: Vec<u8>,
    /// How it is delivered.
    pub fault: Fault,
}

/// How a page is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Whole, with Content-Length.
    None,
    /// Whole, chunked in pieces of that many bytes.
    Chunked(usize),
    /// Whole, gzip with Content-Encoding.
    Gzip,
    /// Whole and plain, but said to be gzip.
    FalseGzip,
    /// Whole, without a length, ended by closing.
    UntilClose,
    /// Whole, after that long.
    Delay(Duration),
    /// Nothing, until the client gives up.
    Hang,
    /// The connection is closed without an answer.
    CloseBefore,
    /// Full Content-Length, that many bytes of body, then closed.
    CloseAfter(usize),
    /// The body over and over, up to [`ENDLESS_BYTES_MAX`].
    Endless,
    /// The body repeated until that many bytes, gzip.
    Bomb(u64),
}

impl Page {
    /// A page in text format 0.0.4, delivered whole.
    pub fn text(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            content_type: "text/plain; version=0.0.4; charset=utf-8".to_owned(),
            body: body.into(),
            fault: Fault::None,
        }
    }

    /// The same page with another delivery.
    #[must_use]
    pub fn with(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }
}

/// One answered scrape.
#[derive(Debug, Clone)]
pub struct Served {
    /// Local host and path.
    pub target: (IpAddr, String),
    /// The number within that target, from 1.
    pub number: u64,
    /// When the request was there.
    pub at: Instant,
}

#[derive(Debug, Default)]
struct Log {
    counts: HashMap<(IpAddr, String), u64>,
    served: Vec<Served>,
}

/// A running scripted target. Dropping it stops it.
#[derive(Debug)]
pub struct Exporter {
    server: Server,
    log: Arc<Mutex<Log>>,
    bytes: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
}

impl Exporter {
    /// Serves `script` on 127.0.0.1 at a free port.
    pub fn start(script: impl Fn(&Scrape<'_>) -> Page + Send + Sync + 'static) -> Self {
        Self::start_on(&[IpAddr::V4(Ipv4Addr::LOCALHOST)], 0, script)
    }

    /// Serves `script` on each of `hosts` at one `port` (0: any free one).
    pub fn start_on(
        hosts: &[IpAddr],
        port: u16,
        script: impl Fn(&Scrape<'_>) -> Page + Send + Sync + 'static,
    ) -> Self {
        let log = Arc::new(Mutex::new(Log::default()));
        let bytes = Arc::new(AtomicU64::new(0));
        let done = Arc::new(AtomicBool::new(false));
        let (seen, sent, over) = (Arc::clone(&log), Arc::clone(&bytes), Arc::clone(&done));
        let server = Server::start(hosts, port, move |request, stream| {
            let number = {
                let mut log = seen.lock().map_err(|_| io::Error::other("poisoned"))?;
                let target = (request.local.ip(), request.path().to_owned());
                let count = log.counts.entry(target.clone()).or_insert(0);
                *count += 1;
                let number = *count;
                log.served.push(Served {
                    target,
                    number,
                    at: Instant::now(),
                });
                number
            };
            let page = script(&Scrape { number, request });
            deliver(&page, stream, &sent, &over)
        });
        Self {
            server,
            log,
            bytes,
            done,
        }
    }

    /// The first address.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// How many scrapes of `path` on `host` have come in.
    pub fn count(&self, host: IpAddr, path: &str) -> u64 {
        let log = self.log.lock().expect("BUG: the log is never poisoned");
        log.counts
            .get(&(host, path.to_owned()))
            .copied()
            .unwrap_or(0)
    }

    /// All scrapes so far, in order of arrival.
    pub fn served(&self) -> Vec<Served> {
        self.log
            .lock()
            .expect("BUG: the log is never poisoned")
            .served
            .clone()
    }

    /// Bytes sent by endless bodies and bombs (compressed) so far.
    pub fn flood_bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Stops serving; connects are refused from here on.
    pub fn stop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
        self.server.stop();
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether this machine has an IPv6 loopback.
pub fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn deliver(
    page: &Page,
    stream: &mut TcpStream,
    sent: &AtomicU64,
    over: &AtomicBool,
) -> io::Result<After> {
    let mut headers = Vec::new();
    if !page.content_type.is_empty() {
        headers.push(("Content-Type", page.content_type.as_str()));
    }
    match page.fault {
        Fault::None => answer(stream, page.status, &headers, &page.body),
        Fault::Delay(time) => {
            std::thread::sleep(time);
            answer(stream, page.status, &headers, &page.body)
        }
        Fault::Gzip => {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
            gzip.write_all(&page.body)?;
            headers.push(("Content-Encoding", "gzip"));
            answer(stream, page.status, &headers, &gzip.finish()?)
        }
        Fault::FalseGzip => {
            headers.push(("Content-Encoding", "gzip"));
            answer(stream, page.status, &headers, &page.body)
        }
        Fault::Chunked(size) => {
            headers.push(("Transfer-Encoding", "chunked"));
            head(stream, page.status, &headers)?;
            for chunk in page.body.chunks(size.max(1)) {
                stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes())?;
                stream.write_all(chunk)?;
                stream.write_all(b"\r\n")?;
            }
            stream.write_all(b"0\r\n\r\n")?;
            Ok(After::KeepAlive)
        }
        Fault::UntilClose => {
            headers.push(("Connection", "close"));
            head(stream, page.status, &headers)?;
            stream.write_all(&page.body)?;
            Ok(After::Close)
        }
        Fault::Hang => {
            // Ends when the client closes, or when the exporter stops and closes the connection.
            let mut byte = [0];
            let _ = stream.read(&mut byte);
            Ok(After::Close)
        }
        Fault::CloseBefore => Ok(After::Close),
        Fault::CloseAfter(count) => {
            let length = page.body.len().to_string();
            headers.push(("Content-Length", &length));
            head(stream, page.status, &headers)?;
            stream.write_all(&page.body[..count.min(page.body.len())])?;
            Ok(After::Close)
        }
        Fault::Endless => {
            headers.push(("Connection", "close"));
            head(stream, page.status, &headers)?;
            let piece = page.body.repeat(1 + (256 << 10) / page.body.len().max(1));
            let mut total = 0;
            while total < ENDLESS_BYTES_MAX && !over.load(Ordering::Relaxed) {
                stream.write_all(&piece)?;
                total += piece.len() as u64;
                sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            Ok(After::Close)
        }
        Fault::Bomb(size) => {
            headers.push(("Content-Encoding", "gzip"));
            headers.push(("Connection", "close"));
            head(stream, page.status, &headers)?;
            let piece = page.body.repeat(1 + (256 << 10) / page.body.len().max(1));
            let mut gzip = GzEncoder::new(Counted { stream, sent }, Compression::fast());
            let mut total = 0;
            while total < size && !over.load(Ordering::Relaxed) {
                gzip.write_all(&piece)?;
                total += piece.len() as u64;
            }
            gzip.finish()?;
            Ok(After::Close)
        }
    }
}

struct Counted<'a> {
    stream: &'a mut TcpStream,
    sent: &'a AtomicU64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.stream.write(bytes)?;
        self.sent.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn head(stream: &mut TcpStream, status: u16, headers: &[(&str, &str)]) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())
}
