//! Members in pods that clients work with while something breaks, and what must be true of them afterwards.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::clients::Clients;
use crate::members::{Agreement, Members, PATIENCE, SIZE};
use crate::nodes::Nodes;

/// Writes that must be acknowledged before and after a fault. Those after one are those before the next.
const WRITES: usize = 100;

/// The longest that an election may be without a leader while Kubernetes does what somebody has asked it for.
pub const GAP: Duration = Duration::from_secs(1);

pub struct Trial {
    clients: Clients,
    /// How many writes were acknowledged when the last fault was over.
    over: AtomicUsize,
    // Dropped after what has gone wrong with the nodes, and before they are free for the next test.
    pub members: Members,
    pub nodes: Nodes,
}

impl Trial {
    /// New members, with four writers, four readers, ten elections and a watch at work.
    pub async fn begin() -> Self {
        let nodes = Nodes::alone().await;
        Self::with(Members::running().await, nodes).await
    }

    /// The same of members that are there already.
    pub async fn with(members: Members, nodes: Nodes) -> Self {
        members.whole().await;
        let urls = members.urls();
        let clients = Clients::start(&members.namespace.name, &urls, urls.clone());
        let trial = Self { clients, over: AtomicUsize::new(0), members, nodes };
        trial.everything_is_led().await;
        trial
    }

    /// Lets something go wrong, given what the members agree on, and waits until it is over and all is whole again. The
    /// longest that any election was without a leader meanwhile.
    pub async fn survives(&self, fault: &str, inject: impl AsyncFnOnce(&Agreement)) -> Duration {
        self.survives_until(fault, inject, async || self.members.whole().await).await
    }

    /// The same while the API server is away, and nobody can be asked whether pods are ready.
    pub async fn survives_alone(&self, fault: &str, inject: impl AsyncFnOnce(&Agreement)) {
        let all: Vec<_> = (0..SIZE).collect();
        self.survives_until(&format!("no API server, and {fault}"), inject, async || self.members.agree(&all).await)
            .await;
    }

    async fn survives_until(
        &self,
        fault: &str,
        inject: impl AsyncFnOnce(&Agreement),
        whole: impl AsyncFn() -> Agreement,
    ) -> Duration {
        self.acknowledged_between().await;
        let before = whole().await;
        let (acknowledged, attempts, began) =
            (self.clients.workload.acknowledged(), self.clients.workload.attempts(), Instant::now());
        let reigns = self.reigns();
        let mut newest = self.clients.workload.newest_acknowledged();
        self.clients.with_rounds(inject(&before)).await;
        newest.extend(self.clients.workload.newest_acknowledged());
        let (injected, tried, done) =
            (began.elapsed(), self.clients.workload.attempts(), self.clients.workload.acknowledged());
        let after = whole().await;
        let whole = began.elapsed();
        self.is_over();
        self.acknowledged_between().await;
        self.everything_is_led().await;
        let same = self.clients.workload.read_back(&newest).await;
        let gaps = self.clients.candidates.longest_gaps_since(began);
        let gap = gaps.iter().copied().max().unwrap_or_default();
        println!(
            "{fault}: {acknowledged} writes acknowledged before; {} changes tried and {} writes acknowledged in {injected:.1?}, \
             none for at most {:.1?}; {} reigns began, and no election was without a leader for longer than {gap:.2?}; whole \
             again after {whole:.1?}; {} acknowledged since; of {} newest writes each member has kept or replaced every one ({same} of \
             {} answers the write itself); Raft leader quorate-{} -> quorate-{}",
            tried - attempts,
            done - acknowledged,
            self.clients.workload.longest_pause_since(began),
            self.reigns() - reigns,
            self.clients.workload.acknowledged() - done,
            newest.len(),
            newest.len() * SIZE,
            before.leader,
            after.leader,
        );
        assert!(tried > attempts, "nobody tried to write while it lasted");
        assert_eq!(after.cluster, before.cluster, "it is another cluster");
        assert!(after.revision >= before.revision, "from revision {} back to {}", before.revision, after.revision);
        gap
    }

    /// How many times anybody was granted an election.
    pub fn reigns(&self) -> usize {
        self.clients.candidates.reigns()
    }

    /// Waits until every election has a leader.
    async fn everything_is_led(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let vacant = self.clients.candidates.vacant();
            if vacant.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "the elections {vacant:?} have no leader within {PATIENCE:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// A fault is over.
    fn is_over(&self) {
        self.over.store(self.clients.workload.acknowledged(), Ordering::Relaxed);
    }

    /// Waits until enough writes are acknowledged after the last fault and before the next.
    async fn acknowledged_between(&self) {
        self.acknowledged_in_all(self.over.load(Ordering::Relaxed) + WRITES).await;
    }

    /// Waits until so many more writes are acknowledged.
    pub async fn acknowledged_more(&self, writes: usize) {
        self.acknowledged_in_all(self.clients.workload.acknowledged() + writes).await;
    }

    /// Waits until as much is done as in good times: writes are acknowledged, each member is asked for the newest of them, and an
    /// election has changed hands.
    pub async fn goes_on(&self) {
        let (reigns, deadline) = (self.reigns(), Instant::now() + PATIENCE);
        self.acknowledged_more(WRITES).await;
        self.clients.workload.read_back(&self.clients.workload.newest_acknowledged()).await;
        while self.reigns() == reigns {
            assert!(Instant::now() < deadline, "no election has changed hands within {PATIENCE:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn acknowledged_in_all(&self, enough: usize) {
        let deadline = Instant::now() + PATIENCE;
        self.clients
            .with_rounds(async {
                while self.clients.workload.acknowledged() < enough {
                    let so_far = self.clients.workload.acknowledged();
                    assert!(
                        Instant::now() < deadline,
                        "{so_far} writes are acknowledged within {PATIENCE:?}, not {enough}"
                    );
                    sleep(Duration::from_millis(50)).await;
                }
            })
            .await;
    }

    /// Ends the work and holds everything that clients were told against the promises.
    pub async fn judge(self) {
        let Self { clients, nodes: _nodes, members, over: _ } = self;
        clients.judge().await;
        members.hold_the_same(SIZE).await;
    }
}
