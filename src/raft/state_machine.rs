//! Between openraft and the machine: decode a committed entry, apply it, tell everybody.
//!
//! After each batch the new state is published whole, then its events, then the answers: whoever has an answer finds the
//! state and the events that belong to it. An entry that this release cannot decode stops the member, because skipping it
//! would make members disagree.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{Stream, TryStreamExt};
use openraft::OptionalSend;
use openraft::alias::SnapshotOf;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use tokio::sync::watch as state_watch;

use super::digests::Digests;
use super::snapshot_store::{SnapshotFile, SnapshotStore};
use super::type_config::{Applied, EntryPayload, LogId, SnapshotMeta, StoredMembership, TypeConfig};
use crate::machine::Machine;
use crate::types::LogIndex;
use crate::watch::Hub;

/// The replicated state of one member, as openraft drives it.
pub struct StateMachine {
    machine: Machine,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    snapshots: SnapshotStore,
    state: state_watch::Sender<Arc<Machine>>,
    hub: Hub,
    digests: Digests,
    growth: Growth,
}

/// Bytes of commands applied since the newest snapshot. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Growth(Arc<AtomicU64>);

impl Growth {
    /// Bytes since the newest snapshot.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Without going below zero: a snapshot that was installed meanwhile has taken everything off.
    fn take_off(&self, bytes: u64) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |all| Some(all.saturating_sub(bytes)));
    }
}

impl StateMachine {
    /// The state of the newest snapshot, or the empty one; openraft applies the log behind it. Every applied batch is
    /// published through `state`, its events through `hub`. Blocks on the disk.
    ///
    /// # Errors
    /// When the snapshot is damaged.
    pub fn open(
        snapshots: SnapshotStore,
        hub: Hub,
        state: state_watch::Sender<Arc<Machine>>,
        digests: Digests,
    ) -> Result<Self, io::Error> {
        let (meta, machine) = match snapshots.newest()? {
            Some(file) => snapshots.load(&file)?,
            None => (SnapshotMeta::default(), Machine::new(snapshots.limits())),
        };
        hub.reset(machine.revision());
        state.send_replace(Arc::new(machine.clone()));
        Ok(Self {
            machine,
            last_applied: meta.last_log_id,
            membership: meta.last_membership,
            snapshots,
            state,
            hub,
            digests,
            growth: Growth::default(),
        })
    }

    /// Tells how much was applied since the newest snapshot.
    pub fn growth(&self) -> Growth {
        self.growth.clone()
    }

    /// The last log entry that is in it.
    pub(super) fn end(&self) -> Option<LogId> {
        self.last_applied
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last_applied, last_membership: self.membership.clone() }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<Entries>(&mut self, mut entries: Entries) -> Result<(), io::Error>
    where
        Entries: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let (count, _) = entries.size_hint();
        let (mut events, mut answers) = (Vec::with_capacity(count), Vec::with_capacity(count));
        while let Some((entry, responder)) = entries.try_next().await? {
            let index = LogIndex::new(entry.log_id.index());
            let applied = match entry.payload {
                EntryPayload::Normal(proposal) => {
                    self.growth.add(proposal.0.len() as u64);
                    let command = proposal.command().map_err(|error| {
                        io::Error::new(io::ErrorKind::InvalidData, format!("log entry {index}: {error}"))
                    })?;
                    let applied = self.machine.apply(index, &command);
                    events.extend(applied.events);
                    Applied::Answer(applied.answer)
                }
                EntryPayload::Blank => {
                    self.machine.advance(index);
                    Applied::Nothing
                }
                EntryPayload::Membership(membership) => {
                    self.machine.advance(index);
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Applied::Nothing
                }
            };
            self.digests.note(index, &self.machine);
            self.last_applied = Some(entry.log_id);
            answers.extend(responder.map(|responder| (responder, applied)));
        }
        self.state.send_replace(Arc::new(self.machine.clone()));
        self.hub.publish(events);
        for (responder, applied) in answers {
            responder.send(applied);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            meta: self.meta(),
            machine: self.machine.clone(),
            snapshots: self.snapshots.clone(),
            growth: self.growth.clone(),
            bytes: self.growth.bytes(),
        }
    }

    async fn install_snapshot(&mut self, _: &SnapshotMeta, snapshot: SnapshotFile) -> Result<(), io::Error> {
        let (meta, machine) = self.snapshots.run(move |snapshots| snapshots.install(snapshot)).await?;
        self.machine = machine;
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership;
        self.growth.take_off(self.growth.bytes());
        self.state.send_replace(Arc::new(self.machine.clone()));
        self.hub.reset(self.machine.revision());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, SnapshotFile>>, io::Error> {
        let current = |snapshots: &SnapshotStore| {
            let failed = |source| super::snapshot_store::SnapshotError::Volume { file: "newest".to_owned(), source };
            let Some(file) = snapshots.newest().map_err(failed)? else { return Ok(None) };
            Ok(Some(SnapshotOf::<TypeConfig, SnapshotFile> { meta: snapshots.meta(&file)?, snapshot: file }))
        };
        self.snapshots.run(current).await
    }
}

