//! The members of a run: their disks, which outlive them, and whoever of them is up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use openraft_rt::AsyncRuntime;
use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;
use prometheus::Registry;
use quorate::coordinator::Coordinator;
use quorate::duties;
use quorate::machine::keys::KeyRange;
use quorate::raft::{Parts, Phase, RaftHandle, SnapshotThresholds};
use quorate::settings::{SessionSettings, Timing};
use quorate::tasks::{Exit, Failures, Tasks};
use quorate::types::MemberName;
use quorate::watch::{Filter, Hub, HubLimits, Next};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use crate::candidate::Reigns;
use crate::clock::SimClock;
use crate::counts::Counts;
use crate::disk::Disk;
use crate::ledger::Ledger;
use crate::life::Life;
use crate::network::{SimNetwork, Wires};
use crate::support::history::{Recorder, ValueId};
use crate::trace::Trace;
use crate::violation::{Check, Violations};
use crate::volume::SimVolume;

/// Members in a run.
const SIZE: usize = 3;

/// Everything that a run is made of.
pub struct Cluster {
    pub wires: Wires,
    pub trace: Trace,
    pub recorder: Recorder,
    pub ledger: Ledger,
    pub reigns: Reigns,
    pub violations: Violations,
    start: Instant,
    members: Mutex<Vec<Member>>,
    values: AtomicU64,
    counts: Mutex<Counts>,
    rng: Mutex<SmallRng>,
}

#[derive(Default)]
struct Member {
    disk: Disk,
    process: Option<Process>,
    running: Option<Running>,
}

/// A member's process, from its first instruction.
#[derive(Clone)]
struct Process {
    life: Life,
    volume: SimVolume,
    tasks: Tasks,
}

/// A member that has read who it is and can be asked. Clones share it.
#[derive(Clone)]
pub struct Running {
    pub number: usize,
    pub life: Life,
    pub raft: RaftHandle,
    pub coordinator: Coordinator,
    hub: Hub,
    tasks: Tasks,
}

/// What a member loses when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The power went off: what was not synced.
    Power,
    /// The process was killed: only what was in its memory.
    Process,
}

/// The name of a member, and of its host.
pub fn name(member: usize) -> String {
    format!("quorate-{member}")
}

impl Cluster {
    pub fn new(rng: &mut SmallRng, trace: &Trace) -> Arc<Self> {
        let violations = Violations::default();
        Arc::new(Self {
            wires: Wires::new(rng, trace),
            trace: trace.clone(),
            recorder: Recorder::default(),
            ledger: Ledger::new(&violations),
            reigns: Reigns::default(),
            violations,
            start: Instant::now(),
            members: Mutex::new((0..SIZE).map(|_| Member::default()).collect()),
            values: AtomicU64::new(0),
            counts: Mutex::default(),
            rng: Mutex::new(SmallRng::from_rng(rng)),
        })
    }

    pub fn size(&self) -> usize {
        SIZE
    }

    /// Whether a member's process is there.
    pub fn is_up(&self, member: usize) -> bool {
        self.members()[member].process.as_ref().is_some_and(|process| !process.life.is_over())
    }

    /// A member, if it can be asked.
    pub fn running(&self, member: usize) -> Option<Running> {
        self.members()[member].running.clone().filter(|running| !running.life.is_over())
    }

    /// Every member that can be asked.
    pub fn all_running(&self) -> Vec<Running> {
        (0..SIZE).filter_map(|member| self.running(member)).collect()
    }

    /// The disk of a member that is up.
    pub fn volume(&self, member: usize) -> Option<SimVolume> {
        self.members()[member].process.as_ref().map(|process| process.volume.clone())
    }

    /// A value that nobody has written.
    pub fn next_value(&self) -> ValueId {
        self.values.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn count(&self, add: impl FnOnce(&mut Counts)) {
        add(&mut self.counts.lock().unwrap());
    }

    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap()
    }

    /// Starts a member on what is on its disk.
    pub fn boot(self: &Arc<Self>, member: usize) {
        self.trace.note(format_args!("member {member} starts"));
        let mut rng = SmallRng::from_rng(&mut *self.rng.lock().unwrap());
        let (life, (tasks, failures)) = (Life::default(), Tasks::new());
        let disk = self.members()[member].disk.clone();
        let volume = SimVolume::new(member, &disk, &life, &self.trace, &mut rng);
        let clock = Arc::new(SimClock::new(self.start, &mut rng));
        let (hub, registry) = (Hub::new(HubLimits::default()), Registry::new());
        let parts = Parts {
            name: MemberName::new(name(member)).expect("a short name"),
            url: format!("http://{}", name(member)),
            initial_cluster: initial_cluster(),
            timing: timing(),
            snapshots: snapshots(&mut rng),
            volume: Arc::new(volume.clone()),
            network: Arc::new(SimNetwork::new(&name(member), &life, &self.wires)),
            clock: Arc::clone(&clock) as _,
            hub: hub.clone(),
            registry: registry.clone(),
        };
        self.members()[member].process =
            Some(Process { life: life.clone(), volume: volume.clone(), tasks: tasks.clone() });
        let cluster = Arc::clone(self);
        drop(DeterministicRng::<TokioRuntime>::spawn(async move {
            let Some(started) = life.outlives(RaftHandle::start(parts, &tasks)).await else { return };
            let end = match started {
                Ok(raft) => {
                    let coordinator = Coordinator::start(
                        raft.clone(),
                        hub.clone(),
                        clock,
                        SessionSettings::default(),
                        &registry,
                        &tasks,
                    )
                    .expect("the metrics are declared once");
                    duties::start(coordinator.clone(), &tasks);
                    let running = Running { number: member, life: life.clone(), raft, coordinator, hub, tasks };
                    cluster.observe(&running);
                    cluster.members()[member].running = Some(running);
                    let Some(failure) = life.outlives(end_of(failures)).await else { return };
                    failure
                }
                Err(error) => error.to_string(),
            };
            cluster.has_ended_itself(member, &volume, &end);
        }));
    }

