//! Wakes calls that follow the claims of a session, each only for its own session: ten thousand that wait for one lock are
//! not all woken whenever anything happens.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use crate::machine::event::Change;
use crate::types::SessionId;
use crate::watch::{Filter, Hub, Next};

/// A bell for each session that somebody follows. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Bells(Arc<Mutex<BTreeMap<SessionId, watch::Sender<()>>>>);

impl Bells {
    /// Hears what happens to the claims of a session from now on.
    pub(super) fn listen(&self, session: SessionId) -> Bell {
        let heard = self.bells().entry(session).or_default().subscribe();
        Bell { bells: self.clone(), session, heard: Some(heard) }
    }

    /// Rings whenever something has happened to a claim. Never ends.
    pub(super) async fn follow(self, hub: Hub) {
        loop {
            let mut claims = hub.subscribe(Filter::Claims, hub.newest());
            // What came before was not seen.
            self.bells().values().for_each(ring);
            while let Next::Notice(notice) = claims.next().await {
                let bells = self.bells();
                notice.changes.iter().filter_map(session_of).filter_map(|session| bells.get(&session)).for_each(ring);
            }
        }
    }

    fn bells(&self) -> MutexGuard<'_, BTreeMap<SessionId, watch::Sender<()>>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

fn ring(bell: &watch::Sender<()>) {
    bell.send_replace(());
}

fn session_of(change: &Change) -> Option<SessionId> {
    match change {
        Change::SessionEnded { session, .. } | Change::Withdrawn { session, .. } => Some(*session),
        Change::Granted { grant, .. } | Change::Lost { grant, .. } => Some(grant.session),
        Change::KeyPut { .. }
        | Change::KeyDeleted { .. }
        | Change::ConfigPut { .. }
        | Change::ConfigDeleted { .. }
        | Change::SessionCreated { .. }
        | Change::Waiting { .. }
        | Change::ElectionSet { .. }
        | Change::ConsumerReported { .. }
        | Change::LeadershipBegun { .. }
        | Change::MemberAnnounced { .. }
        | Change::MemberForgotten { .. }
        | Change::SizeSet(_)
        | Change::Steered(_)
        | Change::ClusterFounded
        | Change::Compacted { .. } => None,
    }
}

/// What one call hears.
#[derive(Debug)]
pub(super) struct Bell {
    bells: Bells,
    session: SessionId,
    /// There until the end.
    heard: Option<watch::Receiver<()>>,
}

impl Bell {
    /// Waits until it has rung since it was made or last waited for.
    pub(super) async fn rung(&mut self) {
        let heard = self.heard.as_mut().expect("it is there until the end");
        heard.changed().await.expect("the bell is kept for as long as somebody listens");
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        let mut bells = self.bells.bells();
        // Nobody else stops listening meanwhile, so whoever is last knows it.
        self.heard = None;
        if bells.get(&self.session).is_some_and(|bell| bell.receiver_count() == 0) {
            bells.remove(&self.session);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::machine::event::{Cause, Event};
    use crate::types::{Revision, Timestamp};
    use crate::watch::HubLimits;

    fn ended(revision: u64, session: u64) -> Arc<Event> {
        let change = Change::SessionEnded { session: SessionId::new(session), cause: Cause::SessionEnded };
        Arc::new(Event { revision: Revision::new(revision), at: Timestamp::default(), changes: vec![change] })
    }

    #[tokio::test(start_paused = true)]
    async fn a_bell_rings_for_its_own_session_and_for_all_when_something_was_missed() {
        let (bells, hub) = (Bells::default(), Hub::new(HubLimits::default()));
        let (mut one, mut two) = (bells.listen(SessionId::new(1)), bells.listen(SessionId::new(2)));
        let mut following = Box::pin(bells.clone().follow(hub.clone()));
        let soon = Duration::from_secs(1);
        assert!(timeout(soon, &mut following).await.is_err());
        one.rung().await;
        two.rung().await;
        hub.publish([ended(1, 1)]);
        assert!(timeout(soon, &mut following).await.is_err());
        one.rung().await;
        assert!(timeout(soon, two.rung()).await.is_err());
        hub.reset(Revision::new(9));
        assert!(timeout(soon, &mut following).await.is_err());
        one.rung().await;
        two.rung().await;
        drop((one, two));
        assert!(bells.bells().is_empty());
    }
}
