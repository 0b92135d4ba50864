//! Loopback listeners and a handler -> an HTTP/1.1 server with one thread per connection.
//!
//! Written for tests: the handler writes the answer's bytes itself, so it can break any rule.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Largest request body taken, bytes.
const REQUEST_BYTES_MAX: u64 = 256 << 20;

/// One request as received.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// Path with query, as sent.
    pub target: String,
    /// Header fields in order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, by Content-Length.
    pub body: Vec<u8>,
    /// The address it came in on.
    pub local: SocketAddr,
}

impl Request {
    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(self.target.as_str(), |(path, _)| path)
    }

    /// What follows the `?`, or nothing.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The first header of that (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Whether a connection serves another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Wait for the next request.
    KeepAlive,
    /// Close.
    Close,
}

type Handler = dyn Fn(&Request, &mut TcpStream) -> io::Result<After> + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    stopped: AtomicBool,
    next: AtomicU64,
    open: Mutex<HashMap<u64, TcpStream>>,
}

/// A running server. Dropping it closes the listeners and all connections.
pub struct Server {
    addresses: Vec<SocketAddr>,
    listeners: Vec<TcpListener>,
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Listens on each of `hosts` at one common `port` (0: any free one).
    ///
    /// # Panics
    /// If a host is not loopback, or no common port can be bound.
    pub fn start(
        hosts: &[IpAddr],
        port: u16,
        handler: impl Fn(&Request, &mut TcpStream) -> io::Result<After> + Send + Sync + 'static,
    ) -> Self {
        assert!(
            hosts.iter().all(IpAddr::is_loopback),
            "BUG: {hosts:?} is not only loopback"
        );
        let listeners = (0..50)
            .find_map(|_| bind_all(hosts, port).ok())
            .unwrap_or_else(|| panic!("cannot listen on {hosts:?} port {port}"));
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            stopped: AtomicBool::new(false),
            next: AtomicU64::new(0),
            open: Mutex::new(HashMap::new()),
        });
        let mut server = Self {
            addresses: Vec::new(),
            listeners: Vec::new(),
            threads: Vec::new(),
            shared,
        };
        for listener in listeners {
            server
                .addresses
                .push(listener.local_addr().expect("a listener has an address"));
            let accepting = listener.try_clone().expect("cannot duplicate a listener");
            let shared = Arc::clone(&server.shared);
            server
                .threads
                .push(std::thread::spawn(move || accept(&accepting, &shared)));
            server.listeners.push(listener);
        }
        server
    }

    /// The first address listened on.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Closes listeners and connections; later connects are refused.
    pub fn stop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for listener in self.listeners.drain(..) {
            // SAFETY: the descriptor is open as long as `listener` lives; shutting a listening
            // socket down wakes the thread that waits in accept.
            unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) };
        }
        if let Ok(mut open) = self.shared.open.lock() {
            for (_, stream) in open.drain() {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Writes a whole answer with its Content-Length.
///
/// # Errors
/// When the peer is gone.
pub fn answer(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<After> {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    stream.write_all(&bytes)?;
    Ok(After::KeepAlive)
}

/// The reason phrase of a status code.
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Scripted",
    }
}

fn bind_all(hosts: &[IpAddr], port: u16) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for host in hosts {
        let port = match listeners.first() {
            Some(first) => first.local_addr()?.port(),
            None => port,
        };
        listeners.push(TcpListener::bind((*host, port))?);
    }
    Ok(listeners)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let _ = stream.set_nodelay(true);
        let id = shared.next.fetch_add(1, Ordering::Relaxed);
        if let (Ok(copy), Ok(mut open)) = (stream.try_clone(), shared.open.lock()) {
            open.insert(id, copy);
        }
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let _ = serve(stream, &shared);
            if let Ok(mut open) = shared.open.lock() {
                open.remove(&id);
            }
        });
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let local = stream.local_addr()?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader, &mut writer, local)? {
        if (shared.handler)(&request, &mut writer)? == After::Close
            || shared.stopped.load(Ordering::SeqCst)
        {
            break;
        }
    }
    let _ = writer.shutdown(Shutdown::Both);
    Ok(())
}

fn read_request(
    reader: &mut BufReader<TcpStream>,
    writer: &mut TcpStream,
    local: SocketAddr,
) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(io::Error::other(
            "a request line needs a method and a target",
        ));
    };
    let (method, target) = (method.to_owned(), target.to_owned());
    let mut headers = Vec::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = line.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            break;
        }
        if let Some((name, value)) = text.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    let mut request = Request {
        method,
        target,
        headers,
        body: Vec::new(),
        local,
    };
    let length = request
        .header("content-length")
        .and_then(|v| v.parse().ok())
        .unwrap_or(0u64);
    if length > REQUEST_BYTES_MAX {
        return Err(io::Error::other("request body too large"));
    }
    if request
        .header("expect")
        .is_some_and(|v| v.eq_ignore_ascii_case("100-continue"))
    {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if request.header("transfer-encoding").is_some() {
        return Err(io::Error::other("chunked requests are not expected here"));
    }
    reader.take(length).read_to_end(&mut request.body)?;
    Ok(Some(request))
}
