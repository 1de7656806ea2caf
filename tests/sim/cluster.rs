//! The members of a run: their disks, which outlive them, and whoever of them is up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use openraft_rt::AsyncRuntime;
use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;
use prometheus::Registry;
use quorate::coordinator::Coordinator;
use quorate::duties;
use quorate::raft::{Beginning, MembershipPhase, Parts, Phase, RaftHandle, RaftStatus, SnapshotThresholds};
use quorate::settings::{FastFailover, SessionSettings, Timing};
use quorate::tasks::{Failures, Tasks};
use quorate::types::{MemberId, MemberName};
use quorate::watch::{Hub, HubLimits};
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
use crate::registry::SimRegistry;
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
    begins: Begins,
    registry: SimRegistry,
    /// How many members there are by now.
    scale: AtomicUsize,
    /// Whether somebody makes it smaller.
    shrinks: AtomicBool,
    /// Whose volume each member id is.
    ids: Mutex<BTreeMap<MemberId, String>>,
    values: AtomicU64,
    counts: Mutex<Counts>,
    rng: Mutex<SmallRng>,
}

/// How the cluster of a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    Together,
    /// With the first member, which lets the registry record it; the others join.
    Alone,
}

#[derive(Default)]
struct Member {
    disk: Disk,
    /// What was on it once.
    copy: Option<Disk>,
    /// Whether what is on it was put back, so that others may refuse it.
    is_put_back: bool,
    process: Option<Process>,
    running: Option<Running>,
}

/// A member's process, from its first instruction.
#[derive(Clone)]
struct Process {
    life: Life,
    volume: SimVolume,
    tasks: Tasks,
    registry: Registry,
}

