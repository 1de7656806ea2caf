//! A member whose disk fails while it runs: it stops at once, and never says that it did what it could not keep.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use prometheus::Registry;
use tokio::time::{Instant, timeout};

use super::memory_volume::MemoryVolume;
use crate::machine::command::{Action, Author, Command, KeyCondition};
use crate::raft::transport::{Inbox, Lane, Network, NetworkError, Peer, Probe};
use crate::raft::volume::{Volume, tidy};
use crate::raft::{Beginning, Clock, Parts, Phase, ProposeError, RaftHandle, SnapshotThresholds, Unavailable};
use crate::settings::{FastFailover, Timing};
use crate::tasks::{Failures, Tasks};
use crate::types::{Key, MemberName, Timestamp};
use crate::watch::{Hub, HubLimits};

/// The network of a member that is alone.
struct NobodyElse;

impl Network for NobodyElse {
    fn open(&self, _: Arc<dyn Inbox>, _: &Tasks) {}

    fn call(&self, peer: &Peer, _: Lane, _: Bytes, _: Instant) -> BoxFuture<'static, Result<Bytes, NetworkError>> {
        let error = NetworkError::NotSent { peer: peer.name().to_owned(), cause: "there is nobody".to_owned() };
        Box::pin(async { Err(error) })
    }

    fn probe(&self, _: &Peer, _: Bytes, _: Instant) -> BoxFuture<'static, Probe> {
        Box::pin(async { Probe::Nothing })
    }
}

struct StandingClock;

impl Clock for StandingClock {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(1)
    }

    fn random(&self) -> u128 {
        7
    }
}

/// A member that is its whole cluster.
pub(in crate::raft) async fn alone(volume: MemoryVolume) -> (RaftHandle, Failures) {
    let (tasks, failures) = Tasks::new();
    let name = MemberName::new("solo").unwrap();
    let parts = Parts {
        name: name.clone(),
        url: "http://solo.test".to_owned(),
        beginning: Beginning::Together(BTreeMap::from([(name, "solo:7400".to_owned())])),
        timing: Timing {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(600),
            fast_failover: FastFailover::On,
        },
        snapshots: SnapshotThresholds::default(),
        volume: Arc::new(volume),
        network: Arc::new(NobodyElse),
        clock: Arc::new(StandingClock),
        hub: Hub::new(HubLimits::default()),
        registry: Registry::new(),
    };
    (RaftHandle::start(parts, &tasks).await.unwrap(), failures)
}

fn put(key: &str) -> Command {
    let action = Action::PutKey {
        key: Key::new(key).unwrap(),
        value: Bytes::from_static(b"v"),
        session: None,
        only_if: KeyCondition::Always,
    };
    Command { at: Timestamp::from_millis(1), author: Author::Client(None), action }
}

/// The first thing that a start does with its volume is `tidy`.
#[test]
fn what_a_start_finds_on_its_volume_no_power_loss_takes_away() {
    let lost = |start: fn(&MemoryVolume)| {
        let volume = MemoryVolume::default();
        volume.create("snapshot.unfinished").unwrap().sync().unwrap();
        volume.rename("snapshot.unfinished", "snapshot").unwrap();
        // The process was killed here, before the directory was synced, and is started again.
        start(&volume);
        let is_lost = |seed| !volume.after_power_loss(seed).names().unwrap().contains(&"snapshot".to_owned());
        (0..20).filter(|seed| is_lost(*seed)).count()
    };
    assert_eq!(lost(|volume| tidy(volume).unwrap()), 0);
    assert!(lost(|_| ()) > 0, "the power loss of this test takes nothing away");
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_stops_the_member_within_a_second_and_is_not_acknowledged() {
    for operations in 1..8 {
        let volume = MemoryVolume::default();
        let (raft, mut failures) = alone(volume.clone()).await;
        let deadline = || Instant::now() + Duration::from_secs(10);
        raft.propose(put("kept"), deadline()).await.unwrap();
        volume.fail_after(operations);
        let began = Instant::now();
        // The write of one command has a few operations; a later one is the first that fails then.
        let error = loop {
            if let Err(error) = raft.propose(put("lost"), deadline()).await {
                break error;
            }
        };
        assert!(matches!(error, ProposeError::Unknown(Unavailable::Failed(_))), "{error:?}");
        let failure = timeout(Duration::from_secs(1), failures.next()).await.expect("the member ends");
        assert!(["raft", "log writer"].contains(&failure.task), "{failure:?}");
        assert!(began.elapsed() < Duration::from_secs(1), "it took {:?}", began.elapsed());
        let mut status = raft.status_changes();
        let stopped = status.wait_for(|status| matches!(status.phase, Phase::Stopped(_)));
        timeout(Duration::from_secs(1), stopped).await.expect("the status says so").unwrap();
        let refused = raft.propose(put("late"), deadline()).await.unwrap_err();
        assert!(matches!(refused, ProposeError::NotApplied(Unavailable::Failed(_))), "{refused:?}");
    }
}
