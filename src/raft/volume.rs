//! The disk, as a member uses it: one flat directory that belongs to one member.
//!
//! [`Volume`] is the seam: [`DiskVolume`] is a real directory, and the simulator has one that loses and tears what was not
//! synced. The rules of durability (what is synced when, what is renamed) stand above the seam, in this module, in the log
//! store and in the snapshot store, so that both run the same ones.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use redb::StorageBackend;
use redb::backends::FileBackend;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::tasks::{Exit, Tasks};

/// A directory that one member owns while it runs.
pub trait Volume: Debug + Send + Sync + 'static {
    /// The random-access file `name` for redb, made empty when it is not there.
    ///
    /// # Errors
    /// Those of the disk.
    fn backend(&self, name: &str) -> io::Result<Box<dyn StorageBackend>>;

    /// A new, empty file `name`, written from its start; what was there is gone.
    ///
    /// # Errors
    /// Those of the disk.
    fn create(&self, name: &str) -> io::Result<Box<dyn VolumeWriter>>;

    /// The existing file `name`, or `None`.
    ///
    /// # Errors
    /// Those of the disk.
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn VolumeReader>>>;

    /// Gives a file another name and replaces what has that name; durable only after [`Volume::sync_directory`].
    ///
    /// # Errors
    /// Those of the disk.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; it is no error when it is not there.
    ///
    /// # Errors
    /// Those of the disk.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of all files, in order.
    ///
    /// # Errors
    /// Those of the disk.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Moves a file into a directory of the volume, which is made when it is not there. What is in a directory is in
    /// [`Volume::names`] no more, and only people look at it.
    ///
    /// Durable, in both directories, when it returns.
    ///
    /// # Errors
    /// Those of the disk.
    fn set_aside(&self, name: &str, directory: &str) -> io::Result<()>;

    /// The directories of the volume, in order.
    ///
    /// # Errors
    /// Those of the disk.
    fn directories(&self) -> io::Result<Vec<String>>;

    /// Removes a directory with all that is in it.
    ///
    /// # Errors
    /// Those of the disk.
    fn remove_directory(&self, directory: &str) -> io::Result<()>;

    /// Makes every creation, rename and removal so far durable.
    ///
    /// # Errors
    /// Those of the disk.
    fn sync_directory(&self) -> io::Result<()>;

    /// Bytes that can still be written, and bytes in all.
    ///
    /// # Errors
    /// Those of the disk.
    fn space(&self) -> io::Result<Space>;

    /// Runs a writer, whose file operations block, until it ends: on a thread of its own, or wherever the simulator wants.
    fn run_writer(&self, name: &'static str, tasks: &Tasks, writer: BoxFuture<'static, ()>);

    /// Runs one piece of work whose file operations block.
    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>);
}

/// Room on a volume, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub free: u64,
    pub total: u64,
}

/// A file on its way.
pub trait VolumeWriter: Send {
    /// Adds bytes at the end.
    ///
    /// # Errors
    /// Those of the disk.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the content durable.
    ///
    /// # Errors
    /// Those of the disk; the file is lost then, for a failed sync is never tried again.
    fn sync(&mut self) -> io::Result<()>;
}

/// A finished file.
pub trait VolumeReader: Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// Those of the disk.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    ///
    /// # Errors
    /// Those of the disk.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// Those of the disk, and `UnexpectedEof` when the file ends before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// The name of a file that is not finished; what has such a name at a start is removed.
pub(super) fn unfinished(name: &str) -> String {
    format!("{name}.unfinished")
}

/// Removes what a crash left unfinished, and makes what it had finished durable: a process may have ended between a rename and
/// the sync of the directory, and what is built on a name that a power loss can undo stands on nothing.
pub(super) fn tidy(volume: &dyn Volume) -> io::Result<()> {
    for name in volume.names()?.iter().filter(|name| name.ends_with(".unfinished")) {
        volume.remove(name)?;
    }
    volume.sync_directory()
}

/// Writes a small file so that a crash leaves the old or the new content, never a mixture: under another name, synced,
/// renamed, directory synced.
pub(super) fn write_atomically(volume: &dyn Volume, name: &str, content: &[u8]) -> io::Result<()> {
    let mut file = volume.create(&unfinished(name))?;
    file.append(content)?;
    file.sync()?;
    volume.rename(&unfinished(name), name)?;
    volume.sync_directory()
}

/// Reads a small file whole.
pub(super) fn read_whole(volume: &dyn Volume, name: &str) -> io::Result<Option<Bytes>> {
    let Some(file) = volume.open(name)? else { return Ok(None) };
    let length = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut content = vec![0; length];
    file.read_at(0, &mut content)?;
    Ok(Some(content.into()))
}

/// Runs `work` where it may block and waits for its result.
pub(super) async fn blocking<T: Send + 'static>(
    volume: &dyn Volume,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = oneshot::channel();
    volume.run_blocking(Box::new(move || {
        // Nobody waits any more when the receiver is gone.
        drop(sender.send(work()));
    }));
    receiver.await.map_err(|_| io::Error::other("the work on the volume was dropped or panicked"))
}

/// Why a directory cannot be a member's volume.
#[derive(Debug, Error)]
pub enum VolumeError {
    #[error(
        "cannot use {path:?} as data directory: {source}; it must exist or be creatable, and be writable by this user"
    )]
    Unusable { path: PathBuf, source: io::Error },
    #[error("the data directory {path:?} is in use by another process; one directory belongs to one member")]
    InUse { path: PathBuf },
}