/// A member that has read who it is and can be asked. Clones share it.
#[derive(Clone)]
pub struct Running {
    pub number: usize,
    pub life: Life,
    pub raft: RaftHandle,
    pub coordinator: Coordinator,
    pub hub: Hub,
    pub tasks: Tasks,
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
        let begins = if rng.random_bool(0.4) { Begins::Alone } else { Begins::Together };
        Self::new_that(rng, trace, begins)
    }

    /// One that begins in a certain way.
    pub fn new_that(rng: &mut SmallRng, trace: &Trace, begins: Begins) -> Arc<Self> {
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
            scale: AtomicUsize::new(if begins == Begins::Together { SIZE } else { 1 }),
            shrinks: AtomicBool::new(false),
            registry: SimRegistry::new(rng),
            begins,
            ids: Mutex::default(),
            values: AtomicU64::new(0),
            counts: Mutex::default(),
            rng: Mutex::new(SmallRng::from_rng(rng)),
        })
    }

    /// Members that there are in the end.
    pub fn size(&self) -> usize {
        SIZE
    }

    pub fn begins(&self) -> Begins {
        self.begins
    }

    pub fn registry(&self) -> &SimRegistry {
        &self.registry
    }

    /// Members that there are by now.
    pub fn scale(&self) -> usize {
        self.scale.load(Ordering::Relaxed)
    }

    /// Lets there be all of them.
    pub fn scale_up(self: &Arc<Self>) {
        for member in self.scale.swap(SIZE, Ordering::Relaxed)..SIZE {
            self.boot(member);
        }
    }

    /// Whether the cluster can do without any one volume: every member runs, knows that its cluster exists, and sees the
    /// same voters, which are those that run, and no change in progress.
    pub fn is_whole(&self) -> bool {
        let running = self.all_running();
        let own: BTreeSet<_> = running.iter().filter_map(|member| member.raft.status().member).collect();
        own.len() == SIZE
            && running.iter().all(|member| {
                let status = member.raft.status();
                status.membership == MembershipPhase::Settled
                    && status.voters.keys().eq(&own)
                    && member.raft.state().cluster().is_some()
            })
    }

    /// Whether it may be made smaller now: nobody's volume is lost, so that every quorum on the way has its members. From then
    /// on no volume gets lost, until it has its size again.
    pub fn may_shrink(&self) -> bool {
        let may = self.is_whole();
        self.shrinks.store(may, Ordering::Relaxed);
        may
    }

    /// Everybody should be a member again.
    pub fn has_its_size(&self) {
        self.shrinks.store(false, Ordering::Relaxed);
    }

    /// Whether a volume may get lost.
    pub fn can_do_without_a_volume(&self) -> bool {
        !self.shrinks.load(Ordering::Relaxed) && self.is_whole()
    }

    /// Member ids that were seen.
    pub fn ids_given(&self) -> u64 {
        self.ids.lock().unwrap().len() as u64
    }

    /// Ends a member and empties its disk.
    pub fn empty(&self, member: usize) {
        self.end(member, Loss::Process);
        {
            let member = &mut self.members()[member];
            (member.disk, member.is_put_back) = (Disk::default(), false);
        }
        self.wires.forget_vote(&name(member));
        self.trace.note(format_args!("member {member} loses its volume"));
        self.count(|counts| counts.volumes_emptied += 1);
    }

    /// Keeps a copy of what is on a member's disk now, if that has a place in the cluster: without one it is as good as empty.
    pub fn copy(&self, member: usize) {
        if !self.takes_part(member) {
            return;
        }
        let member = &mut self.members()[member];
        member.copy = Some(member.disk.copy());
    }

    /// Ends a member, puts the copy of its disk in the place of the disk, and starts it again. False when there is no copy.
    pub fn put_back(self: &Arc<Self>, member: usize) -> bool {
        let Some(copy) = self.members()[member].copy.take() else { return false };
        self.end(member, Loss::Process);
        {
            let member = &mut self.members()[member];
            (member.disk, member.is_put_back) = (copy, true);
        }
        // What it may have forgotten is what the others have to notice.
        self.wires.forget_vote(&name(member));
        self.trace.note(format_args!("member {member} gets a copy of its disk back"));
        self.count(|counts| counts.copies_put_back += 1);
        self.boot(member);
        true
    }

    /// Whether a member runs, and takes part.
    pub fn takes_part(&self, member: usize) -> bool {
        self.running(member).is_some_and(|running| running.raft.status().phase == Phase::Running)
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
            beginning: self.beginning(member),
            timing: timing(),
            snapshots: snapshots(&mut rng),
            volume: Arc::new(volume.clone()),
            network: Arc::new(SimNetwork::new(&name(member), &life, &self.wires)),
            clock: Arc::clone(&clock) as _,
            hub: hub.clone(),
            registry: registry.clone(),
        };
        self.members()[member].process = Some(Process {
            life: life.clone(),
            volume: volume.clone(),
            tasks: tasks.clone(),
            registry: registry.clone(),
        });
        self.wires.note_start(&name(member));
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

    fn beginning(&self, member: usize) -> Beginning {
        match self.begins {
            Begins::Together => Beginning::Together(initial_cluster()),
            Begins::Alone => Beginning::Registered {
                registry: self.registry.door(member),
                address: address(member),
                founder: MemberName::new(name(0)).expect("a short name"),
            },
        }
    }

    /// A member's process has ended because it could not go on. One that was removed and is wanted again comes back, and sets the
    /// volume of the one that it was aside.
    fn has_ended_itself(self: &Arc<Self>, member: usize, volume: &SimVolume, cause: &str) {
        let phase = self.running(member).map(|running| running.raft.status().phase.clone());
        if matches!(&phase, Some(Phase::Stopped(why)) if why.contains("wants a member of its name again")) {
            self.end(member, Loss::Process);
            self.count(|counts| counts.removed_and_wanted_again += 1);
            return self.boot(member);
        }
        if volume.has_failed() {
            self.count(|counts| counts.stopped_by_a_failed_sync += 1);
        } else if matches!(&phase, Some(Phase::Stopped(why)) if why.contains("was removed from cluster")) {
            // Its next process sets aside what is on its disk, and joins as a new member.
            self.count(|counts| counts.volumes_set_aside += 1);
            self.end(member, Loss::Process);
            self.wires.forget_vote(&name(member));
            return self.boot(member);
        } else {
            let text = format!("member {member} has ended without its disk's fault: {cause}, {phase:?}");
            self.violations.add(Check::Survival, text);
        }
        self.end(member, Loss::Process);
    }

    /// Ends a member at once.
    pub fn end(&self, member: usize, loss: Loss) {
        self.members()[member].running = None;
        let Some(process) = self.members()[member].process.take() else { return };
        self.count_failovers(&process.registry);
        let Process { life, volume, tasks, .. } = process;
        life.end();
        self.wires.note_end(&name(member), loss);
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

    /// Adds up what the members that are up have counted of fail-overs.
    pub fn count_all_failovers(&self) {
        let registries: Vec<_> =
            self.members().iter().filter_map(|member| Some(member.process.as_ref()?.registry.clone())).collect();
        registries.iter().for_each(|registry| self.count_failovers(registry));
    }

    fn count_failovers(&self, registry: &Registry) {
        let families = registry.gather();
        let read = |metric: &str, label: &str| {
            let family = families.iter().find(|family| family.name() == metric)?;
            let labelled = family.get_metric().iter().find(|one| one.get_label()[0].value() == label)?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of a few")]
            let count = labelled.get_counter().get_value() as u64;
            Some(count)
        };
        let suspicions = |outcome| read("quorate_raft_suspicions_total", outcome).unwrap_or_default();
        self.count(|counts| {
            counts.fast_failovers += read("quorate_raft_leader_changes_total", "process-gone").unwrap_or_default();
            counts.suspicions_gone += suspicions("gone");
            counts.suspicions_alive += suspicions("alive");
            counts.suspicions_unsure += suspicions("unsure");
            counts.suspicions_outvoted += suspicions("outvoted");
        });
    }

    /// Notes whose volume an id is.
    pub fn note_id(&self, status: &RaftStatus) {
        let (Some(member), incarnation) = (status.member, status.incarnation.to_string()) else { return };
        let first = self.ids.lock().unwrap().entry(member).or_insert_with(|| incarnation.clone()).clone();
        if first != incarnation {
            let text = format!("{} has id {member} with volume {incarnation}, and so had {first}", status.name);
            self.violations.add(Check::IdOnce, text);
        }
    }

    /// Whether somebody has put an older copy of this member's volume back.
    pub fn is_put_back(&self, member: usize) -> bool {
        self.members()[member].is_put_back
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

/// Every member, with the address of its member port.
pub fn initial_cluster() -> BTreeMap<MemberName, String> {
    (0..SIZE).map(|member| (MemberName::new(name(member)).expect("a short name"), address(member))).collect()
}

fn address(member: usize) -> String {
    format!("{}:1", name(member))
}

/// Short, so that much happens in a run.
fn timing() -> Timing {
    Timing {
        heartbeat: Duration::from_millis(50),
        election_min: Duration::from_millis(150),
        election_max: Duration::from_millis(300),
        fast_failover: FastFailover::On,
    }
}

/// Often, so that snapshots are taken, sent and installed all the time; different from member to member.
fn snapshots(rng: &mut SmallRng) -> SnapshotThresholds {
    let entries = rng.random_range(20..200);
    SnapshotThresholds { entries, bytes: rng.random_range(20_000..200_000), kept: rng.random_range(0..entries) }
}
