//! A release that begins with one pod, grows and shrinks, under load: writers and candidates ask all members that there ever are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quorate::api::wire::Member;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::audit::{Write, order, writes};
use super::growing::ids;
use super::helm::Release;
use super::load::{Load, MOST};
use crate::api::look::Look;
use crate::members::{PATIENCE, name};
use crate::nodes::Nodes;

/// How many members there should be, by what that is said, and who leads before they are made as many: one that is to go, if any are.
struct Step {
    voters: u64,
    learners: u64,
    by: Tool,
    leader: Option<usize>,
}

/// What people change the number of members with.
#[derive(Debug, Clone, Copy)]
enum Tool {
    /// `kubectl scale`, which speaks of voters alone.
    Scale,
    /// `kubectl patch`.
    Patch,
}

const STEPS: [Step; 7] = [
    Step { voters: 3, learners: 0, by: Tool::Scale, leader: None },
    Step { voters: 5, learners: 0, by: Tool::Scale, leader: None },
    Step { voters: 3, learners: 0, by: Tool::Scale, leader: Some(4) },
    Step { voters: 3, learners: 2, by: Tool::Patch, leader: None },
    Step { voters: 3, learners: 0, by: Tool::Patch, leader: None },
    Step { voters: 1, learners: 0, by: Tool::Scale, leader: Some(2) },
    Step { voters: 3, learners: 0, by: Tool::Scale, leader: None },
];

