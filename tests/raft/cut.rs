//! A directory whose power fails before one of the steps that make something durable.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::future::BoxFuture;
use quorate::raft::volume::{DiskVolume, Space, Volume, VolumeReader, VolumeWriter};
use quorate::tasks::Tasks;
use redb::StorageBackend;
use tokio::time::{Duration, sleep};

/// Counts the syncs and renames down to the one before which everything fails.
#[derive(Debug, Clone)]
struct Fuse(Arc<AtomicI64>);

impl Fuse {
    /// One step; fails when the power is off.
    fn step(&self) -> io::Result<()> {
        if self.0.fetch_sub(1, Ordering::AcqRel) > 0 { Ok(()) } else { Err(io::Error::other("the power is off")) }
    }

    fn alive(&self) -> io::Result<()> {
        if self.is_blown() { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn is_blown(&self) -> bool {
        self.left() < 0
    }

    fn left(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The directory of one member.
pub struct CutVolume {
    disk: Arc<DiskVolume>,
    fuse: Fuse,
}

impl CutVolume {
    /// After so many steps the power fails.
    pub fn new(disk: Arc<DiskVolume>, steps: i64) -> Self {
        Self { disk, fuse: Fuse(Arc::new(AtomicI64::new(steps))) }
    }

    /// Whether the power has failed.
    pub fn is_cut(&self) -> bool {
        self.fuse.is_blown()
    }

    /// Waits until nothing has been made durable for a while.
    pub async fn rest(&self) {
        let mut before = None;
        loop {
            let left = self.fuse.left();
            if before == Some(left) {
                return;
            }
            before = Some(left);
            sleep(Duration::from_millis(200)).await;
        }
    }
}

impl fmt::Debug for CutVolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} with {:?}", self.disk, self.fuse)
    }
}

impl Volume for CutVolume {
    fn backend(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        self.fuse.alive()?;
        Ok(Box::new(CutBackend { file: self.disk.backend(name)?, fuse: self.fuse.clone() }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn VolumeWriter>> {
        self.fuse.alive()?;
        Ok(Box::new(CutWriter { file: self.disk.create(name)?, fuse: self.fuse.clone() }))
    }

    fn open(&self, name: &str) -> io::Result<Option<Box<dyn VolumeReader>>> {
        self.fuse.alive()?;
        self.disk.open(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.fuse.step()?;
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.fuse.alive()?;
        self.disk.remove(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.fuse.alive()?;
        self.disk.names()
    }

    fn set_aside(&self, name: &str, directory: &str) -> io::Result<()> {
        self.fuse.step()?;
        self.disk.set_aside(name, directory)
    }

    fn directories(&self) -> io::Result<Vec<String>> {
        self.fuse.alive()?;
        self.disk.directories()
    }

    fn remove_directory(&self, directory: &str) -> io::Result<()> {
        self.fuse.step()?;
        self.disk.remove_directory(directory)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.fuse.step()?;
        self.disk.sync_directory()
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }

    fn run_writer(&self, name: &'static str, tasks: &Tasks, writer: BoxFuture<'static, ()>) {
        self.disk.run_writer(name, tasks, writer);
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        self.disk.run_blocking(work);
    }
}

struct CutWriter {
    file: Box<dyn VolumeWriter>,
    fuse: Fuse,
}

impl VolumeWriter for CutWriter {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.fuse.alive()?;
        self.file.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.fuse.step()?;
        self.file.sync()
    }
}

#[derive(Debug)]
struct CutBackend {
    file: Box<dyn StorageBackend>,
    fuse: Fuse,
}

impl StorageBackend for CutBackend {
    fn len(&self) -> io::Result<u64> {
        self.fuse.alive()?;
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.fuse.alive()?;
        self.file.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.fuse.alive()?;
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fuse.step()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.fuse.alive()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
