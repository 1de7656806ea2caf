//! A volume in memory whose power can fail: of what was written and not synced, any part may be lost or torn.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::future::BoxFuture;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use redb::StorageBackend;

use crate::raft::volume::{Space, Volume, VolumeReader, VolumeWriter};
use crate::tasks::{Exit, Tasks};

/// What a disk writes at once.
const SECTOR: usize = 512;

#[derive(Debug, Clone, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// Writes since the last sync.
    pending: Vec<(usize, Vec<u8>)>,
    /// Lengths that were set since the last sync; the file has one of them afterwards, or the one before.
    lengths: Vec<usize>,
}

#[derive(Debug, Default)]
struct Disk {
    files: BTreeMap<String, Arc<Mutex<Content>>>,
    /// The directory as it was synced last.
    synced: BTreeMap<String, Arc<Mutex<Content>>>,
    operations: u64,
    fails_at: Option<u64>,
    syncs: u64,
    written: u64,
}

impl Disk {
    fn step(&mut self) -> io::Result<()> {
        self.operations += 1;
        match self.fails_at {
            Some(end) if self.operations >= end => Err(io::Error::other("the power is off")),
            Some(_) | None => Ok(()),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(in crate::raft) struct MemoryVolume(Arc<Mutex<Disk>>);

impl MemoryVolume {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    /// The power fails at the `count`th operation from now.
    pub(in crate::raft) fn fail_after(&self, count: u64) {
        let mut disk = self.disk();
        disk.fails_at = Some(disk.operations + count);
    }

    /// How many syncs of files there were.
    pub(super) fn syncs(&self) -> u64 {
        self.disk().syncs
    }

    /// How many bytes were written to files.
    pub(super) fn written(&self) -> u64 {
        self.disk().written
    }

    /// What is found when the power is back: what was synced, and any part of the rest.
    pub(in crate::raft) fn after_power_loss(&self, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let disk = self.disk();
        let kept = [0.0, 0.1, 0.5, 0.9, 1.0][random.random_range(0..5)];
        let directory = if random.random_bool(0.5) { &disk.synced } else { &disk.files };
        let mut files = BTreeMap::new();
        for (name, content) in directory {
            let content = content.lock().unwrap();
            let mut bytes = content.synced.clone();
            for (offset, written) in &content.pending {
                keep_sectors(&mut bytes, *offset, written, |_| random.random_bool(kept));
            }
            if let Some(last) = content.lengths.last() {
                bytes.resize(if random.random_bool(0.5) { *last } else { content.synced.len() }, 0);
            }
            let content = Content { now: bytes.clone(), synced: bytes, ..Content::default() };
            files.insert(name.clone(), Arc::new(Mutex::new(content)));
        }
        Self(Arc::new(Mutex::new(Disk { synced: files.clone(), files, ..Disk::default() })))
    }

    /// The bytes of a file.
    pub(in crate::raft) fn bytes(&self, name: &str) -> Vec<u8> {
        self.disk().files[name].lock().unwrap().now.clone()
    }

    /// A volume with one file of these bytes.
    pub(super) fn with_file(name: &str, bytes: Vec<u8>) -> Self {
        Self::with_files([(name, bytes)])
    }

    /// A volume with files of these bytes.
    pub(super) fn with_files<'a>(files: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Self {
        let content = |bytes: Vec<u8>| Content { now: bytes.clone(), synced: bytes, ..Content::default() };
        let files: BTreeMap<_, _> =
            files.into_iter().map(|(name, bytes)| (name.to_owned(), Arc::new(Mutex::new(content(bytes))))).collect();
        Self(Arc::new(Mutex::new(Disk { synced: files.clone(), files, ..Disk::default() })))
    }

    fn file(&self, content: &Arc<Mutex<Content>>) -> MemoryFile {
        MemoryFile { disk: Arc::clone(&self.0), content: Arc::clone(content) }
    }
}

/// Copies those sectors of a write that reached the disk.
fn keep_sectors(bytes: &mut Vec<u8>, offset: usize, written: &[u8], mut keep: impl FnMut(usize) -> bool) {
    let mut at = 0;
    while at < written.len() {
        let length = (SECTOR - (offset + at) % SECTOR).min(written.len() - at);
        if keep(offset + at) {
            let end = offset + at + length;
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[offset + at..end].copy_from_slice(&written[at..at + length]);
        }
        at += length;
    }
}

impl Volume for MemoryVolume {
    fn backend(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let content = Arc::clone(self.disk().files.entry(name.to_owned()).or_default());
        Ok(Box::new(self.file(&content)))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn VolumeWriter>> {
        let content = Arc::new(Mutex::default());
        self.disk().step()?;
        self.disk().files.insert(name.to_owned(), Arc::clone(&content));
        Ok(Box::new(self.file(&content)))
    }

    fn open(&self, name: &str) -> io::Result<Option<Box<dyn VolumeReader>>> {
        let content = self.disk().files.get(name).cloned();
        Ok(content.map(|content| Box::new(self.file(&content)) as Box<dyn VolumeReader>))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        let content = disk.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        disk.files.remove(name);
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.disk().files.keys().filter(|name| !name.contains('/')).cloned().collect())
    }

    fn set_aside(&self, name: &str, directory: &str) -> io::Result<()> {
        self.rename(name, &format!("{directory}/{name}"))?;
        self.sync_directory()
    }

    fn directories(&self) -> io::Result<Vec<String>> {
        let disk = self.disk();
        let mut names: Vec<_> = disk.files.keys().filter_map(|name| Some(name.split_once('/')?.0.to_owned())).collect();
        names.dedup();
        Ok(names)
    }

    fn remove_directory(&self, directory: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        disk.files.retain(|name, _| !name.starts_with(&format!("{directory}/")));
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.step()?;
        disk.synced = disk.files.clone();
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        Ok(Space { free: u64::MAX, total: u64::MAX })
    }

    fn run_writer(&self, name: &'static str, tasks: &Tasks, writer: BoxFuture<'static, ()>) {
        tasks.spawn(name, Exit::Normal, writer);
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: Arc<Mutex<Disk>>,
    content: Arc<Mutex<Content>>,
}

impl MemoryFile {
    fn step(&self) -> io::Result<MutexGuard<'_, Content>> {
        self.disk.lock().unwrap().step()?;
        Ok(self.content.lock().unwrap())
    }

    fn sync_content(&self) -> io::Result<()> {
        let mut content = self.step()?;
        content.synced = content.now.clone();
        content.pending.clear();
        content.lengths.clear();
        drop(content);
        self.disk.lock().unwrap().syncs += 1;
        Ok(())
    }

    fn write_at(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let mut content = self.step()?;
        keep_sectors(&mut content.now, offset, bytes, |_| true);
        content.pending.push((offset, bytes.to_vec()));
        drop(content);
        self.disk.lock().unwrap().written += bytes.len() as u64;
        Ok(())
    }

    fn length(&self) -> u64 {
        self.content.lock().unwrap().now.len() as u64
    }

    fn fill(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let content = self.content.lock().unwrap();
        let offset = usize::try_from(offset).unwrap();
        let bytes = content.now.get(offset..offset + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

impl StorageBackend for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.length())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.fill(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut content, length) = (self.step()?, usize::try_from(len).unwrap());
        content.now.resize(length, 0);
        content.lengths.push(length);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_content()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_at(usize::try_from(offset).unwrap(), data)
    }
}

impl VolumeWriter for MemoryFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_at(usize::try_from(self.length()).unwrap(), bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_content()
    }
}

impl VolumeReader for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.length())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.fill(offset, buffer)
    }
}