/// Writes a snapshot from a copy of the state, while the state goes on.
pub struct SnapshotBuilder {
    meta: SnapshotMeta,
    machine: Machine,
    snapshots: SnapshotStore,
    growth: Growth,
    bytes: u64,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, SnapshotFile>, io::Error> {
        let (meta, machine) = (self.meta.clone(), self.machine.clone());
        let snapshot = self.snapshots.run(move |snapshots| snapshots.write(&meta, &machine)).await?;
        self.growth.take_off(self.bytes);
        Ok(SnapshotOf::<TypeConfig, SnapshotFile> { meta: self.meta.clone(), snapshot })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use openraft::StorageError;
    use openraft::testing::log::{StoreBuilder, Suite};
    use prometheus::Registry;
    use tempfile::TempDir;

    use super::*;
    use crate::machine::Limits;
    use crate::raft::log_store::LogStore;
    use crate::raft::log_writer::LogMetrics;
    use crate::raft::type_config::{Entry, LeaderId, Proposal};
    use crate::raft::volume::DiskVolume;
    use crate::tasks::{Failures, Tasks};
    use crate::types::MemberId;
    use crate::watch::HubLimits;

    struct OnDisk;

    type Kept = (TempDir, Tasks, Failures);

    impl StoreBuilder<TypeConfig, LogStore, StateMachine, Kept> for OnDisk {
        async fn build(&self) -> Result<(Kept, LogStore, StateMachine), StorageError<TypeConfig>> {
            let directory = tempfile::tempdir().unwrap();
            let volume = DiskVolume::open(directory.path()).unwrap();
            let (tasks, failures) = Tasks::new();
            let log = LogStore::open(&*volume, 7, LogMetrics::register(&Registry::new()).unwrap(), &tasks).unwrap();
            let snapshots = SnapshotStore::new(volume, Limits::default());
            let state = state_watch::Sender::new(Arc::new(Machine::default()));
            let hub = Hub::new(HubLimits::default());
            let machine = StateMachine::open(snapshots, hub, state, Digests::default()).unwrap();
            Ok(((directory, tasks, failures), log, machine))
        }
    }

    #[test]
    fn openraft_accepts_the_log_store_and_the_state_machine() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(Suite::test_all(OnDisk)).unwrap();
    }

    #[tokio::test]
    async fn an_entry_that_cannot_be_decoded_is_an_error_that_names_its_index() {
        let (_kept, _log, mut machine) = OnDisk.build().await.unwrap();
        let leader = LeaderId { term: 1, node_id: MemberId::new(1) };
        let entry = Entry {
            log_id: LogId::new(leader, 41),
            payload: EntryPayload::Normal(Proposal(Bytes::from_static(b"no command"))),
        };
        let error = machine.apply(futures::stream::iter([Ok((entry, None))])).await.unwrap_err();
        assert!(error.to_string().starts_with("log entry 41: "), "{error}");
        assert_eq!(machine.applied_state().await.unwrap().0, None, "it was not passed over");
    }
}
