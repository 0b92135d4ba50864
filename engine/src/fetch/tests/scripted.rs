//! A driver in memory that plays scripts, and the fetcher on it: what a network does, without one.

use super::rules;
use super::sink::Lines;
use crate::config::ScrapeRules;
use crate::fetch::*;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const NOW: Now = Now {
    monotonic_ns: 0,
    unix_ns: 0,
};

/// What a connection does next.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Bytes arrive.
    Bytes(Vec<u8>),
    /// Nothing more for now; an event follows.
    Pause,
    /// The peer closes.
    Close,
    /// This error from the next call, whichever.
    Fail(i32),
}

/// A driver that plays scripts: one for each connection, in the order they are made.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) scripts: VecDeque<Result<Vec<Act>, OpenError>>,
    pub(super) events: Vec<Event>,
    headroom: usize,
    room: usize,
    buffer: Vec<u8>,
    /// Connections that are open.
    pub(super) open: usize,
}

#[derive(Debug)]
pub(super) struct Connection {
    token: u64,
    acts: VecDeque<Act>,
}

impl Memory {
    fn tell(&mut self, token: u64) {
        self.events.push(Event {
            token,
            closed: false,
            readable: true,
        });
    }
}

impl Driver for Memory {
    type Connection = Connection;

    fn connect(&mut self, token: u64, _: SocketAddr) -> Result<Connection, OpenError> {
        let acts = self
            .scripts
            .pop_front()
            .expect("one connection more")?
            .into();
        self.open += 1;
        self.tell(token);
        Ok(Connection { token, acts })
    }

    fn send(&mut self, connection: &mut Connection, bytes: &[u8]) -> io::Result<usize> {
        if let Some(Act::Fail(errno)) = connection.acts.front() {
            return Err(io::Error::from_raw_os_error(*errno));
        }
        self.tell(connection.token);
        Ok(bytes.len().div_ceil(2))
    }

    fn receive(&mut self, connection: &mut Connection) -> io::Result<Received<'_>> {
        let bytes = match connection.acts.pop_front() {
            Some(Act::Bytes(mut bytes)) => {
                if bytes.len() > self.room {
                    connection
                        .acts
                        .push_front(Act::Bytes(bytes.split_off(self.room)));
                }
                bytes
            }
            Some(Act::Pause) => {
                self.tell(connection.token);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Some(Act::Close) => Vec::new(),
            Some(Act::Fail(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            None => return Err(io::ErrorKind::WouldBlock.into()),
        };
        let end = self.headroom + bytes.len();
        self.buffer.clear();
        self.buffer.resize(self.headroom, b'#');
        self.buffer.extend_from_slice(&bytes);
        let drained = matches!(connection.acts.front(), Some(Act::Pause));
        if drained {
            connection.acts.pop_front();
            self.tell(connection.token);
        }
        Ok(Received {
            start: self.headroom,
            end,
            arrival_unix_ns: None,
            drained,
            buffer: &mut self.buffer,
        })
    }

    fn is_quiet(&mut self, connection: &mut Connection) -> bool {
        matches!(connection.acts.front(), None | Some(Act::Pause))
    }

    fn close(&mut self, _: Connection) {
        self.open -= 1;
    }

    fn events(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let count = self.events.len().min(EVENTS_MAX);
        events.extend(self.events.drain(..count));
        Ok(())
    }

    fn wait(&mut self, _: Option<Duration>, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn waker(&self) -> Arc<LoopWaker> {
        LoopWaker::new().expect("a descriptor")
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

pub(super) struct Client {
    pub(super) fetcher: Fetcher<Memory>,
    pub(super) sink: Lines,
    pub(super) rules: ScrapeRules,
}

impl Client {
    pub(super) fn new(limits: FetcherLimits, headroom: usize, room: usize) -> Client {
        let driver = Memory {
            headroom,
            room,
            ..Memory::default()
        };
        Client {
            fetcher: Fetcher::with_driver(driver, limits),
            sink: Lines::default(),
            rules: rules(),
        }
    }

    pub(super) fn script(&mut self, acts: Vec<Act>) {
        self.fetcher.driver_mut().scripts.push_back(Ok(acts));
    }

    /// Takes back a script that no connection was made for.
    pub(super) fn unscript(&mut self) {
        self.fetcher.driver_mut().scripts.clear();
    }

    pub(super) fn start(&mut self, id: u32, addresses: &[&str]) {
        let settings = Arc::new(RequestSettings::new(&self.rules, 10_000));
        let request = Arc::new(FetchRequest::new("h:1", "/metrics", settings).unwrap());
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        self.fetcher
            .start(id, request, addresses, NOW, &mut self.sink);
    }

    pub(super) fn poll(&mut self) {
        self.fetcher.poll(NOW, &mut self.sink).unwrap();
    }

    /// Until nothing more can be done.
    pub(super) fn settle(&mut self) {
        while self.fetcher.poll(NOW, &mut self.sink).unwrap()
            || !self.fetcher.driver_mut().events.is_empty()
        {}
    }

    pub(super) fn fetch(&mut self, id: u32) {
        self.start(id, &["10.0.0.1:1"]);
        self.settle();
    }
}

/// A whole response with this body, and these header lines before its length.
pub(super) fn ok(body: &[u8], fields: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
