//! A disk in memory that keeps what a process sees and what a power cut leaves apart.
//!
//! Bytes written and not synced may reach the disk or not, each sector or part of one by itself and
//! in any order, and where a file grew without them zeros or old bytes may stand. Names made,
//! changed and removed hold when their directory was synced; before, each may or may not. A sync
//! that fails drops the bytes it was for: the process goes on seeing them, and a second sync says
//! that all is well.

use super::image::{Change, Content, DIRECTORY, Faults, Random, State};
use crate::log::disk::{Disk, Failed};
use ringscrape_wal::error::WriteFailure;
use ringscrape_wal::storage::{FileEntry, Storage, StorageFile};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::{Duration, Instant};

/// A disk; clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct TestDisk(Arc<Mutex<State>>);

/// A file of it that is open for writing, by inode.
#[derive(Debug)]
pub(super) struct TestFile(usize);

impl TestDisk {
    pub(super) fn new(seed: u64) -> Self {
        Self::with(
            Random::new(seed),
            Vec::new(),
            BTreeMap::from(["/", "/data"].map(|dir| (dir.into(), DIRECTORY))),
        )
    }

    fn with(random: Random, files: Vec<Content>, names: BTreeMap<PathBuf, usize>) -> Self {
        Self(Arc::new(Mutex::new(State {
            random,
            faults: Faults::default(),
            files,
            durable_names: names.clone(),
            names,
            unsynced_names: Vec::new(),
            operations: 0,
            cut_at: None,
            cut: false,
            now: Instant::now(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Power goes with the operation of this number; before or after it has had its effect.
    pub(super) fn cut_at(&self, operation: u64) {
        self.state().cut_at = Some(operation);
    }

    /// Whether power is gone: nothing completes any more.
    pub(super) fn is_cut(&self) -> bool {
        self.state().cut
    }

    pub(super) fn operations(&self) -> u64 {
        self.state().operations
    }

    pub(super) fn advance(&self, time: Duration) {
        self.state().now += time;
    }

    /// All names.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// The bytes that a process sees in a file.
    pub(super) fn get(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let inode = *state.names.get(path)?;
        Some(state.files.get(inode)?.seen.clone())
    }

    /// Makes a file hold these bytes, on disk.
    pub(super) fn set(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.state();
        for dir in path.ancestors().skip(1) {
            state.names.insert(dir.into(), DIRECTORY);
            state.durable_names.insert(dir.into(), DIRECTORY);
        }
        let inode = state.files.len();
        state.files.push(Content::of(bytes));
        state.names.insert(path.into(), inode);
        state.durable_names.insert(path.into(), inode);
    }

    /// What a process finds that is started after a kill of this one: all that was written.
    pub(super) fn after_kill(&self) -> Self {
        let state = self.state();
        let copy = Self::with(state.random.clone(), state.files.clone(), BTreeMap::new());
        {
            let mut other = copy.state();
            other.names.clone_from(&state.names);
            other.durable_names.clone_from(&state.durable_names);
            other.unsynced_names.clone_from(&state.unsynced_names);
            other.now = state.now;
        }
        copy
    }

    /// What a process finds after a power cut.
    pub(super) fn after_power_cut(&self) -> Self {
        let mut state = self.state();
        let (random, files, names) = state.left();
        let image = Self::with(random, files, names);
        image.state().now = state.now;
        image
    }

    /// Waits as long as the disk feels like; for ever once power is gone.
    async fn pass(&self) {
        let mut left = self.state().random.below(4);
        poll_fn(|_| {
            if self.is_cut() || left > 0 {
                left = left.saturating_sub(1);
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// One operation: a wait, its effect, a wait. Power may go at either end of the effect.
    async fn operate<T>(&self, effect: impl FnOnce(&mut State) -> T) -> T {
        self.pass().await;
        let result = {
            let mut state = self.state();
            state.operations += 1;
            let cuts = state.cut_at == Some(state.operations);
            if cuts && state.random.one_in(2) {
                state.cut = true;
                None
            } else {
                let result = effect(&mut state);
                state.cut = cuts;
                Some(result)
            }
        };
        self.pass().await;
        result.expect("BUG: nothing completes without power")
    }
}

impl Disk for TestDisk {
    type File = TestFile;

    async fn create_new(&self, path: &Path) -> Result<TestFile, Failed> {
        let create = |state: &mut State| match state.names.contains_key(path) {
            true => Err(io::ErrorKind::AlreadyExists.into()),
            false => state.create(path),
        };
        Ok(TestFile(self.operate(create).await?))
    }

    async fn open_or_create(&self, path: &Path) -> Result<TestFile, Failed> {
        let open = |state: &mut State| match state.names.get(path) {
            Some(inode) => state.writable().map(|()| *inode),
            None => state.create(path),
        };
        Ok(TestFile(self.operate(open).await?))
    }

    async fn write_at(
        &self,
        file: &TestFile,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<usize, Failed> {
        let write = |state: &mut State| state.write(file.0, offset as usize, &bytes);
        Ok(self.operate(write).await?)
    }

    async fn sync(&self, file: &TestFile) -> Result<(), Failed> {
        let synced = self.operate(|state| state.sync(file.0)).await;
        synced.map_err(|error| Failed::of(WriteFailure::Sync, error))
    }

    async fn sync_dir(&self, dir: &Path) -> Result<(), Failed> {
        let synced = self.operate(|state| state.sync_dir(dir)).await;
        synced.map_err(|error| Failed::of(WriteFailure::Sync, error))
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.operate(|state| state.remove(path)).await
    }

    async fn close(&self, _: TestFile) {
        self.pass().await;
    }

    /// Power goes in the middle of it too: what comes after does nothing, and nobody hears of it.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Storage) -> T + Send + 'static,
    ) -> T {
        self.pass().await;
        let result = work(self);
        self.pass().await;
        result
    }

    async fn sleep(&self, time: Duration) {
        let until = self.now() + time;
        poll_fn(|_| match !self.is_cut() && self.now() >= until {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    fn now(&self) -> Instant {
        self.state().now
    }
}

impl TestDisk {
    /// An operation that blocks: as `operate`, but without waiting.
    fn now_or_never<T>(&self, effect: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        let lost = || Err(io::Error::other("power is gone"));
        state.operations += 1;
        let cuts = state.cut_at == Some(state.operations);
        if state.cut || (cuts && state.random.one_in(2)) {
            state.cut = true;
            return lost();
        }
        let result = effect(&mut state);
        state.cut = cuts;
        if cuts { lost() } else { result }
    }
}

impl Storage for TestDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<FileEntry>> {
        let state = self.state();
        let inside = state
            .names
            .iter()
            .filter(|(path, _)| path.parent() == Some(dir));
        let entry = |(path, inode): (&PathBuf, &usize)| FileEntry {
            name: path.file_name().unwrap().to_string_lossy().into_owned(),
            bytes: state
                .files
                .get(*inode)
                .map_or(0, |file| file.seen.len() as u64),
            is_dir: *inode == DIRECTORY,
        };
        Ok(inside.map(entry).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let inode = self.state().inode(path)?;
        Ok(Box::new(OpenTestFile(self.clone(), inode)))
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut dirs: Vec<&Path> = dir.ancestors().collect();
        dirs.reverse();
        for dir in dirs {
            if self.state().names.contains_key(dir) {
                continue;
            }
            self.now_or_never(|state| {
                state.writable()?;
                state.name(vec![(dir.into(), Some(DIRECTORY))]);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let inode = self.now_or_never(|state| match state.names.get(path) {
            Some(inode) => state.writable().map(|()| *inode),
            None => state.create(path),
        })?;
        self.now_or_never(|state| state.write(inode, offset as usize, bytes))?;
        self.now_or_never(|state| state.sync(inode))
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let inode = self.now_or_never(|state| {
            state.writable()?;
            let inode = state.inode(path)?;
            let content = &mut state.files[inode];
            content.seen.resize(bytes as usize, 0);
            content.unsynced.push(Change::Truncate(bytes as usize));
            Ok(inode)
        })?;
        self.now_or_never(|state| state.sync(inode))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.now_or_never(|state| {
            state.writable()?;
            let inode = state.inode(from)?;
            state.name(vec![(from.into(), None), (to.into(), Some(inode))]);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.now_or_never(|state| state.remove(path))
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.now_or_never(|state| state.remove(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.now_or_never(|state| state.sync_dir(dir))
    }
}

#[derive(Debug)]
struct OpenTestFile(TestDisk, usize);

impl StorageFile for OpenTestFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.0.state();
        let file = &state.files[self.1].seen;
        let from = (offset as usize).min(file.len());
        let count = buffer.len().min(file.len() - from);
        buffer[..count].copy_from_slice(&file[from..from + count]);
        Ok(count)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.state().files[self.1].seen.len() as u64)
    }
}