/// A real directory, locked while this lives, or a file of redb's in it.
#[derive(Debug)]
pub struct DiskVolume {
    path: PathBuf,
    directory: File,
    /// Held for its lock, which ends with the process at the latest.
    lock: Arc<File>,
}

impl DiskVolume {
    /// Takes a directory, which is made when it is not there.
    ///
    /// # Errors
    /// When it cannot be written, or another process has it.
    pub fn open(path: &Path) -> Result<Arc<Self>, VolumeError> {
        let unusable = |source| VolumeError::Unusable { path: path.to_owned(), source };
        make_durably(path).map_err(unusable)?;
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(VolumeError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let directory = File::open(path).map_err(unusable)?;
        Ok(Arc::new(Self { path: path.to_owned(), directory, lock: Arc::new(lock) }))
    }
}

const LOCK: &str = "lock";

/// Makes a directory and those above it that are missing, each synced into the one that holds it: a power loss must not take
/// away the directory with everything that was synced inside.
fn make_durably(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = match path.parent() {
        Some(above) if above != Path::new("") => above,
        Some(_) | None => Path::new("."),
    };
    make_durably(above)?;
    match fs::create_dir(path) {
        // Another process has been faster, or a file is in the way, which shows when it is used.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    File::open(above)?.sync_all()
}

impl Volume for DiskVolume {
    fn backend(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(self.path.join(name))?;
        let file = FileBackend::new(file).map_err(io::Error::other)?;
        Ok(Box::new(DiskBackend { file, _lock: Arc::clone(&self.lock) }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn VolumeWriter>> {
        Ok(Box::new(DiskWriter(File::create(self.path.join(name))?)))
    }

    fn open(&self, name: &str) -> io::Result<Option<Box<dyn VolumeReader>>> {
        match File::open(self.path.join(name)) {
            Ok(file) => Ok(Some(Box::new(DiskReader(file)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                names.extend(entry.file_name().into_string().ok().filter(|name| name != LOCK));
            }
        }
        names.sort();
        Ok(names)
    }

    fn set_aside(&self, name: &str, directory: &str) -> io::Result<()> {
        let inside = self.path.join(directory);
        make_durably(&inside)?;
        fs::rename(self.path.join(name), inside.join(name))?;
        // The file must be in one of them at any time.
        File::open(&inside)?.sync_all()?;
        self.directory.sync_all()
    }

    fn directories(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.extend(entry.file_name().into_string().ok());
            }
        }
        names.sort();
        Ok(names)
    }

    fn remove_directory(&self, directory: &str) -> io::Result<()> {
        fs::remove_dir_all(self.path.join(directory))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::fstatvfs(&self.directory)?;
        Ok(Space { free: stat.f_bavail * stat.f_frsize, total: stat.f_blocks * stat.f_frsize })
    }

    /// On a thread of its own; the task that stands for it ends with the thread.
    fn run_writer(&self, name: &'static str, tasks: &Tasks, writer: BoxFuture<'static, ()>) {
        let (ended, end) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            futures::executor::block_on(writer);
            // Nobody waits any more when the member has been dropped.
            let _ = ended.send(());
        });
        tasks.spawn(name, Exit::Fatal, async move {
            if thread.is_ok() {
                // An error means that the thread has panicked, which ends this task as well.
                drop(end.await);
            }
        });
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        drop(tokio::task::spawn_blocking(work));
    }
}

/// A file for redb. It keeps the directory's lock: redb writes for the last time when it is dropped, which may be after
/// everything else of a member, and two that write one file destroy it.
#[derive(Debug)]
struct DiskBackend {
    file: FileBackend,
    _lock: Arc<File>,
}

impl StorageBackend for DiskBackend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

struct DiskWriter(File);

impl VolumeWriter for DiskWriter {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

struct DiskReader(File);

impl VolumeReader for DiskReader {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_belongs_to_one_process_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = DiskVolume::open(directory.path()).unwrap();
        let error = DiskVolume::open(directory.path()).unwrap_err();
        assert!(matches!(error, VolumeError::InUse { .. }), "{error}");
        drop(first);
        assert!(DiskVolume::open(directory.path()).is_ok());
    }

    #[test]
    fn a_directory_is_locked_for_as_long_as_redb_has_a_file_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let backend = DiskVolume::open(directory.path()).unwrap().backend("file").unwrap();
        assert!(matches!(DiskVolume::open(directory.path()), Err(VolumeError::InUse { .. })));
        drop(backend);
        assert!(DiskVolume::open(directory.path()).is_ok());
    }

    #[test]
    fn a_directory_is_made_with_those_above_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("not/yet/there");
        DiskVolume::open(&path).unwrap();
        assert!(path.is_dir());
    }

    #[test]
    fn a_path_that_is_a_file_is_refused_with_its_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = DiskVolume::open(file.path()).unwrap_err();
        assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
    }

    #[test]
    fn a_small_file_is_replaced_as_a_whole_and_leftovers_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let volume = DiskVolume::open(directory.path()).unwrap();
        assert_eq!(read_whole(&*volume, "name").unwrap(), None);
        write_atomically(&*volume, "name", b"old").unwrap();
        write_atomically(&*volume, "name", b"new").unwrap();
        volume.create(&unfinished("other")).unwrap().append(b"half").unwrap();
        tidy(&*volume).unwrap();
        assert_eq!(volume.names().unwrap(), ["name"]);
        assert_eq!(read_whole(&*volume, "name").unwrap().unwrap(), "new");
    }
}
