//! Scripted HTTP servers on loopback, and a client that drives a fetcher until something happens.

use super::rules;
use super::sink::Lines;
use crate::config::ScrapeRules;
use crate::fetch::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// How long a test waits before it fails; nothing that works comes near.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server whose script runs in a thread; dropping it waits for the script's end.
pub(in crate::fetch) struct Server {
    pub(in crate::fetch) address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Runs `script` on a listener at a free port of 127.0.0.1.
    pub(in crate::fetch) fn new(script: impl FnOnce(TcpListener) + Send + 'static) -> Server {
        Server::at("127.0.0.1:0", script).expect("a free port")
    }

    pub(in crate::fetch) fn at(
        address: &str,
        script: impl FnOnce(TcpListener) + Send + 'static,
    ) -> std::io::Result<Server> {
        let listener = TcpListener::bind(address)?;
        Ok(Server {
            address: listener.local_addr()?,
            thread: Some(std::thread::spawn(move || script(listener))),
        })
    }

    /// The script's end; its panic is the test's.
    pub(in crate::fetch) fn join(mut self) {
        let thread = self.thread.take().expect("joined once");
        thread.join().expect("the server's script succeeds");
    }
}

/// The next connection; reading from it fails after a while.
pub(in crate::fetch) fn accept_one(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("a connection");
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads one request; empty: the client closed.
pub(in crate::fetch) fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => request.push(byte[0]),
            _ => return String::new(),
        }
    }
    String::from_utf8(request).expect("a request in ASCII")
}

/// A whole response with status 200 and `fields` (each with its line end).
pub(in crate::fetch) fn ok(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n{fields}\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Accepts one connection and answers each of `responses` to a request on it, then closes.
pub(in crate::fetch) fn answer(listener: &TcpListener, responses: &[Vec<u8>]) -> Vec<String> {
    let mut stream = accept_one(listener);
    let answer = |response: &Vec<u8>| {
        let request = read_request(&mut stream);
        assert!(!request.is_empty(), "the client closed");
        stream.write_all(response).expect("the client reads");
        request
    };
    responses.iter().map(answer).collect()
}

/// A driver to be tested on real sockets.
pub(in crate::fetch) trait Loopback: Driver + Sized {
    fn make() -> std::io::Result<Self>;

    /// Whether the system has it; said if not.
    fn is_there() -> bool {
        match Self::make() {
            Ok(_) => true,
            Err(error) => {
                println!("skipped: {}: {error}", std::any::type_name::<Self>());
                false
            }
        }
    }
}

impl Loopback for Epoll {
    fn make() -> std::io::Result<Epoll> {
        Epoll::new()
    }
}

impl Loopback for Uring {
    fn make() -> std::io::Result<Uring> {
        Uring::new()
    }
}

/// A fetcher with its sink.
pub(in crate::fetch) struct Client<D: Driver = Epoll> {
    pub(in crate::fetch) fetcher: Fetcher<D>,
    pub(in crate::fetch) sink: Lines,
    pub(in crate::fetch) rules: ScrapeRules,
    started: Instant,
}

impl<D: Loopback> Client<D> {
    pub(in crate::fetch) fn new() -> Client<D> {
        Client::with_limits(FetcherLimits::default())
    }

    pub(in crate::fetch) fn with_limits(limits: FetcherLimits) -> Client<D> {
        Client {
            fetcher: Fetcher::with_driver(D::make().unwrap(), limits),
            sink: Lines::default(),
            rules: rules(),
            started: Instant::now(),
        }
    }

    pub(in crate::fetch) fn now(&self) -> Now {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Now {
            monotonic_ns: self.started.elapsed().as_nanos() as u64,
            unix_ns: since_epoch.unwrap().as_nanos() as i64,
        }
    }

    pub(in crate::fetch) fn start(&mut self, id: u32, addresses: &[SocketAddr]) {
        let settings = Arc::new(RequestSettings::new(&self.rules, 10_000));
        let host = addresses[0].to_string();
        let request = Arc::new(FetchRequest::new(&host, "/metrics", settings).unwrap());
        let now = self.now();
        self.fetcher
            .start(id, request, addresses.into(), now, &mut self.sink);
    }

    /// Drives until `happened`, asked once after each turn; waits for sockets meanwhile.
    pub(in crate::fetch) fn run_until(&mut self, happened: impl Fn(&Client<D>) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.now();
            let more = self.fetcher.poll(now, &mut self.sink).unwrap();
            if happened(self) {
                return;
            }
            assert!(Instant::now() < deadline, "waits in vain");
            if more {
                continue;
            }
            // Not for long: what is waited for may come from elsewhere.
            let short = Some(Duration::from_millis(20));
            self.fetcher.wait(short, true).unwrap();
        }
    }

    /// Polls until `happened`.
    pub(in crate::fetch) fn poll_until(&mut self, happened: impl Fn(&mut Client<D>) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !happened(self) {
            assert!(Instant::now() < deadline, "polls in vain");
            let now = self.now();
            self.fetcher.poll(now, &mut self.sink).unwrap();
            let short = Some(Duration::from_millis(1));
            self.fetcher.wait(short, true).unwrap();
        }
    }

    /// One scrape to its end.
    pub(in crate::fetch) fn fetch(&mut self, id: u32, address: SocketAddr) {
        self.start(id, &[address]);
        self.finish();
    }

    /// Until nothing is in flight.
    pub(in crate::fetch) fn finish(&mut self) {
        self.run_until(|client| client.fetcher.in_flight() == 0);
        assert!(self.fetcher.holds_nothing());
    }
}
