//! One accepted connection: what was read of the next request, what is still to be written.

use std::io::{self, IoSlice, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A reply in up to three parts, so that shared bodies are never copied.
pub(crate) struct Reply {
    /// Status line, headers and the first bytes of the body.
    pub(crate) front: Vec<u8>,
    /// The shared middle of the body.
    pub(crate) rest: Option<Arc<[u8]>>,
    /// The last bytes of the body.
    pub(crate) back: [u8; 8],
    /// How many bytes of `back` are sent.
    pub(crate) back_len: usize,
    pub(crate) manner: Manner,
    /// Handed to `Handler::completed` when all bytes are with the kernel.
    pub(crate) token: u64,
    /// Closes the connection after the reply.
    pub(crate) close: bool,
}

/// How a reply is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Manner {
    /// At once and whole.
    Plain,
    /// After a pause.
    Late(Duration),
    /// In 16 pieces with this pause between them.
    Dribble(Duration),
    /// About half of the body, then the connection is closed.
    Cut,
    /// Nothing; the connection is closed.
    HangUp,
}

impl Reply {
    /// A whole reply with a body; `status` is e.g. `200 OK`.
    pub(crate) fn new(status: &str, content_type: &str, body: &[u8]) -> Reply {
        Reply::with_headers(status, &format!("Content-Type: {content_type}\r\n"), body)
    }

    /// A whole reply; `headers` are complete lines.
    pub(crate) fn with_headers(status: &str, headers: &str, body: &[u8]) -> Reply {
        let length = if status.starts_with("204") {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let mut front = format!("HTTP/1.1 {status}\r\n{headers}{length}\r\n").into_bytes();
        front.extend_from_slice(body);
        Reply {
            front,
            rest: None,
            back: [0; 8],
            back_len: 0,
            manner: Manner::Plain,
            token: 0,
            close: false,
        }
    }

    fn len(&self) -> usize {
        self.front.len() + self.rest.as_ref().map_or(0, |rest| rest.len()) + self.back_len
    }
}

/// What a connection waits for.
pub(crate) enum State {
    /// The rest of a request.
    Reading,
    /// A timer, then the reply (again).
    Held(Reply, usize),
    /// Room in the socket; the second value is what was sent of the reply.
    Writing(Reply, usize),
}

/// A connection of a server.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) input: Vec<u8>,
    /// Bytes that the request being read needs in all; 0 if unknown.
    pub(crate) wanted: usize,
    pub(crate) state: State,
    /// Events that epoll reports for it.
    pub(crate) interest: u32,
    /// Distinguishes users of one slot over time.
    pub(crate) generation: u32,
}

/// What is left to do with a reply after some of it was sent.
pub(crate) enum Sent {
    /// All of it is with the kernel.
    Whole,
    /// The socket is full; the value is what was sent in all.
    Part(usize),
    /// To be continued at this time; the value is what was sent in all.
    Pause(usize, Instant),
    /// It was cut on purpose or the peer is gone: close.
    Over,
}

impl Connection {
    /// Sends what it can of `reply` from byte `sent` on.
    pub(crate) fn send(&mut self, reply: &Reply, sent: usize) -> Sent {
        let total = reply.len();
        let (end, pause) = match reply.manner {
            Manner::Plain | Manner::Late(_) => (total, None),
            Manner::Cut => (reply.front.len() + (total - reply.front.len()) / 2, None),
            Manner::Dribble(pause) => ((sent + total / 16 + 1).min(total), Some(pause)),
            Manner::HangUp => return Sent::Over,
        };
        let mut sent = sent;
        while sent < end {
            match self.write(reply, sent, end) {
                Ok(0) => return Sent::Over,
                Ok(length) => sent += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Part(sent),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Sent::Over,
            }
        }
        match pause {
            Some(pause) if sent < total => Sent::Pause(sent, Instant::now() + pause),
            _ if sent < total => Sent::Over,
            _ => Sent::Whole,
        }
    }

    fn write(&mut self, reply: &Reply, sent: usize, end: usize) -> io::Result<usize> {
        let parts: [&[u8]; 3] = [
            &reply.front,
            reply.rest.as_deref().unwrap_or_default(),
            &reply.back[..reply.back_len],
        ];
        let mut slices = [IoSlice::new(&[]), IoSlice::new(&[]), IoSlice::new(&[])];
        let (mut start, mut used) = (0, 0);
        for part in parts {
            let (from, to) = (sent.max(start), end.min(start + part.len()));
            if from < to {
                slices[used] = IoSlice::new(&part[from - start..to - start]);
                used += 1;
            }
            start += part.len();
        }
        self.stream.write_vectored(&slices[..used])
    }
}