    /// A member's process has ended because it could not go on.
    fn has_ended_itself(&self, member: usize, volume: &SimVolume, cause: &str) {
        if volume.has_failed() {
            self.count(|counts| counts.stopped_by_a_failed_sync += 1);
        } else {
            let phase = self.running(member).map(|running| running.raft.status().phase.clone());
            let text = format!("member {member} has ended without its disk's fault: {cause}, {phase:?}");
            self.violations.add(Check::Survival, text);
        }
        self.end(member, Loss::Process);
    }

    /// Ends a member at once.
    pub fn end(&self, member: usize, loss: Loss) {
        self.members()[member].running = None;
        let Some(Process { life, volume, tasks }) = self.members()[member].process.take() else { return };
        life.end();
        tasks.abort();
        self.trace.note(format_args!("member {member} ends: {loss:?}"));
        if loss == Loss::Power {
            let at_a_sync = u64::from(volume.has_ended_its_member());
            let damage = self.members()[member].disk.lose_power(&mut self.rng.lock().unwrap());
            self.count(|counts| {
                counts.power_losses_at_a_sync += at_a_sync;
                counts.add_damage(damage);
            });
        }
    }

    /// Writes down everything that a member publishes.
    fn observe(self: &Arc<Self>, running: &Running) {
        for filter in [Filter::Keys(KeyRange::Prefix(String::new())), Filter::Leadership] {
            let (cluster, running, hub) = (Arc::clone(self), running.clone(), running.hub.clone());
            running.tasks.clone().spawn("observer of events", Exit::Fatal, async move {
                cluster.follow(&running, &hub, filter).await;
            });
        }
        let (cluster, watched, vote) = (Arc::clone(self), running.clone(), self.wires.vote_of(&name(running.number)));
        running.tasks.spawn("observer of the vote", Exit::Normal, async move {
            let mut changes = watched.raft.status_changes();
            let Ok(status) = changes.wait_for(|status| status.phase == Phase::Running).await else { return };
            if status.term < vote {
                let text = format!(
                    "member {} gave a vote in term {vote} and has come back in term {}",
                    watched.number, status.term
                );
                cluster.violations.add(Check::VoteKept, text);
            }
        });
        let (cluster, running) = (Arc::clone(self), running.clone());
        running.tasks.clone().spawn("observer of states", Exit::Fatal, async move {
            let mut states = running.raft.state_changes();
            while states.changed().await.is_ok() {
                let state = states.borrow_and_update().clone();
                cluster.ledger.show(running.number, &state);
            }
        });
    }

    async fn follow(&self, running: &Running, hub: &Hub, filter: Filter) {
        loop {
            let mut subscription = hub.subscribe(filter.clone(), hub.newest());
            loop {
                match subscription.next().await {
                    Next::Notice(notice) => self.ledger.tell(running.number, notice),
                    // A snapshot has replaced the state: go on behind it.
                    Next::Behind => break,
                    Next::Gap { expected, found } => {
                        let text = format!("member {} went from {expected} to {found}", running.number);
                        self.violations.add(Check::NoGaps, text);
                    }
                }
            }
        }
    }

    fn members(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap()
    }
}

/// The first failure of a member's tasks.
async fn end_of(mut failures: Failures) -> String {
    let failure = failures.next().await;
    format!("task {}: {}", failure.task, failure.cause)
}

fn initial_cluster() -> BTreeMap<MemberName, String> {
    (0..SIZE)
        .map(|member| (MemberName::new(name(member)).expect("a short name"), format!("{}:1", name(member))))
        .collect()
}

/// Short, so that much happens in a run.
fn timing() -> Timing {
    Timing {
        heartbeat: Duration::from_millis(50),
        election_min: Duration::from_millis(150),
        election_max: Duration::from_millis(300),
    }
}

/// Often, so that snapshots are taken, sent and installed all the time; different from member to member.
fn snapshots(rng: &mut SmallRng) -> SnapshotThresholds {
    let entries = rng.random_range(20..200);
    SnapshotThresholds { entries, bytes: rng.random_range(20_000..200_000), kept: rng.random_range(0..entries) }
}