impl Release {
    /// Declares how many members there should be, and waits until there are as many, with as many ready pods, and nobody else.
    async fn resize(&self, Step { voters, learners, by, .. }: &Step) -> Value {
        let said = match by {
            Tool::Scale => self.namespace.kubectl(&["scale", "qc/quorate", &format!("--replicas={voters}")]).await,
            Tool::Patch => {
                let spec = format!(r#"{{"spec": {{"voters": {voters}, "learners": {learners}}}}}"#);
                self.namespace.kubectl(&["patch", "qc/quorate", "--type=merge", "--patch", &spec]).await
            }
        };
        said.unwrap();
        let all = voters + learners;
        let wanted: Vec<_> = (0..usize::try_from(all).unwrap()).map(name).collect();
        let has_members = |status: &Value| status["voters"] == *voters && names(status) == wanted;
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

    /// The same when there will be fewer, after there were as many as there ever are. Meanwhile no pod is seen to be taken away before its
    /// member, and all volumes stay.
    async fn shrink(&self, step: &Step) -> Value {
        let looks = AtomicUsize::new(0);
        let status = tokio::select! {
            status = self.resize(step) => status,
            () = self.members_have_pods(&looks) => unreachable!("it never ends"),
        };
        println!("the pods and then the members were looked at {looks:?} times meanwhile");
        assert!(looks.into_inner() > 0, "nobody has looked at the members");
        let claims = self.namespace.kubectl(&["get", "pvc", "--output=name"]).await.unwrap();
        assert_eq!(claims.lines().count(), MOST, "the volumes of members that have left stay: {claims}");
        status
    }

    /// Looks again and again how many pods there should be and then who is a member: each has one. Never ends.
    async fn members_have_pods(&self, looks: &AtomicUsize) {
        let look = Look::into(&self.namespace.name).await;
        loop {
            let replicas = look.at("statefulset/quorate").await["spec"]["replicas"].as_u64();
            let seen = self.members().seen_by(0).await.filter(|seen| !seen.stale);
            if let Some((replicas, seen)) = replicas.zip(seen) {
                let has_pod =
                    |member: &Member| (0..replicas).any(|ordinal| member.name == format!("quorate-{ordinal}"));
                assert!(seen.members.iter().all(has_pod), "with {replicas} pods there are {:#?}", seen.members);
                looks.fetch_add(1, Ordering::Relaxed);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// That a member which was to leave handed leadership over, as the log of the first one tells, which never leaves.
    async fn assert_handed_over(&self, by: usize) {
        let log = self.namespace.logs("quorate-0").await;
        let changes = log.lines().filter(|line| line.contains("the Raft leader has changed"));
        let changes: Vec<Value> = changes.map(|line| serde_json::from_str(line).unwrap()).collect();
        let reign = changes.iter().rposition(|change| change["name"] == name(by)).expect("it has led");
        let next = changes.get(reign + 1).expect("another one leads");
        assert_eq!(next["cause"], "Transfer", "leadership was lost, not handed over: {changes:#?}");
    }

    /// Lets a member lead, as a person would.
    async fn lead(&self, member: usize) {
        self.namespace.exec("quorate-0", &["quorate", "transfer", &name(member)]).await.unwrap();
        self.status_when("led by it", |status| status["raftLeader"] == name(member)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_goes_from_one_member_to_five_and_back_to_one_and_grows_again_under_load() {
    let nodes = Nodes::alone().await;
    let release = Release::running_with(&["--set=voters=1"]).await;
    let load = Load::on(&release);
    let mut statuses = Vec::new();
    for step in STEPS {
        let what = format!("{} voters and {} learners, by {:?}", step.voters, step.learners, step.by);
        if let Some(leader) = step.leader {
            load.during(&format!("{} leads", name(leader)), release.lead(leader)).await;
        }
        let members = step.voters + step.learners;
        let is_smaller = statuses.last().is_some_and(|before| members < all_ids(before).len() as u64);
        statuses.push(match is_smaller {
            true => load.during(&what, release.shrink(&step)).await,
            false => load.during(&what, release.resize(&step)).await,
        });
        if let Some(leader) = step.leader {
            release.assert_handed_over(leader).await;
        }
    }
    let [.., with_learners, before, _, after] = &statuses[..] else { panic!("there are more steps") };
    for learner in ["quorate-3", "quorate-4"] {
        assert_eq!(ids(with_learners, learner), [0_i64; 0], "{learner} votes: {with_learners:#}");
    }
    let given = statuses[..STEPS.len() - 1].iter().flat_map(all_ids).max().unwrap();
    for member in ["quorate-1", "quorate-2"] {
        let (old, new) = (ids(before, member), ids(after, member));
        assert!(new[0] > given, "{member} was {old:?} and is {new:?}, but {given} was given already");
        let volume = release.volume_of(member).await;
        let kept = nodes.in_node(volume.node, &["ls", &format!("{}/retired-{}", volume.path, old[0])]);
        assert!(kept.contains("log.redb") && kept.contains("identity"), "{member} has set aside {kept}");
    }
    load.judge().await;
    // Whoever has set it last keeps it until it is told otherwise.
    let refusal = release.upgrade(&["--set=voters=1"]).await.unwrap_err();
    assert!(refusal.contains("conflict with \"kubectl\"") && refusal.contains(".spec.voters"), "{refusal}");
    release.upgrade(&["--set=voters=3"]).await.unwrap();
    // Helm, by other values of the chart, waits until there are as many members and pods.
    for voters in [5_u64, 1] {
        release
            .upgrade(&[&format!("--set=voters={voters}"), "--force-conflicts", "--wait", "--timeout=3m"])
            .await
            .unwrap();
        let (status, set) = (release.status().await, release.namespace.get("statefulset/quorate").await.unwrap());
        assert_eq!((names(&status).len() as u64, &status["voters"]), (voters, &voters.into()), "{status:#}");
        assert_eq!(set["status"]["replicas"], voters, "{set:#}");
    }
    assert_as_many_pods_went_as_members_left(&writes(&nodes, &release.namespace.name));
}

/// Who the members are, from the lowest ordinal to the highest.
fn names(status: &Value) -> Vec<String> {
    let members = status["members"].as_array().into_iter().flatten();
    let mut names: Vec<_> = members.map(|member| member["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn all_ids(status: &Value) -> Vec<i64> {
    status["members"].as_array().into_iter().flatten().filter_map(|member| member["id"].as_i64()).collect()
}

/// That pods went by the size that was declared: two, two, two and four, and no more.
fn assert_as_many_pods_went_as_members_left(writes: &[Write]) {
    let scales = writes.iter().filter(|write| write.is_done() && write.what == "statefulsets/scale");
    let sizes: Vec<_> = scales.map(|write| write.request["spec"]["replicas"].as_u64().unwrap()).collect();
    let down: u64 = sizes.windows(2).map(|pair| pair[0].saturating_sub(pair[1])).sum();
    println!("scaled to {sizes:?}");
    assert_eq!(down, 10, "{sizes:?}:{}", order(writes));
}
