//! What a member does when the Raft leader's process is gone, so that nobody has to wait for an election timeout.
//!
//! Every voter keeps a connection to every other one (`holding.rs`). When that to the Raft leader breaks, it looks whether the
//! leader is there (`evidence.rs`), asks the other voters what they see, and once a majority has found that nobody listens at
//! the leader's address any more (`verdict.rs`), each lets the same one of them campaign at once (`driving.rs`).
//!
//! None of this decides who leads. A campaign is an election like any other, by the same votes and the same comparison of
//! logs, and reads ask a quorum; so evidence that is wrong costs one election, and never a write or an old read. It must never
//! touch a vote, and never campaign for a member that has not seen the leader dead.

mod driving;
mod evidence;
mod holding;
mod verdict;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

pub(super) use driving::driving;
pub(super) use evidence::Sight;
pub(super) use holding::{HOLD, holding};
pub(super) use verdict::Account;

use crate::settings::FastFailover;
use crate::types::MemberId;

/// Suspicions that wait. One is worked on, and as all are about the Raft leader, a few are already one too many.
const SUSPICIONS: usize = 4;

/// What takes connections for so long and says nothing is a proxy: no process takes so long to end or to begin.
const PROXY: Duration = Duration::from_secs(3);

/// What the parts of one member that deal with a dead Raft leader share.
pub(super) struct Failover {
    pub(super) setting: FastFailover,
    suspicions: mpsc::Sender<MemberId>,
    /// Since when something takes the connections to a member's address and says nothing.
    mute: Mutex<BTreeMap<(MemberId, String), Instant>>,
    /// When a Raft leader was seen dead last.
    seen_dead: Mutex<Option<Instant>>,
}

impl Failover {
    /// The shared part, and the end from which suspicions come.
    pub(super) fn new(setting: FastFailover) -> (Self, mpsc::Receiver<MemberId>) {
        let (suspicions, suspected) = mpsc::channel(SUSPICIONS);
        (Self { setting, suspicions, mute: Mutex::default(), seen_dead: Mutex::default() }, suspected)
    }

    /// Somebody has a reason to look whether `member` is there.
    pub(super) fn suspect(&self, member: MemberId) {
        if self.suspicions.try_send(member).is_err() {
            tracing::trace!(%member, "there will be a look at the Raft leader anyway");
        }
    }

    /// When a Raft leader was seen dead last.
    pub(super) fn seen_dead(&self) -> Option<Instant> {
        *self.seen_dead.lock().expect("nobody panics while holding it")
    }

    fn see_dead(&self) {
        *self.seen_dead.lock().expect("nobody panics while holding it") = Some(Instant::now());
    }

    fn mute(&self) -> MutexGuard<'_, BTreeMap<(MemberId, String), Instant>> {
        self.mute.lock().expect("nobody panics while holding it")
    }

    /// Whether connections to a member are known to say nothing about its end.
    fn is_proxied(&self, member: MemberId, address: &str) -> bool {
        self.mute().get(&(member, address.to_owned())).is_some_and(|since| since.elapsed() >= PROXY)
    }

    /// How many members are.
    fn proxied(&self) -> usize {
        self.mute().values().filter(|since| since.elapsed() >= PROXY).count()
    }
}
