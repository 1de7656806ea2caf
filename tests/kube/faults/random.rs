//! Faults of every kind in a row, half of them two at a time, drawn from a seed: `QUORATE_FAULT_SEED=17 make kube-faults` draws the
//! same ones again. What becomes of them is not the same every time, as in every ring of real processes.

use std::mem::discriminant;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};

use super::outage::{declare_everything, everything_converges};
use crate::kubectl::kubectl;
use crate::members::{PATIENCE, Place, SIZE, name};
use crate::nodes::{Nodes, Outage, Partition, PowerCut};
use crate::release::helm::Release;
use crate::support::effort::Effort;
use crate::trial::Trial;

/// Something that goes wrong, and with which member. Of two at a time, the one that stands first here begins first: some need a
/// pod or the API server for it, which others take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    VolumeWiped(usize),
    NodeWithoutPower(usize),
    Parted(usize),
    PodKilled(usize),
    AllPodsKilled,
    /// To so many replicas, by hand.
    ScaledDown(usize),
    ApiServerStopped,
}

impl Fault {
    /// One of each kind, with members that are drawn anew.
    fn one_of_each(rng: &mut SmallRng) -> [Self; 7] {
        let mut member = || rng.random_range(0..SIZE);
        [
            Self::PodKilled(member()),
            Self::AllPodsKilled,
            Self::NodeWithoutPower(member()),
            Self::Parted(member()),
            Self::ApiServerStopped,
            Self::VolumeWiped(member()),
            Self::ScaledDown(1 + member() % 2),
        ]
    }

    fn member(self) -> Option<usize> {
        match self {
            Self::VolumeWiped(member)
            | Self::NodeWithoutPower(member)
            | Self::Parted(member)
            | Self::PodKilled(member) => Some(member),
            Self::AllPodsKilled | Self::ScaledDown(_) | Self::ApiServerStopped => None,
        }
    }

    /// Whether two may go wrong at a time.
    fn may_meet(self, other: Self) -> bool {
        let is_alike = discriminant(&self) == discriminant(&other);
        let same_member = self.member().is_some() && self.member() == other.member();
        // A member without its volume knows nothing; when it is the only one that is not scaled away, nobody is left who could
        // undo that.
        let pair = (self.min(other), self.max(other));
        let nobody_left = matches!(pair, (Self::VolumeWiped(_), Self::ScaledDown(_)));
        !is_alike && !same_member && !nobody_left
    }
}

/// So many faults, as many as possible of each kind, and half of them in pairs.
fn schedule(seed: u64, count: usize) -> Vec<Vec<Fault>> {
    let mut rng = SmallRng::seed_from_u64(seed);
    loop {
        let mut faults = Vec::new();
        while faults.len() < count {
            faults.extend(Fault::one_of_each(&mut rng));
        }
        faults.truncate(count);
        faults.shuffle(&mut rng);
        let (paired, single) = faults.split_at(2 * count.div_ceil(4));
        if paired.chunks(2).all(|pair| pair[0].may_meet(pair[1])) {
            let mut rounds: Vec<_> = paired.chunks(2).chain(single.chunks(1)).map(<[_]>::to_vec).collect();
            rounds.iter_mut().for_each(|round| round.sort_unstable());
            rounds.shuffle(&mut rng);
            return rounds;
        }
    }
}

#[test]
fn any_seed_draws_as_many_faults_of_each_kind_and_half_of_them_in_pairs() {
    for seed in 0..1000 {
        let rounds = schedule(seed, 30);
        let faults: Vec<_> = rounds.iter().flatten().collect();
        assert_eq!(faults.len(), 30);
        for one in &faults {
            let alike = faults.iter().filter(|other| discriminant(**other) == discriminant(*one)).count();
            assert!(alike >= 4, "seed {seed}: {one:?} {alike} times");
        }
        let paired = rounds.iter().filter(|round| round.len() == 2).flatten().count();
        assert!(paired >= 15, "seed {seed}: {paired} overlap");
    }
}

/// What lasts of a fault until it is let go of.
enum Lasting<'a> {
    /// It has happened, and Kubernetes makes up for it.
    Over,
    Power {
        _cut: PowerCut<'a>,
    },
    Partition(Partition<'a>),
    Outage {
        _outage: Outage<'a>,
    },
}

