//! Requests on any number of connections -> the same response to each, from one thread.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Size of a body: an exporter's, compressed.
pub(crate) const BODY_BYTES: usize = 11 * 1024;

/// Token of the listener; connections have their descriptor.
const LISTENER: u64 = u64::MAX;

/// A server that runs until the process ends.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
}

impl Server {
    /// Starts it on another core than the first.
    pub(crate) fn start() -> io::Result<Server> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        std::thread::spawn(move || {
            super::pin(1);
            serve(&listener).expect("the server goes on");
        });
        Ok(Server { address })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The whole response.
pub(crate) fn response() -> Vec<u8> {
    let mut response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\
         Content-Length: {BODY_BYTES}\r\n\r\n"
    )
    .into_bytes();
    // Lines as long as samples are, so that a sink can take them.
    response.extend((1..=BODY_BYTES).map(|at| if at % 64 == 0 { b'\n' } else { b'x' }));
    response
}

fn serve(listener: &TcpListener) -> io::Result<()> {
    let response = response();
    // SAFETY: no pointers are passed, and the new descriptor belongs to nobody else.
    let epoll = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
    watch(&epoll, listener.as_raw_fd(), LISTENER)?;
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
    let mut request = [0; 4096];
    loop {
        // SAFETY: `events` is as long as told and lives through the call.
        let count = unsafe {
            libc::epoll_wait(
                epoll.as_raw_fd(),
                events.as_mut_ptr(),
                events.len() as i32,
                -1,
            )
        };
        for event in &events[..usize::try_from(count).unwrap_or(0)] {
            let token = event.u64;
            if token == LISTENER {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                let fd = stream.as_raw_fd() as usize;
                watch(&epoll, stream.as_raw_fd(), fd as u64)?;
                if streams.len() <= fd {
                    streams.resize_with(fd + 1, || None);
                }
                streams[fd] = Some(stream);
                continue;
            }
            let slot = &mut streams[token as usize];
            let Some(stream) = slot else { continue };
            // A request is smaller than a segment, so it arrives at once.
            let goes_on =
                matches!(stream.read(&mut request), Ok(1..)) && stream.write_all(&response).is_ok();
            if !goes_on {
                *slot = None;
            }
        }
    }
}

fn watch(epoll: &OwnedFd, fd: i32, token: u64) -> io::Result<()> {
    let mut event = libc::epoll_event {
        events: libc::EPOLLIN as u32,
        u64: token,
    };
    // SAFETY: `event` lives through the call, and both descriptors are open.
    let result = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
