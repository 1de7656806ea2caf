//! A snapshot that another member sends: its parts, in order, into a file of the volume.
//!
//! At most one is coming at a time; a new one replaces it. Nothing is believed before all of it is there and its records are
//! checked (see `snapshot_store.rs`), so a sender that dies half-way costs only room on the volume until the next.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use super::snapshot_store::{Incoming, SnapshotFile, SnapshotStore};
use super::type_config::{SnapshotMeta, Vote};
use super::volume::{Volume, blocking};

/// Receives snapshots, once there is a place for them.
#[derive(Default)]
pub(super) struct Receiving {
    place: Mutex<Option<Place>>,
}

struct Place {
    volume: Arc<dyn Volume>,
    snapshots: SnapshotStore,
    /// The number of the newest transfer.
    newest: u64,
    /// `None` between transfers, and while a part is being written.
    transfer: Option<Transfer>,
}

/// A snapshot on its way.
struct Transfer {
    number: u64,
    vote: Vote,
    meta: SnapshotMeta,
    length: u64,
    received: u64,
    incoming: Incoming,
}

/// A snapshot that has come as a whole.
pub(super) struct Received {
    pub(super) vote: Vote,
    pub(super) meta: SnapshotMeta,
    pub(super) file: SnapshotFile,
}

impl Receiving {
    fn place(&self) -> MutexGuard<'_, Option<Place>> {
        self.place.lock().expect("nobody panics while holding the incoming snapshot")
    }

    /// Gives it a place.
    pub(super) fn open(&self, volume: Arc<dyn Volume>, snapshots: SnapshotStore) {
        *self.place() = Some(Place { volume, snapshots, newest: 0, transfer: None });
    }

    /// Lets go of the place and of what was coming.
    pub(super) fn close(&self) {
        *self.place() = None;
    }

    /// Begins to receive; gives the number that the parts must name.
    pub(super) async fn begin(&self, vote: Vote, meta: SnapshotMeta, length: u64) -> Result<u64, String> {
        let (volume, snapshots, number) = {
            let mut place = self.place();
            let place = place.as_mut().ok_or("this member cannot take a snapshot yet")?;
            place.newest += 1;
            place.transfer = None;
            (Arc::clone(&place.volume), place.snapshots.clone(), place.newest)
        };
        let incoming = flat(blocking(&*volume, move || snapshots.receive(number)).await)?;
        self.put_back(Transfer { number, vote, meta, length, received: 0, incoming })?;
        Ok(number)
    }

    /// Adds the part at `offset`.
    pub(super) async fn part(&self, number: u64, offset: u64, bytes: Bytes) -> Result<(), String> {
        let (volume, mut transfer) = self.take(number)?;
        let end = offset.saturating_add(bytes.len() as u64);
        if offset != transfer.received || end > transfer.length {
            return Err(format!("a part from {offset} to {end}, where byte {} is next", transfer.received));
        }
        transfer.received = end;
        let written = blocking(&*volume, move || transfer.incoming.append(&bytes).map(|()| transfer)).await;
        self.put_back(flat(written)?)
    }

    /// Ends a transfer of which all parts have come, when what came is good.
    pub(super) async fn end(&self, number: u64) -> Result<Received, String> {
        let (volume, transfer) = self.take(number)?;
        let Transfer { vote, meta, length, received, incoming, .. } = transfer;
        if received != length {
            return Err(format!("{received} of {length} bytes have come"));
        }
        let finish = move || Ok(incoming.finish(&meta).map(|file| (meta, file))?);
        let (meta, file) = flat(blocking(&*volume, finish).await)?;
        Ok(Received { vote, meta, file })
    }

    /// Takes the transfer out, so that its file is written without a lock.
    fn take(&self, number: u64) -> Result<(Arc<dyn Volume>, Transfer), String> {
        let mut place = self.place();
        let place = place.as_mut().ok_or("this member cannot take a snapshot yet")?;
        match place.transfer.take() {
            Some(transfer) if transfer.number == number => Ok((Arc::clone(&place.volume), transfer)),
            other => {
                place.transfer = other;
                Err(format!("transfer {number} is not the one that is under way; begin again"))
            }
        }
    }

    /// Puts the transfer back, unless a newer one has begun meanwhile.
    fn put_back(&self, transfer: Transfer) -> Result<(), String> {
        let mut place = self.place();
        let place = place.as_mut().ok_or("this member cannot take a snapshot yet")?;
        if place.newest != transfer.number {
            return Err("another snapshot has begun to come".to_owned());
        }
        place.transfer = Some(transfer);
        Ok(())
    }
}

fn flat<T>(result: std::io::Result<std::io::Result<T>>) -> Result<T, String> {
    result.and_then(|inner| inner).map_err(|error| error.to_string())
}
