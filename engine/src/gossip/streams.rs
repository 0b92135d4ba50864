//! TCP connections -> frames for the node, and its frames back; both sides of each stream.
//!
//! A stream has a time-out for each step. Of each direction there are at most [`STREAMS_MAX`] at
//! once; one address may hold half of those that come in.

use super::driver::{Core, Shared, now};
use super::mailbox::{FromGossip, StoreQuestion};
use rand::RngExt;
use ringscrape_cluster::exchange::{Failure, LENGTH_BYTES, Purpose, Stream, Taken, Then};
use ringscrape_cluster::store;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::debug;

/// Streams at once, of each direction.
pub(crate) const STREAMS_MAX: usize = 64;
/// Of those that come in, how many may come from one address.
const STREAMS_PER_ADDRESS_MAX: usize = STREAMS_MAX / 2;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For a frame of up to 1 MiB, and as much again for each MiB more.
const FRAME_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the control loop may take for its word on a handover or a question.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that are made room for at once, whatever length a frame claims.
const READ_BYTES: usize = 64 * 1_024;

/// Why a stream did not serve its purpose.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    /// There are too many.
    #[error("too many streams at once")]
    TooMany,
    /// The network.
    #[error("{0}")]
    Network(std::io::Error),
    /// The other side is too slow.
    #[error("{0} took too long")]
    Timeout(&'static str),
    /// A frame is longer than it may be.
    #[error("a frame of {0} bytes")]
    TooLong(usize),
    /// What was said.
    #[error(transparent)]
    Failure(#[from] Failure),
}

impl From<std::io::Error> for StreamError {
    fn from(error: std::io::Error) -> Self {
        Self::Network(error)
    }
}

/// Streams that are open.
#[derive(Debug, Default)]
pub(super) struct Open {
    asking: usize,
    answering: Vec<IpAddr>,
}

/// A place among the open streams, given back when dropped.
struct Place {
    shared: Shared,
    /// Who asks; `None`: this node.
    from: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let open = &mut self.shared.open.borrow_mut();
        match self.from {
            None => open.asking -= 1,
            Some(ip) => {
                if let Some(index) = open.answering.iter().position(|other| *other == ip) {
                    open.answering.swap_remove(index);
                }
            }
        }
    }
}

impl Place {
    fn find(shared: &Shared, from: Option<IpAddr>) -> Option<Self> {
        let mut open = shared.open.borrow_mut();
        match from {
            None if open.asking < STREAMS_MAX => open.asking += 1,
            Some(ip)
                if open.answering.len() < STREAMS_MAX
                    && open.answering.iter().filter(|other| **other == ip).count()
                        < STREAMS_PER_ADDRESS_MAX =>
            {
                open.answering.push(ip);
            }
            _ => return None,
        }
        let shared = shared.clone();
        Some(Self { shared, from })
    }
}

/// Opens an exchange. `name` is empty for a join address.
pub(super) fn exchange(shared: &Shared, name: Arc<str>, address: SocketAddr) {
    let shared = shared.clone();
    tokio::task::spawn_local(async move {
        let result = ask(&shared, address, Purpose::Exchange).await;
        if let Err(error) = &result {
            debug!(%name, %address, %error, "an exchange failed");
        }
        if name.is_empty() {
            let core = &mut *shared.core.borrow_mut();
            core.join_ended(address, result.as_ref().map(|_| ()));
        }
        shared.changed.notify_one();
    });
}

/// Opens a stream and sees it through. An answer, if a question was asked.
pub(super) async fn ask(
    shared: &Shared,
    address: SocketAddr,
    purpose: Purpose,
) -> Result<Option<Vec<u8>>, StreamError> {
    let result = match Place::find(shared, None) {
        Some(_place) => {
            shared.core.borrow_mut().streams.opened += 1;
            ask_in_place(shared, address, purpose).await
        }
        None => Err(StreamError::TooMany),
    };
    count(shared, &result);
    result
}

async fn ask_in_place(
    shared: &Shared,
    address: SocketAddr,
    purpose: Purpose,
) -> Result<Option<Vec<u8>>, StreamError> {
    let connecting = TcpStream::connect(address);
    let connected = timeout(CONNECT_TIMEOUT, connecting).await;
    let mut socket = connected.map_err(|_| StreamError::Timeout("connecting"))??;
    socket.set_nodelay(true)?;
    let (mut stream, first) = shared.core.borrow_mut().node.ask(purpose, now());
    write_frame(&mut socket, &first).await?;
    loop {
        let frame = read_frame(&mut socket, &stream).await?;
        let Taken { send, then } = step(shared, &mut stream, &frame);
        if let Some(frame) = send {
            write_frame(&mut socket, &frame).await?;
        }
        match then {
            Then::Wait => {}
            Then::Over(answer) => return Ok(answer),
            Then::Failed(failure) => return Err(failure.into()),
            // Only who was asked is asked.
            Then::Handover { .. } | Then::Question { .. } => {
                return Err(Failure::OutOfTurn.into());
            }
        }
    }
}

/// Somebody has opened a stream.
pub(super) fn answer(shared: &Shared, socket: TcpStream, from: SocketAddr) {
    let Some(place) = Place::find(shared, Some(from.ip())) else {
        shared.core.borrow_mut().streams.turned_away += 1;
        return;
    };
    shared.core.borrow_mut().streams.accepted += 1;
    let shared = shared.clone();
    tokio::task::spawn_local(async move {
        let result = answer_in_place(&shared, socket).await;
        if let Err(error) = &result {
            debug!(%from, %error, "a stream failed");
        }
        count(&shared, &result);
        drop(place);
        shared.changed.notify_one();
    });
}

