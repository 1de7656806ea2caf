//! A disk that loses what was not synced.
//!
//! A file is made of 512-byte sectors, each of which is written whole or not at all. After a power loss every sector that
//! was written since the last sync holds one of the contents that it has had since then; creations, renames and removals
//! survive in order, up to some point behind the last sync of the directory. When only the process is killed, everything
//! that was written stays.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use rand::RngExt;
use rand::rngs::SmallRng;

/// What is written whole or not at all.
pub const SECTOR: usize = 512;

/// Content that survives the lives of its member. Clones share one disk.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    directory: Arc<Mutex<Directory>>,
}

#[derive(Debug, Default)]
struct Directory {
    present: Names,
    durable: Names,
    /// What made the present out of the durable names, in order.
    unsynced: Vec<Change>,
}

type Names = BTreeMap<String, File>;

#[derive(Debug, Clone)]
enum Change {
    Create(String, File),
    Rename(String, String),
    Remove(String),
}

impl Change {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Create(name, file) => {
                names.insert(name.clone(), file.clone());
            }
            Self::Rename(from, to) => {
                let file = names.remove(from).expect("only a file that is there is renamed");
                names.insert(to.clone(), file);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

/// What a power loss did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Damage {
    /// Sectors that were written after the last sync and came through, and those that did not.
    pub sectors_kept: u64,
    pub sectors_lost: u64,
    /// Files of which some sectors came through and some did not.
    pub torn_files: u64,
    /// Changes of the directory that did not come through.
    pub names_lost: u64,
}

impl Disk {
    /// The file `name`, made when it is not there.
    pub fn open_or_create(&self, name: &str) -> File {
        let mut directory = self.directory.lock().unwrap();
        if let Some(file) = directory.present.get(name) {
            return file.clone();
        }
        let file = File::default();
        directory.change(Change::Create(name.to_owned(), file.clone()));
        file
    }

    pub fn open(&self, name: &str) -> Option<File> {
        self.directory.lock().unwrap().present.get(name).cloned()
    }

    /// # Errors
    /// When there is no file `from`.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut directory = self.directory.lock().unwrap();
        if !directory.present.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        directory.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    pub fn remove(&self, name: &str) {
        let mut directory = self.directory.lock().unwrap();
        if directory.present.contains_key(name) {
            directory.change(Change::Remove(name.to_owned()));
        }
    }

    pub fn names(&self) -> Vec<String> {
        self.directory.lock().unwrap().present.keys().cloned().collect()
    }

    /// Makes every creation, rename and removal durable.
    pub fn sync_directory(&self) {
        let mut directory = self.directory.lock().unwrap();
        directory.durable = directory.present.clone();
        directory.unsynced.clear();
    }

    /// Another disk with what is on this one now, as if its power had gone off after everything was written.
    pub fn copy(&self) -> Self {
        let directory = self.directory.lock().unwrap();
        let names: Names = directory.present.iter().map(|(name, file)| (name.clone(), file.copy())).collect();
        let copy = Directory { present: names.clone(), durable: names, unsynced: Vec::new() };
        Self { directory: Arc::new(Mutex::new(copy)) }
    }

    /// The power goes off and on again.
    pub fn lose_power(&self, rng: &mut SmallRng) -> Damage {
        let mut directory = self.directory.lock().unwrap();
        let kept = rng.random_range(0..=directory.unsynced.len());
        let mut damage = Damage { names_lost: (directory.unsynced.len() - kept) as u64, ..Damage::default() };
        let mut names = std::mem::take(&mut directory.durable);
        for change in &directory.unsynced[..kept] {
            change.apply(&mut names);
        }
        for file in names.values() {
            file.lose_power(rng, &mut damage);
        }
        *directory = Directory { durable: names.clone(), present: names, unsynced: Vec::new() };
        damage
    }
}

impl Directory {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.present);
        self.unsynced.push(change);
    }
}

/// The content behind a name, or behind none any more. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct File {
    content: Arc<Mutex<Content>>,
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    durable_length: usize,
    /// What each sector that was written since the last sync has held, oldest first, without what it holds now.
    unsynced: BTreeMap<usize, Vec<[u8; SECTOR]>>,
}

impl File {
    pub fn len(&self) -> usize {
        self.content.lock().unwrap().bytes.len()
    }

    /// # Errors
    /// When the file ends before.
    pub fn read_at(&self, offset: usize, buffer: &mut [u8]) -> io::Result<()> {
        let content = self.content.lock().unwrap();
        let part = content.bytes.get(offset..offset + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }

    /// Makes the file longer when it ends before.
    pub fn write_at(&self, offset: usize, bytes: &[u8]) {
        let mut content = self.content.lock().unwrap();
        let end = offset + bytes.len();
        if content.bytes.len() < end {
            content.bytes.resize(end, 0);
        }
        for number in offset / SECTOR..end.div_ceil(SECTOR) {
            let before = content.sector(number);
            content.unsynced.entry(number).or_default().push(before);
        }
        content.bytes[offset..end].copy_from_slice(bytes);
    }

    pub fn set_len(&self, length: usize) {
        let mut content = self.content.lock().unwrap();
        for number in length / SECTOR..content.bytes.len().div_ceil(SECTOR) {
            let before = content.sector(number);
            content.unsynced.entry(number).or_default().push(before);
        }
        content.bytes.resize(length, 0);
    }

    pub fn sync(&self) {
        let mut content = self.content.lock().unwrap();
        content.durable_length = content.bytes.len();
        content.unsynced.clear();
    }

    fn copy(&self) -> Self {
        let bytes = self.content.lock().unwrap().bytes.clone();
        let content = Content { durable_length: bytes.len(), bytes, unsynced: BTreeMap::new() };
        Self { content: Arc::new(Mutex::new(content)) }
    }

    /// A sync that failed: the system forgets that these sectors were to be written, and some never reach the disk.
    pub fn fail_to_sync(&self, rng: &mut SmallRng) {
        self.lose_power(rng, &mut Damage::default());
    }

    fn lose_power(&self, rng: &mut SmallRng, damage: &mut Damage) {
        let mut content = self.content.lock().unwrap();
        if content.durable_length != content.bytes.len() && rng.random_bool(0.5) {
            let length = content.durable_length;
            content.bytes.resize(length, 0);
        }
        // Sometimes nearly all is lost, sometimes nearly nothing.
        let keep = [0.0, 0.1, 0.5, 0.9, 1.0][rng.random_range(0..5)];
        let (mut kept, mut lost) = (0, 0);
        for (number, versions) in std::mem::take(&mut content.unsynced) {
            if rng.random_bool(keep) {
                kept += 1;
            } else {
                lost += 1;
                content.set_sector(number, &versions[rng.random_range(0..versions.len())]);
            }
        }
        content.durable_length = content.bytes.len();
        damage.sectors_kept += kept;
        damage.sectors_lost += lost;
        damage.torn_files += u64::from(kept > 0 && lost > 0);
    }
}

impl Content {
    fn sector(&self, number: usize) -> [u8; SECTOR] {
        let mut sector = [0; SECTOR];
        let start = (number * SECTOR).min(self.bytes.len());
        let part = &self.bytes[start..(start + SECTOR).min(self.bytes.len())];
        sector[..part.len()].copy_from_slice(part);
        sector
    }

    /// What lies behind the end of the file is dropped.
    fn set_sector(&mut self, number: usize, sector: &[u8; SECTOR]) {
        let length = self.bytes.len();
        let start = (number * SECTOR).min(length);
        let part = &mut self.bytes[start..(start + SECTOR).min(length)];
        part.copy_from_slice(&sector[..part.len()]);
    }
}
