//! What a process sees of files and names, and what a power cut leaves of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

const SECTOR_BYTES: usize = 512;
/// The inode of every directory.
pub(super) const DIRECTORY: usize = usize::MAX;

/// Numbers from a seed. Source: xorshift64*, Vigna 2016.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            random.next();
        }
        random
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// True once in `count` times.
    pub(super) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// What goes wrong: each once in so many operations; 0 never.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) write_fails_in: u64,
    pub(super) sync_fails_in: u64,
    /// No file can be made, changed or removed.
    pub(super) read_only: bool,
    /// Bytes that all files may hold together.
    pub(super) space_bytes: Option<u64>,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    pub(super) seen: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// From `durable` on, what may have reached the disk.
    pub(super) unsynced: Vec<Change>,
}

/// One step of a directory: names and what they mean from then on.
pub(super) type Naming = Vec<(PathBuf, Option<usize>)>;

#[derive(Debug)]
pub(super) struct State {
    pub(super) random: Random,
    pub(super) faults: Faults,
    pub(super) files: Vec<Content>,
    pub(super) names: BTreeMap<PathBuf, usize>,
    pub(super) durable_names: BTreeMap<PathBuf, usize>,
    pub(super) unsynced_names: Vec<Naming>,
    /// Operations so far, and the one at which power goes.
    pub(super) operations: u64,
    pub(super) cut_at: Option<u64>,
    pub(super) cut: bool,
    pub(super) now: Instant,
}

fn rename(names: &mut BTreeMap<PathBuf, usize>, naming: &Naming) {
    for (path, inode) in naming {
        match inode {
            Some(inode) => names.insert(path.clone(), *inode),
            None => names.remove(path),
        };
    }
}

impl Content {
    /// A file with these bytes on disk.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self {
            seen: bytes.clone(),
            durable: bytes,
            unsynced: Vec::new(),
        }
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        put(&mut self.seen, offset, bytes);
        self.unsynced.push(Change::Write(offset, bytes.to_vec()));
    }

    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            match change {
                Change::Write(offset, bytes) => put(&mut self.durable, offset, &bytes),
                Change::Truncate(len) => self.durable.resize(len, 0),
            }
        }
    }

    /// What a power cut leaves.
    fn left(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let keeps = random.below(4);
        for change in &self.unsynced {
            match change {
                _ if keeps == 0 => {}
                Change::Truncate(len) if random.one_in(2) => bytes.resize(*len, 0),
                Change::Truncate(_) => {}
                Change::Write(offset, written) => {
                    let whole = keeps == 3 || random.one_in(3);
                    let len = match random.below(3) {
                        _ if whole => written.len(),
                        0 => random.below(written.len() as u64 + 1) as usize,
                        _ => written.len(),
                    };
                    if !whole && random.one_in(2) && bytes.len() < offset + len {
                        // The file has grown, and the bytes have not come.
                        let old = if random.one_in(2) { 0 } else { 0x5a };
                        bytes.resize(offset + len, old);
                    }
                    let mut at = 0;
                    while at < len {
                        let end = len.min(at + SECTOR_BYTES - (offset + at) % SECTOR_BYTES);
                        if whole || random.one_in(2) {
                            put(&mut bytes, offset + at, &written[at..end]);
                        }
                        at = end;
                    }
                }
            }
        }
        bytes
    }
}

fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

impl State {
    /// What a power cut leaves.
    pub(super) fn left(&mut self) -> (Random, Vec<Content>, BTreeMap<PathBuf, usize>) {
        let mut random = Random::new(self.random.next());
        let mut names = self.durable_names.clone();
        let mut held_back = BTreeSet::new();
        let keeps = random.below(3);
        for naming in &self.unsynced_names {
            // Of one name an earlier change is on disk when a later one is.
            let waits = naming.iter().any(|(path, _)| held_back.contains(path));
            if !waits && (keeps == 2 || (keeps == 1 && random.one_in(2))) {
                rename(&mut names, naming);
            } else {
                held_back.extend(naming.iter().map(|(path, _)| path.clone()));
            }
        }
        let there = names.clone();
        names.retain(|path, _| {
            let mut dirs = path.ancestors().skip(1);
            dirs.all(|dir| there.get(dir) == Some(&DIRECTORY))
        });
        let files = self
            .files
            .iter()
            .map(|content| Content::of(content.left(&mut random)))
            .collect();
        (random, files, names)
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let inodes: BTreeSet<usize> = self.names.values().copied().collect();
        let files = inodes.iter().filter_map(|inode| self.files.get(*inode));
        files.map(|content| content.seen.len() as u64).sum()
    }

    pub(super) fn name(&mut self, naming: Naming) {
        rename(&mut self.names, &naming);
        self.unsynced_names.push(naming);
    }

    pub(super) fn inode(&self, path: &Path) -> io::Result<usize> {
        let inode = self.names.get(path).copied();
        inode.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn writable(&self) -> io::Result<()> {
        match self.faults.read_only {
            true => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            false => Ok(()),
        }
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<usize> {
        self.writable()?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        if self.names.get(dir) != Some(&DIRECTORY) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inode = self.files.len();
        self.files.push(Content::default());
        self.name(vec![(path.into(), Some(inode))]);
        Ok(inode)
    }

    pub(super) fn write(&mut self, inode: usize, offset: usize, bytes: &[u8]) -> io::Result<usize> {
        self.writable()?;
        let faults = self.faults;
        if faults.write_fails_in > 0 && self.random.one_in(faults.write_fails_in) {
            let some = self.random.below(bytes.len() as u64) as usize;
            self.files[inode].write(offset, &bytes[..some]);
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let mut len = bytes.len();
        if let Some(space) = faults.space_bytes {
            let grows = (offset + len).saturating_sub(self.files[inode].seen.len());
            let free = space.saturating_sub(self.used_bytes()) as usize;
            if grows > free {
                len = (len + free).saturating_sub(grows);
            }
            if len == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        self.files[inode].write(offset, &bytes[..len]);
        Ok(len)
    }

    pub(super) fn sync(&mut self, inode: usize) -> io::Result<()> {
        let faults = self.faults;
        let content = &mut self.files[inode];
        if faults.sync_fails_in > 0 && self.random.one_in(faults.sync_fails_in) {
            content.durable = content.left(&mut self.random);
            content.unsynced.clear();
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        content.sync();
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.inode(dir)?;
        let mut left = Vec::new();
        for naming in std::mem::take(&mut self.unsynced_names) {
            if naming.iter().any(|(path, _)| path.parent() == Some(dir)) {
                rename(&mut self.durable_names, &naming);
            } else {
                left.push(naming);
            }
        }
        self.unsynced_names = left;
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.writable()?;
        self.inode(path)?;
        self.name(vec![(path.into(), None)]);
        Ok(())
    }
}
