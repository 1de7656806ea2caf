//! A release that begins with one pod, grows and shrinks, under load: writers and candidates ask all members that there ever are.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::audit::{Write, order, writes};
use super::growing::ids;
use super::helm::Release;
use crate::members::{PATIENCE, name};
use crate::nodes::Nodes;
use crate::support::candidates::{Candidates, Contest};
use crate::support::linearizability::{self, Verdict};
use crate::support::revisions;
use crate::support::watcher::Watcher;
use crate::support::workload::{Retries, Workload};
use crate::trial::{ELECTIONS, candidates_http};

/// The most members that there are at a time.
const MOST: usize = 5;

/// How many members there should be, and who leads before they are made as many: one that is to go, if any are.
struct Step {
    voters: u64,
    learners: u64,
    leader: Option<usize>,
}

const STEPS: [Step; 6] = [
    Step { voters: 3, learners: 0, leader: None },
    Step { voters: 5, learners: 0, leader: None },
    Step { voters: 3, learners: 2, leader: Some(4) },
    Step { voters: 3, learners: 0, leader: None },
    Step { voters: 1, learners: 0, leader: Some(2) },
    Step { voters: 3, learners: 0, leader: None },
];

impl Release {
    /// Declares how many members there should be, and waits until there are as many, with as many ready pods, and nobody else.
    async fn resize(&self, Step { voters, learners, .. }: &Step) -> Value {
        // What only the number of voters is about can be said like that.
        match learners {
            0 => self.namespace.kubectl(&["scale", "qc/quorate", &format!("--replicas={voters}")]).await.unwrap(),
            _ => String::new(),
        };
        let spec = format!(r#"{{"spec": {{"voters": {voters}, "learners": {learners}}}}}"#);
        self.namespace.kubectl(&["patch", "qc/quorate", "--type=merge", "--patch", &spec]).await.unwrap();
        let all = voters + learners;
        let has_members = |status: &Value| {
            status["voters"] == *voters && status["members"].as_array().is_some_and(|it| it.len() as u64 == all)
        };
        let status = self.status_when(&format!("made of {voters} voters and {learners} learners"), has_members).await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let set = self.namespace.get("statefulset/quorate").await.unwrap();
            let numbers = [&set["spec"]["replicas"], &set["status"]["replicas"], &set["status"]["readyReplicas"]];
            if numbers.iter().all(|number| **number == all) {
                return status;
            }
            assert!(Instant::now() < deadline, "there are not {all} pods after {PATIENCE:?}: {numbers:?}");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Lets a member lead, as a person would.
    async fn lead(&self, member: usize) {
        self.namespace.exec("quorate-0", &["quorate", "transfer", &name(member)]).await.unwrap();
        self.status_when("led by it", |status| status["raftLeader"] == name(member)).await;
    }

    /// Where members are or will be.
    fn urls(&self) -> Vec<String> {
        let service = format!("quorate-members.{}.svc.cluster.local:8080", self.namespace.name);
        (0..MOST).map(|member| format!("http://{}.{service}", name(member))).collect()
    }
}

/// Writers, readers and candidates at all members, and a watch on the one that is there from the beginning to the end.
struct Load {
    workload: Workload,
    candidates: Candidates,
    watcher: Watcher,
}

impl Load {
    fn on(release: &Release) -> Self {
        let urls = release.urls();
        let (dial, whole) = (Duration::from_secs(1), Duration::from_secs(5));
        let http = reqwest::Client::builder().connect_timeout(dial).timeout(whole).build().unwrap();
        let contest = Contest {
            namespace: release.namespace.name.clone(),
            elections: ELECTIONS,
            candidates: 2,
            longest_reign: Duration::from_secs(8),
        };
        let candidates = Candidates::start(&candidates_http(), &urls, &contest);
        let watcher = Watcher::start(vec![urls[0].clone()]);
        let workload = Workload::start(http, urls, Retries::EveryOtherWriter, Duration::from_millis(20));
        Self { workload, candidates, watcher }
    }

    /// Goes on with new keys while something lasts: histories of one key stay short. Tells what became of the load meanwhile.
    async fn during<T>(&self, what: &str, lasting: impl Future<Output = T>) -> T {
        let (before, reigns, began) = (self.workload.acknowledged(), self.candidates.reigns(), Instant::now());
        tokio::pin!(lasting);
        let done = loop {
            tokio::select! {
                biased;
                done = &mut lasting => break done,
                () = sleep(Duration::from_secs(2)) => self.workload.next_round(),
            }
        };
        let written = self.workload.acknowledged() - before;
        println!(
            "{what} after {:.1?}: {written} writes acknowledged meanwhile, none for at most {:.2?}; {} reigns began, and no election \
             was without a leader for longer than {:.2?}",
            began.elapsed(),
            self.workload.longest_pause_since(began),
            self.candidates.reigns() - reigns,
            self.candidates.longest_gaps_since(began).into_iter().max().unwrap_or_default(),
        );
        assert!(written > 0, "nothing was written meanwhile");
        done
    }

    /// Ends the work and holds what clients were told against the promises.
    async fn judge(self) {
        let reigns = self.candidates.judge().await;
        self.workload.read_everything().await;
        let (operations, notes) = self.workload.stop().await;
        let story = self.watcher.stop().await;
        println!("{} operations; a watch told {} changes; {reigns} reigns", operations.len(), story.len());
        println!("{} changes were given up in doubt: {:#?}", notes.given_up.len(), notes.given_up);
        assert!(reigns >= ELECTIONS, "only {reigns} reigns");
        assert!(notes.surprises.is_empty(), "no client should be told this: {:#?}", notes.surprises);
        assert!(story.faults.is_empty(), "the watch is broken: {:#?}", story.faults);
        let misses = story.misses(&operations);
        assert!(misses.is_empty(), "{} acknowledged writes are not in the watch: {:#?}", misses.len(), misses.first());
        assert_eq!(linearizability::check(&operations), Verdict::Linearizable);
        revisions::check(&operations).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_goes_from_one_member_to_five_and_back_to_one_and_grows_again_under_load() {
    let nodes = Nodes::alone().await;
    let release = Release::running_with(&["--set=voters=1"]).await;
    let load = Load::on(&release);
    let mut statuses = Vec::new();
    for step in STEPS {
        let what = format!("{} voters and {} learners", step.voters, step.learners);
        if let Some(leader) = step.leader {
            load.during(&format!("{} leads", name(leader)), release.lead(leader)).await;
        }
        statuses.push(load.during(&what, release.resize(&step)).await);
    }
    for learner in ["quorate-3", "quorate-4"] {
        assert_eq!(ids(&statuses[2], learner), [0_i64; 0], "{learner} votes: {:#}", statuses[2]);
    }
    let claims = release.namespace.kubectl(&["get", "pvc", "--output=name"]).await.unwrap();
    assert_eq!(claims.lines().count(), MOST, "the volumes of members that have left stay: {claims}");
    let given = statuses[..5].iter().flat_map(all_ids).max().unwrap();
    for member in ["quorate-1", "quorate-2"] {
        let (old, new) = (ids(&statuses[3], member), ids(&statuses[5], member));
        assert!(new[0] > given, "{member} was {old:?} and is {new:?}, but {given} was given already");
        let volume = release.volume_of(member).await;
        let kept = nodes.in_node(volume.node, &["ls", &format!("{}/retired-{}", volume.path, old[0])]);
        assert!(kept.contains("log.redb") && kept.contains("identity"), "{member} has set aside {kept}");
    }
    load.judge().await;
    assert_as_many_pods_went_as_members_left(&writes(&nodes, &release.namespace.name));
}

fn all_ids(status: &Value) -> Vec<i64> {
    status["members"].as_array().into_iter().flatten().filter_map(|member| member["id"].as_i64()).collect()
}

/// That pods went by the size that was declared: two and two, and no more. That each goes only once a quorum has confirmed that its
/// member has left is a plain function's (`raft/membership/pods.rs`), and statuses follow when they can.
fn assert_as_many_pods_went_as_members_left(writes: &[Write]) {
    let scales = writes.iter().filter(|write| write.is_done() && write.what == "statefulsets/scale");
    let sizes: Vec<_> = scales.map(|write| write.request["spec"]["replicas"].as_u64().unwrap()).collect();
    let down: u64 = sizes.windows(2).map(|pair| pair[0].saturating_sub(pair[1])).sum();
    println!("scaled to {sizes:?}");
    assert_eq!(down, 4, "{sizes:?}:{}", order(writes));
}
