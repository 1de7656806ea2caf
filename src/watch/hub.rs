//! The ring and its end that grows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use super::filter::Filter;
use super::subscription::Subscription;
use crate::machine::event::{Change, Event};
use crate::types::Revision;

/// How much of the newest past the ring holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubLimits {
    pub events: usize,
    pub bytes: usize,
}

impl Default for HubLimits {
    /// Some seconds of a busy cluster: enough to resume after a reconnect.
    fn default() -> Self {
        Self { events: 16_384, bytes: 32 << 20 }
    }
}

/// Where events are published and subscribed to. Clones share one ring.
#[derive(Debug, Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limits: HubLimits,
    ring: Mutex<Ring>,
    /// The newest revision, to wake those who wait for it.
    newest: watch::Sender<Revision>,
}

#[derive(Debug, Default)]
pub(super) struct Ring {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// The revision before the first event of the ring: a subscriber that has seen less is too far behind.
    start: Revision,
}

impl Hub {
    /// An empty ring at revision 0.
    pub fn new(limits: HubLimits) -> Self {
        let inner = Inner { limits, ring: Mutex::default(), newest: watch::Sender::new(Revision::ZERO) };
        Self { inner: Arc::new(inner) }
    }

    /// Adds the events of the newest revisions and wakes everybody who waits, once. Never blocks.
    pub fn publish(&self, events: impl IntoIterator<Item = Arc<Event>>) {
        let mut revision = self.newest();
        let mut ring = self.ring();
        for event in events {
            revision = event.revision;
            ring.bytes += size_of_event(&event);
            ring.events.push_back(event);
            while ring.events.len() > self.inner.limits.events || ring.bytes > self.inner.limits.bytes {
                let Some(oldest) = ring.events.pop_front() else { break };
                ring.bytes -= size_of_event(&oldest);
                ring.start = oldest.revision;
            }
        }
        drop(ring);
        self.inner.newest.send_if_modified(|newest| std::mem::replace(newest, revision) != revision);
    }

    /// Begins anew at `revision`: a snapshot has replaced the state, and what led to it is not known here.
    pub fn reset(&self, revision: Revision) {
        *self.ring() = Ring { start: revision, ..Ring::default() };
        self.inner.newest.send_replace(revision);
    }

    /// Watches what `filter` wants, from the revision behind `seen` on.
    pub fn subscribe(&self, filter: Filter, seen: Revision) -> Subscription {
        Subscription::new(self.clone(), self.inner.newest.subscribe(), filter, seen)
    }

    /// The newest revision that was published.
    pub fn newest(&self) -> Revision {
        *self.inner.newest.borrow()
    }

    pub(super) fn ring(&self) -> MutexGuard<'_, Ring> {
        self.inner.ring.lock().expect("nobody panics while holding the ring")
    }
}

impl Ring {
    /// Whether everything behind `seen` is still here.
    pub(super) fn reaches(&self, seen: Revision) -> bool {
        seen >= self.start
    }

    /// At most `limit` events behind `seen`.
    pub(super) fn behind(&self, seen: Revision, limit: usize) -> Vec<Arc<Event>> {
        let first = self.events.partition_point(|event| event.revision <= seen);
        self.events.range(first..).take(limit).cloned().collect()
    }
}

/// About how much memory an event holds on to.
fn size_of_event(event: &Event) -> usize {
    let contents = event.changes.iter().map(|change| match change {
        Change::KeyPut { key, value, .. } => key.as_str().len() + value.len(),
        Change::KeyDeleted { key } => key.as_str().len(),
        Change::ConfigPut { record, .. } => record.data.iter().map(|(key, text)| key.as_str().len() + text.len()).sum(),
        Change::Granted { claim, .. } => claim.metadata.iter().map(|(key, text)| key.len() + text.len()).sum(),
        Change::ConfigDeleted { .. }
        | Change::SessionCreated { .. }
        | Change::SessionEnded { .. }
        | Change::Waiting { .. }
        | Change::Lost { .. }
        | Change::Withdrawn { .. }
        | Change::ElectionSet { .. }
        | Change::ConsumerReported { .. }
        | Change::LeadershipBegun { .. }
        | Change::MemberAnnounced { .. }
        | Change::MemberForgotten { .. }
        | Change::SizeSet(_)
        | Change::Steered(_)
        | Change::ClusterFounded
        | Change::Compacted { .. } => 0,
    });
    size_of::<Event>() + event.changes.len() * size_of::<Change>() + contents.sum::<usize>()
}