async fn answer_in_place(shared: &Shared, mut socket: TcpStream) -> Result<(), StreamError> {
    socket.set_nodelay(true)?;
    let mut frames_left = frames_until_drop(shared);
    let mut stream = Stream::answering();
    loop {
        if frames_left == Some(0) {
            return Err(StreamError::TooMany);
        }
        frames_left = frames_left.map(|left| left - 1);
        let frame = read_frame(&mut socket, &stream).await?;
        let Taken { send, then } = step(shared, &mut stream, &frame);
        if let Some(frame) = send {
            write_frame(&mut socket, &frame).await?;
        }
        let verdict = match then {
            Then::Wait => continue,
            Then::Over(_) => return Ok(()),
            Then::Failed(failure) => return Err(failure.into()),
            Then::Handover { from, bytes } => {
                let (taken, word) = oneshot::channel();
                let message = FromGossip::HandOver { from, bytes, taken };
                control_says(shared, message, word).await.map(|()| None)
            }
            Then::Question { bytes, .. } if bytes.first() == Some(&store::TAG) => {
                store_says(shared, bytes).await.map(Some)
            }
            Then::Question { from, bytes } => {
                let (answer, word) = oneshot::channel();
                let message = FromGossip::Question {
                    from,
                    bytes,
                    answer,
                };
                control_says(shared, message, word).await.map(Some)
            }
        };
        let last = shared
            .core
            .borrow_mut()
            .node
            .verdict(&mut stream, verdict, now());
        return write_frame(&mut socket, &last).await;
    }
}

/// For tests of faults: after how many frames a stream is dropped, if it is one of those.
fn frames_until_drop(shared: &Shared) -> Option<u32> {
    let core = &mut *shared.core.borrow_mut();
    let is_dropped = core.drop_share > 0.0 && core.rng.random::<f64>() < core.drop_share;
    is_dropped.then(|| core.rng.random_range(0..2))
}

async fn control_says<T>(
    shared: &Shared,
    message: FromGossip,
    word: oneshot::Receiver<Result<T, String>>,
) -> Result<T, String> {
    let sent = shared.core.borrow().control.try_send(message);
    sent.map_err(|_| "the node is busy".to_owned())?;
    await_word(word).await
}

async fn await_word<T>(word: oneshot::Receiver<Result<T, String>>) -> Result<T, String> {
    match timeout(PROGRAM_TIMEOUT, word).await {
        Ok(Ok(word)) => word,
        Ok(Err(_)) => Err("the node has no answer".to_owned()),
        Err(_) => Err("the node took too long".to_owned()),
    }
}

/// Questions of another node's store of configurations go to that of this node.
async fn store_says(shared: &Shared, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    let (answer, word) = oneshot::channel();
    let store = shared.core.borrow().store.get().cloned();
    let store = store.ok_or_else(|| "this node keeps no configurations".to_owned())?;
    let sent = store.try_send(StoreQuestion { bytes, answer });
    sent.map_err(|_| "the node is busy".to_owned())?;
    await_word(word).await
}

fn step(shared: &Shared, stream: &mut Stream, frame: &[u8]) -> Taken {
    let Core { node, out, .. } = &mut *shared.core.borrow_mut();
    let taken = node.take(stream, frame, now(), out);
    shared.changed.notify_one();
    taken
}

fn count<T>(shared: &Shared, result: &Result<T, StreamError>) {
    let counters = &mut shared.core.borrow_mut().streams;
    match result {
        Ok(_) => {}
        Err(StreamError::TooMany) => counters.turned_away += 1,
        Err(_) => counters.failed += 1,
    }
}

async fn write_frame(socket: &mut TcpStream, frame: &[u8]) -> Result<(), StreamError> {
    let len = u32::try_from(frame.len()).map_err(|_| StreamError::TooLong(frame.len()))?;
    let writing = async {
        socket.write_all(&len.to_be_bytes()).await?;
        socket.write_all(frame).await
    };
    let written = timeout(frame_timeout(frame.len()), writing).await;
    Ok(written.map_err(|_| StreamError::Timeout("writing a frame"))??)
}

async fn read_frame(socket: &mut TcpStream, stream: &Stream) -> Result<Vec<u8>, StreamError> {
    let mut len = [0; LENGTH_BYTES];
    let patience = match stream.awaits_program() {
        true => PROGRAM_TIMEOUT + FRAME_TIMEOUT,
        false => FRAME_TIMEOUT,
    };
    let late = |_| StreamError::Timeout("reading a frame");
    timeout(patience, socket.read_exact(&mut len))
        .await
        .map_err(late)??;
    let len = u32::from_be_bytes(len) as usize;
    if len > stream.frame_bytes_max() {
        return Err(StreamError::TooLong(len));
    }
    // Room is made for what has come, not for what is claimed to come.
    let mut frame = Vec::with_capacity(len.min(READ_BYTES));
    let reading = async {
        let mut rest = socket.take(len as u64);
        while rest.read_buf(&mut frame).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    timeout(frame_timeout(len), reading).await.map_err(late)??;
    if frame.len() < len {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    Ok(frame)
}

fn frame_timeout(len: usize) -> Duration {
    FRAME_TIMEOUT * (1 + (len >> 20) as u32)
}

/// Tells or asks another node something, by its name.
pub(super) async fn ask_node(
    shared: &Shared,
    to: &Arc<str>,
    address: Option<SocketAddr>,
    purpose: Purpose,
) -> Result<Option<Vec<u8>>, String> {
    let address = address.ok_or_else(|| format!("the node {to} is not known"))?;
    let answer = ask(shared, address, purpose).await;
    answer.map_err(|error| format!("{to} ({address}): {error}"))
}
