//! What the ring's driver knows of one connection, and the bytes that came for it.

use io_uring::types::RecvMsgOut;
use socket2::{SockAddr, Socket};

/// Room for control messages in each receive buffer: one with a timespec.
pub(super) const CONTROL_BYTES: usize = 64;

/// No buffer follows.
const NONE: u16 = u16::MAX;

/// What a filled buffer holds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Chunk {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) arrival_unix_ns: Option<i64>,
    next: u16,
}

/// What the kernel watches a connection with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Armed {
    No,
    Receive,
    Poll,
}

/// Whether a connection has come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connecting {
    No,
    Yes,
    /// `errno` of the connect.
    Failed(i32),
}

/// One connection, or what is left of it while operations are under way.
#[derive(Debug)]
pub(super) struct Slot {
    /// `None`: closed, nothing names the descriptor any more.
    pub(super) socket: Option<Socket>,
    /// The fetcher is done with it; it waits for its operations only.
    pub(super) is_closed: bool,
    pub(super) token: u64,
    /// Connected to; stays until the kernel has answered.
    pub(super) address: Option<Box<SockAddr>>,
    pub(super) connecting: Connecting,
    /// What is being sent; stays until the kernel has answered.
    pub(super) sending: Vec<u8>,
    /// A send was refused meanwhile.
    pub(super) wants_to_send: bool,
    pub(super) armed: Armed,
    /// Operations that the kernel has not answered for good.
    pub(super) operations: u32,
    /// The submission count when the last one was queued.
    queued_at: u64,
    /// The connection failed; `errno`.
    pub(super) error: Option<i32>,
    /// The peer has closed its side.
    pub(super) ended: bool,
    /// First and last of the filled buffers.
    first: u16,
    last: u16,
}

impl Slot {
    /// A connection being made.
    pub(super) fn new(socket: Socket, token: u64, address: Box<SockAddr>) -> Slot {
        Slot {
            socket: Some(socket),
            is_closed: false,
            token,
            address: Some(address),
            connecting: Connecting::Yes,
            sending: Vec::new(),
            wants_to_send: false,
            armed: Armed::No,
            operations: 0,
            queued_at: 0,
            error: None,
            ended: false,
            first: NONE,
            last: NONE,
        }
    }

    /// Counts an operation queued after so many submissions.
    pub(super) fn note_operation(&mut self, submissions: u64) {
        self.operations += 1;
        self.queued_at = submissions;
    }

    /// Whether an operation may be queued and not submitted.
    pub(super) fn queued_since(&self, submissions: u64) -> bool {
        self.operations > 0 && self.queued_at == submissions
    }

    /// Nothing has come that was not taken.
    pub(super) fn is_quiet(&self) -> bool {
        self.first == NONE && !self.ended && self.error.is_none()
    }

    /// Takes a filled buffer.
    pub(super) fn append(&mut self, buffer: u16, chunk: Chunk, chunks: &mut [Chunk]) {
        chunks[usize::from(buffer)] = Chunk {
            next: NONE,
            ..chunk
        };
        match self.last {
            NONE => self.first = buffer,
            last => chunks[usize::from(last)].next = buffer,
        }
        self.last = buffer;
    }

    /// Gives the first filled buffer.
    pub(super) fn pop(&mut self, chunks: &[Chunk]) -> Option<(u16, Chunk)> {
        let buffer = self.first;
        if buffer == NONE {
            return None;
        }
        let chunk = chunks[usize::from(buffer)];
        self.first = chunk.next;
        if self.first == NONE {
            self.last = NONE;
        }
        Some((buffer, chunk))
    }
}

/// Reads what the kernel wrote into a receive buffer: a header, control messages, bytes.
pub(super) fn chunk_of(content: &[u8]) -> Option<Chunk> {
    // SAFETY: msghdr is plain data, for which all zeros is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_controllen = CONTROL_BYTES as _;
    let out = RecvMsgOut::parse(content, &message).ok()?;
    let bytes = out.payload_data().len();
    Some(Chunk {
        start: (content.len() - bytes) as u32,
        end: content.len() as u32,
        arrival_unix_ns: arrival(out.control_data()),
        next: NONE,
    })
}

/// The time in the first control message, if it is one (cmsg(3), socket(7)).
fn arrival(control: &[u8]) -> Option<i64> {
    const HEADER_BYTES: usize = size_of::<libc::cmsghdr>();
    let number = |at: usize| {
        let bytes = control.get(at..at + 4)?;
        Some(i32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let level = number(std::mem::offset_of!(libc::cmsghdr, cmsg_level))?;
    let kind = number(std::mem::offset_of!(libc::cmsghdr, cmsg_type))?;
    if (level, kind) != (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
        return None;
    }
    let time = control.get(HEADER_BYTES..HEADER_BYTES + size_of::<libc::timespec>())?;
    // SAFETY: as many bytes as a timespec has, which is plain data.
    let time: libc::timespec = unsafe { time.as_ptr().cast::<libc::timespec>().read_unaligned() };
    time.tv_sec
        .checked_mul(1_000_000_000)?
        .checked_add(time.tv_nsec)
}
