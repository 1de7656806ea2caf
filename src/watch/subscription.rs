//! One subscriber's walk along the ring.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;

use super::filter::Filter;
use super::hub::Hub;
use crate::machine::event::{Change, Event};
use crate::types::{Revision, Timestamp};

/// Events taken from the ring at a time, so that the ring is not locked for each one.
const PAGE: usize = 256;

/// What a subscriber gets next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Notice(Notice),
    /// The ring no longer reaches back to what was seen: start again from the present state, with a new subscription.
    Behind,
    /// An event is missing from the chain, which is a bug of ours: the watch must end rather than skip it.
    Gap {
        expected: Revision,
        found: Revision,
    },
}

/// All changes of one revision that the subscriber wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub revision: Revision,
    /// The revision of the notice before this one in the same watch; for the first, where the watch began.
    pub previous: Revision,
    pub at: Timestamp,
    pub changes: Vec<Change>,
}

/// A place in the stream of events.
#[derive(Debug)]
pub struct Subscription {
    hub: Hub,
    newest: watch::Receiver<Revision>,
    filter: Filter,
    /// The last revision that was looked at, wanted or not.
    seen: Revision,
    /// The revision of the last notice.
    noticed: Revision,
    page: VecDeque<Arc<Event>>,
}

impl Subscription {
    pub(super) fn new(hub: Hub, newest: watch::Receiver<Revision>, filter: Filter, seen: Revision) -> Self {
        Self { hub, newest, filter, seen, noticed: seen, page: VecDeque::new() }
    }

    /// The last revision that this watch is complete up to.
    pub fn seen(&self) -> Revision {
        self.seen
    }

    /// Waits for the next revision with a wanted change. May be dropped and called again: nothing is lost by it.
    pub async fn next(&mut self) -> Next {
        loop {
            while let Some(event) = self.page.pop_front() {
                if event.revision != self.seen.next() {
                    return Next::Gap { expected: self.seen.next(), found: event.revision };
                }
                self.seen = event.revision;
                if let Some(notice) = self.notice(&event) {
                    return Next::Notice(notice);
                }
            }
            // Marked as seen before the ring is looked at, so that a publication in between is not slept through.
            self.newest.mark_unchanged();
            {
                let ring = self.hub.ring();
                if !ring.reaches(self.seen) {
                    return Next::Behind;
                }
                self.page.extend(ring.behind(self.seen, PAGE));
            }
            if self.page.is_empty() && self.newest.changed().await.is_err() {
                // The hub lives as long as this subscription, which holds a clone of it.
                std::future::pending::<()>().await;
            }
        }
    }

    fn notice(&mut self, event: &Event) -> Option<Notice> {
        let changes: Vec<_> = event.changes.iter().filter(|change| self.filter.wants(change)).cloned().collect();
        if changes.is_empty() {
            return None;
        }
        let previous = std::mem::replace(&mut self.noticed, event.revision);
        Some(Notice { revision: event.revision, previous, at: event.at, changes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::keys::KeyRange;
    use crate::types::Key;
    use crate::watch::HubLimits;

    fn deleted(revision: u64, key: &str) -> Arc<Event> {
        Arc::new(Event {
            revision: Revision::new(revision),
            at: Timestamp::default(),
            changes: vec![Change::KeyDeleted { key: Key::new(key).unwrap() }],
        })
    }

    fn keys_below_a() -> Filter {
        Filter::Keys(KeyRange::Prefix("a/".to_owned()))
    }

    async fn revisions(subscription: &mut Subscription, count: usize) -> Vec<(u64, u64)> {
        let mut seen = Vec::new();
        for _ in 0..count {
            match subscription.next().await {
                Next::Notice(notice) => seen.push((notice.previous.get(), notice.revision.get())),
                other => panic!("{other:?} after {seen:?}"),
            }
        }
        seen
    }

    #[tokio::test]
    async fn a_subscriber_sees_what_it_wants_chained_by_the_revision_before() {
        let hub = Hub::new(HubLimits::default());
        let mut subscription = hub.subscribe(keys_below_a(), Revision::ZERO);
        for (revision, key) in [(1, "a/1"), (2, "b"), (3, "a/2")] {
            hub.publish([deleted(revision, key)]);
        }
        assert_eq!(revisions(&mut subscription, 2).await, [(0, 1), (1, 3)]);
    }

    #[tokio::test]
    async fn a_subscriber_that_waits_is_woken() {
        let hub = Hub::new(HubLimits::default());
        let mut subscription = hub.subscribe(keys_below_a(), Revision::ZERO);
        let publisher = hub.clone();
        let (seen, ()) = tokio::join!(revisions(&mut subscription, 1), async {
            tokio::task::yield_now().await;
            publisher.publish([deleted(1, "a/1")]);
        });
        assert_eq!(seen, [(0, 1)]);
    }

    #[tokio::test]
    async fn a_dropped_event_ends_the_watch_instead_of_going_unnoticed() {
        let hub = Hub::new(HubLimits::default());
        let mut subscription = hub.subscribe(keys_below_a(), Revision::ZERO);
        hub.publish([deleted(1, "a/1")]);
        hub.publish([deleted(3, "a/3")]);
        assert_eq!(revisions(&mut subscription, 1).await, [(0, 1)]);
        let gap = Next::Gap { expected: Revision::new(2), found: Revision::new(3) };
        assert_eq!(subscription.next().await, gap);
    }

    #[tokio::test]
    async fn a_subscriber_that_falls_out_of_the_ring_is_told() {
        let hub = Hub::new(HubLimits { events: 2, bytes: usize::MAX });
        let mut slow = hub.subscribe(keys_below_a(), Revision::ZERO);
        let mut quick = hub.subscribe(keys_below_a(), Revision::new(1));
        for revision in 1..=3 {
            hub.publish([deleted(revision, "a/1")]);
        }
        assert_eq!(slow.next().await, Next::Behind);
        assert_eq!(revisions(&mut quick, 2).await, [(1, 2), (2, 3)]);
        hub.reset(Revision::new(9));
        assert_eq!(quick.next().await, Next::Behind);
    }

    #[tokio::test]
    async fn the_ring_is_bounded_by_bytes_too() {
        let one = Hub::new(HubLimits { events: usize::MAX, bytes: 1 });
        one.publish([deleted(1, "a/1")]);
        assert_eq!(one.subscribe(keys_below_a(), Revision::ZERO).next().await, Next::Behind);
    }
}