/// How everything was before a fault.
struct Before {
    places: Vec<Place>,
    /// The ids by which the members vote.
    ids: Vec<Option<u64>>,
    /// Of the StatefulSet: every change of its size makes it one more.
    generation: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_in_a_row_and_two_at_a_time_lose_nothing() {
    let seed = std::env::var("QUORATE_FAULT_SEED")
        .map_or_else(|_| rand::random(), |seed| seed.parse().expect("it is a number"));
    let count = Effort::from_environment().pick(7, 30);
    println!("{count} faults with QUORATE_FAULT_SEED={seed}");
    let nodes = Nodes::alone().await;
    let release = Release::running().await;
    declare_everything(&release).await;
    let trial = Trial::with(release.members(), nodes).await;
    release.without_scale_policy().await;
    let began = Instant::now();
    let mut rng = SmallRng::seed_from_u64(seed);
    for round in schedule(seed, count) {
        let (pause, hold) = (rng.random_range(0..1500), rng.random_range(500..4000));
        let [pause, hold] = [pause, hold].map(Duration::from_millis);
        trial.survives(&format!("{round:?}"), async |_| happen(&trial, &round, pause, hold).await).await;
    }
    println!("{count} faults in {:.0?}, with QUORATE_FAULT_SEED={seed}", began.elapsed());
    everything_converges(&trial, &release).await;
    trial.judge().await;
}

/// Lets faults begin one after the other, last together for a while, and end; proves that each has happened.
async fn happen(trial: &Trial, round: &[Fault], pause: Duration, hold: Duration) {
    let before = before(trial).await;
    let mut lasting = Vec::new();
    for (number, fault) in round.iter().enumerate() {
        if number > 0 {
            sleep(pause).await;
        }
        lasting.push(begin(trial, *fault, &before).await);
    }
    sleep(hold).await;
    for lasting in &lasting {
        if let Lasting::Partition(partition) = lasting {
            wait_for("a packet is kept from arriving", async || partition.dropped() > 0).await;
        }
    }
    // The API server first, because the others need it to come back.
    lasting.into_iter().rev().for_each(drop);
    for fault in round {
        prove(trial, *fault, &before).await;
    }
}

async fn before(trial: &Trial) -> Before {
    let mut ids = Vec::new();
    for member in 0..SIZE {
        ids.push(trial.members.id(member).await);
    }
    Before { places: trial.members.places().await, ids, generation: generation(trial).await }
}

async fn generation(trial: &Trial) -> u64 {
    let set = trial.members.namespace.get("statefulset/quorate").await.unwrap();
    set["metadata"]["generation"].as_u64().unwrap()
}

async fn begin<'a>(trial: &'a Trial, fault: Fault, before: &Before) -> Lasting<'a> {
    let (nodes, members) = (&trial.nodes, &trial.members);
    match fault {
        Fault::VolumeWiped(member) => {
            members.wipe_volume(nodes, member, before.places[member].node).await;
            Lasting::Over
        }
        Fault::NodeWithoutPower(member) => Lasting::Power { _cut: nodes.cut_power(before.places[member].node) },
        Fault::Parted(member) => Lasting::Partition(nodes.partition_pods_on(before.places[member].node)),
        Fault::PodKilled(member) => {
            kill_pods(trial, before, &[member]).await;
            Lasting::Over
        }
        Fault::AllPodsKilled => {
            kill_pods(trial, before, &[0, 1, 2]).await;
            Lasting::Over
        }
        Fault::ScaledDown(replicas) => {
            let replicas = format!("--replicas={replicas}");
            members.namespace.kubectl(&["scale", "statefulset/quorate", &replicas]).await.unwrap();
            Lasting::Over
        }
        Fault::ApiServerStopped => {
            let outage = nodes.stop_api();
            kubectl(&["get", "nodes"]).await.expect_err("the API server is stopped");
            Lasting::Outage { _outage: outage }
        }
    }
}

/// Kills the processes of members, who can hand nothing over, and takes their pods away before they come back.
async fn kill_pods(trial: &Trial, before: &Before, members: &[usize]) {
    let kill = |member: &usize| {
        let node = before.places[*member].node;
        trial.nodes.command_in_node(node, &["pkill", "-KILL", "-x", "quorate"]).status().unwrap().success()
    };
    let killed = members.iter().filter(|member| kill(member)).count();
    // Of all of them, one may be gone by another fault.
    assert!(killed >= members.len().min(SIZE - 1), "only {killed} of {members:?} were there to kill");
    for member in members {
        let away = ["delete", "pod", &name(*member), "--force", "--grace-period=0"];
        trial.members.namespace.kubectl(&away).await.unwrap();
    }
}

/// Waits until what is there now shows that the fault has happened, and that Kubernetes and the cluster have made up for it.
async fn prove(trial: &Trial, fault: Fault, before: &Before) {
    let place = async |member: usize| trial.members.place(member).await;
    let is_another = async |member: usize| place(member).await.is_some_and(|now| now.uid != before.places[member].uid);
    let is_restarted = async |member: usize| {
        let then = &before.places[member];
        place(member).await.is_some_and(|now| now.uid != then.uid || now.restarts > then.restarts)
    };
    let what = format!("after {fault:?}");
    match fault {
        Fault::VolumeWiped(member) => {
            let voter = async || trial.members.id(member).await;
            wait_for(&what, async || voter().await.is_some_and(|id| Some(id) != before.ids[member])).await;
        }
        Fault::NodeWithoutPower(member) => wait_for(&what, async || is_restarted(member).await).await,
        Fault::PodKilled(member) => wait_for(&what, async || is_another(member).await).await,
        Fault::AllPodsKilled => {
            for member in 0..SIZE {
                wait_for(&what, async || is_another(member).await).await;
            }
        }
        Fault::ScaledDown(_) => {
            let replicas = "jsonpath={.spec.replicas}=3";
            trial.members.namespace.wait("statefulset/quorate", replicas, 60).await;
            assert!(generation(trial).await >= before.generation + 2, "it was never scaled");
        }
        // That was seen while it lasted.
        Fault::Parted(_) | Fault::ApiServerStopped => {}
    }
}

async fn wait_for(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(100)).await;
    }
}
