//! A directory on a disk that can be made slow at any moment.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use futures::future::BoxFuture;
use quorate::raft::volume::{DiskVolume, Space, Volume, VolumeReader, VolumeWriter};
use quorate::tasks::Tasks;
use redb::StorageBackend;
use tokio::time::Instant;

/// After what time a disk that has become fast again is.
const MOMENT: Duration = Duration::from_millis(10);

/// How much longer each sync of a log takes, in milliseconds. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Slowness(Arc<AtomicU64>);

impl Slowness {
    pub fn set(&self, longer: Duration) {
        self.0.store(longer.as_millis().try_into().unwrap(), Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    /// Waits for as long as it is that slow.
    fn suffer(&self) {
        let began = Instant::now();
        while let Some(rest) = self.get().checked_sub(began.elapsed()).filter(|rest| !rest.is_zero()) {
            #[expect(clippy::disallowed_methods, reason = "a disk does it so, in the thread that writes the log")]
            thread::sleep(rest.min(MOMENT));
        }
    }
}

/// The directory of one member.
pub struct SlowVolume {
    disk: Arc<DiskVolume>,
    slowness: Slowness,
}

impl SlowVolume {
    pub fn new(disk: Arc<DiskVolume>, slowness: &Slowness) -> Self {
        Self { disk, slowness: slowness.clone() }
    }
}

impl fmt::Debug for SlowVolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} with {:?}", self.disk, self.slowness)
    }
}

impl Volume for SlowVolume {
    fn backend(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(SlowBackend { file: self.disk.backend(name)?, slowness: self.slowness.clone() }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn VolumeWriter>> {
        self.disk.create(name)
    }

    fn open(&self, name: &str) -> io::Result<Option<Box<dyn VolumeReader>>> {
        self.disk.open(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.disk.names()
    }

    fn set_aside(&self, name: &str, directory: &str) -> io::Result<()> {
        self.disk.set_aside(name, directory)
    }

    fn directories(&self) -> io::Result<Vec<String>> {
        self.disk.directories()
    }

    fn remove_directory(&self, directory: &str) -> io::Result<()> {
        self.disk.remove_directory(directory)
    }

    fn sync_directory(&self) -> io::Result<()> {
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

#[derive(Debug)]
struct SlowBackend {
    file: Box<dyn StorageBackend>,
    slowness: Slowness,
}

impl StorageBackend for SlowBackend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.slowness.suffer();
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
