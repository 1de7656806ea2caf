//! A node that never comes back, with the volume of a member on its disk: what the runbook says to do then, done as it stands
//! there.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::growing::ids;
use super::helm::Release;
use crate::kubectl::shell;
use crate::members::{Agreement, PATIENCE, name};
use crate::nodes::Nodes;
use crate::support::markdown::Markdown;
use crate::trial::Trial;

/// What the runbook says to type.
fn commands() -> Vec<String> {
    let runbook = include_str!("../../../docs/runbooks/member-down.md");
    let part = runbook.split_once("\n### The node is gone for good\n").unwrap().1.split_once("\n### ").unwrap().0;
    let part = Markdown::parse(part);
    let changes =
        part.blocks("sh").into_iter().find(|block| block.contains(" delete ")).expect("it says what to delete");
    changes.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_gone_for_good_costs_what_the_runbook_says_and_its_member_is_a_new_one_elsewhere() {
    let nodes = Nodes::alone().await;
    let release = Release::running().await;
    let trial = Trial::with(release.members(), nodes).await;
    let gone = async |before: &Agreement| {
        let (member, pod) = (before.leader, name(before.leader));
        let place = trial.members.places().await.swap_remove(member);
        let old = ids(&release.status().await, &pod);
        // It gets its power back when all is over, and has nothing that anybody would miss.
        let cut = trial.nodes.cut_power(place.node);
        trial.members.succeed(member).await;
        let namespace = format!("--namespace {} ", release.namespace.name);
        for command in commands() {
            let command = command.replace("NODE", &format!("node{}", place.node)).replace("quorate-2", &pod);
            let command = command.replace("--namespace quorate ", &namespace);
            println!("$ {command}\n{}", shell(&command).await.unwrap());
        }
        let deadline = Instant::now() + PATIENCE;
        let now = loop {
            match trial.members.place(member).await.filter(|now| now.uid != place.uid) {
                Some(now) => break now,
                None => assert!(Instant::now() < deadline, "{pod} has no new pod within {PATIENCE:?}"),
            }
            sleep(Duration::from_millis(100)).await;
        };
        assert_ne!(now.node, place.node);
        let status = release
            .status_when("whole again", |status| {
                let new = ids(status, &pod);
                new.len() == 1 && new != old && status["members"].as_array().is_some_and(|members| members.len() == 3)
            })
            .await;
        println!("{pod} was member {old:?} on node{} and is {:?} on node{}", place.node, ids(&status, &pod), now.node);
        drop(cut);
        nodes_are_back(place.node).await;
    };
    trial.survives("the Raft leader's node gone for good", gone).await;
    trial.judge().await;
}

/// The next test wants a node there, as empty as a new one.
async fn nodes_are_back(node: usize) {
    for state in ["create", "condition=Ready"] {
        shell(&format!("kubectl wait --for={state} node/node{node} --timeout=60s")).await.unwrap();
    }
}
