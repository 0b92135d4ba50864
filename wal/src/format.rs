//! Numbers of the on-disk format, as in FORMAT.md.

/// Version of the segment format and of every frame kind.
pub const VERSION: u8 = 1;
/// Version of the segment format where only parts of the segment are kept, as a map says.
pub const THINNED_VERSION: u8 = 2;
/// First bytes of a segment file.
pub const SEGMENT_MAGIC: [u8; 8] = *b"RSCRWAL1";
/// Last bytes of a closed segment file.
pub const TRAILER_MAGIC: [u8; 8] = *b"RSCREND1";
/// Third byte of every frame header's second word.
pub const FRAME_MAGIC: u8 = 0xa7;
/// Size of one copy of the segment header (bytes); the file begins with two.
pub const SEGMENT_HEADER_BYTES: usize = 64;
/// Offset of the first frame.
pub const FRAMES_START: u32 = 128;
/// Size of a frame header, and the alignment of frames and payloads (bytes).
pub const FRAME_ALIGN: usize = 16;
/// Size of the trailer frame with its header (bytes).
pub const TRAILER_FRAME_BYTES: u32 = 32;
/// Largest payload of a definition or index once decompressed (bytes). A larger one is not written.
pub const DEFINITION_BYTES_MAX: usize = 256 << 20;
/// Largest payload of any frame (bytes). A larger one is not written.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 30;
/// Largest offset of a frame's end (bytes).
pub const SEGMENT_BYTES_LIMIT: u32 = 0xf000_0000;
/// Largest size of a segment file that is looked at (bytes).
pub const FILE_BYTES_LIMIT: u32 = 0xffff_0000;
/// Flag of a frame: the payload is a zstd frame that holds its decompressed size.
pub const FLAG_ZSTD: u8 = 1;
/// Offset of the second slot of a cursor file, and the largest size of a slot (bytes), until that
/// is too small.
pub const CURSOR_SLOT_BYTES: usize = 1 << 20;
/// How often that doubles at most, where there are very many endpoints.
pub const CURSOR_SLOT_DOUBLINGS_MAX: u32 = 6;
/// Name of the cursor file in a shard's directory.
pub const CURSOR_FILE: &str = "cursors";
/// Name of the file with which a disk is tried that has failed.
pub const TRIAL_FILE: &str = "trial";
/// Name of the directory for damaged bytes in a shard's directory.
pub const QUARANTINE_DIR: &str = "quarantine";
/// First bytes of a cursor slot.
pub const CURSOR_MAGIC: [u8; 8] = *b"RSCRCUR1";

const _: () = assert!(2 * SEGMENT_HEADER_BYTES == FRAMES_START as usize);
const _: () = assert!(SEGMENT_HEADER_BYTES.is_multiple_of(FRAME_ALIGN));

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A target's labels and key.
    Target = 1,
    /// A block of series and metadata.
    Block = 2,
    /// A list of runs of blocks.
    Layout = 3,
    /// A set of endpoints.
    Route = 4,
    /// One scrape.
    Record = 5,
    /// What the segment holds, at its end.
    Index = 6,
    /// Where the index is; the file's last bytes.
    Trailer = 7,
    /// Which parts of a thinned segment its file holds; never among the frames of a segment.
    Map = 8,
}

/// One more than the highest `Kind`.
pub const KINDS: usize = 9;

impl Kind {
    /// The kind numbered `byte`.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Target,
            2 => Self::Block,
            3 => Self::Layout,
            4 => Self::Route,
            5 => Self::Record,
            6 => Self::Index,
            7 => Self::Trailer,
            8 => Self::Map,
            _ => return None,
        })
    }
}
