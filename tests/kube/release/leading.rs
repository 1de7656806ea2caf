//! Who leads a release and who does not, whatever people want and whatever fails: one step after the other, of `planned.rs`.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::deposed::wait_until;
use super::planned::{leader_changes, patch, wait_for_another};
use crate::members::{Agreement, PATIENCE, SIZE, name};
use crate::trial::{GAP, Trial};

/// For how long a pod that is ending serves on.
const ENDING: Duration = Duration::from_secs(2);

/// Lets the resource say which member is preferred, and then takes its node away from it for a while: no election minds.
pub async fn preferred(trial: &Trial) {
    let preferred = (trial.members.whole().await.leader + 1) % SIZE;
    let prefer = format!(r#"{{"preferredLeader": "{}"}}"#, name(preferred));
    let node = trial.members.places().await[preferred].node;
    let said = async |_: &Agreement| {
        patch(trial, &prefer).await;
        wait_until_led(trial, |leader| leader == preferred).await;
    };
    let mut cordoned = None;
    let mut gaps = vec![trial.survives(&format!("{} preferred", name(preferred)), said).await];
    let cordon = async |_: &Agreement| {
        cordoned = Some(trial.nodes.cordon(node));
        wait_until_led(trial, |leader| leader != preferred).await;
    };
    gaps.push(trial.survives("its node cordoned", cordon).await);
    let uncordon = async |_: &Agreement| {
        drop(cordoned);
        wait_until_led(trial, |leader| leader == preferred).await;
    };
    gaps.push(trial.survives("its node uncordoned", uncordon).await);
    let crash = async |_: &Agreement| {
        trial.nodes.in_node(node, &["pkill", "-KILL", "-x", "quorate"]);
        trial.members.succeed(preferred).await;
        wait_until_led(trial, |leader| leader == preferred).await;
    };
    trial.survives("its process killed", crash).await;
    patch(trial, r#"{"preferredLeader": null}"#).await;
    assert!(gaps.iter().all(|gap| *gap <= GAP), "an election was without a leader for {gaps:?}");
}

/// Cordons the node of a follower, kills the Raft leader and takes its pod away, so many times: that follower never leads while
/// another member can.
pub async fn passed_over(trial: &Trial, times: usize) {
    let member = (trial.members.whole().await.leader + 1) % SIZE;
    let (namespace, pod) = (&trial.members.namespace, name(member));
    let log = async || namespace.logs(&pod).await;
    let cordoned = trial.nodes.cordon(trial.members.places().await[member].node);
    let says = async |text: &str| {
        let log = log().await;
        let told =
            log.lines().rfind(|line| line.contains("this member should not lead") || line.contains("may lead again"));
        told.is_some_and(|told| told.contains(text))
    };
    wait_until("it knows that it should not lead", async || says("should not lead").await).await;
    let reigns = async || {
        let own = format!(r#""name":"{pod}""#);
        let log = log().await;
        log.lines().filter(|line| line.contains("the Raft leader has changed") && line.contains(&own)).count()
    };
    let before = reigns().await;
    for _ in 0..times {
        let crashed = async |before: &Agreement| {
            assert_ne!(before.leader, member);
            let place = &trial.members.places().await[before.leader];
            trial.nodes.in_node(place.node, &["pkill", "-KILL", "-x", "quorate"]);
            namespace.kubectl(&["delete", "pod", &name(before.leader), "--force", "--grace-period=0"]).await.unwrap();
            assert_ne!(trial.members.succeed(before.leader).await.leader, member);
            wait_for_another(trial, before.leader, place).await;
        };
        let fault = format!("the Raft leader killed and its pod gone, while the node of {pod} is cordoned");
        trial.survives(&fault, crashed).await;
        assert_eq!(reigns().await, before, "{pod} has led meanwhile");
    }
    drop(cordoned);
    wait_until("it knows that it may lead again", async || says("may lead again").await).await;
}

/// Kills the Raft leader while the pod of a follower is ending, and lives still: the third member leads next.
pub async fn passed_over_while_it_ends(trial: &Trial) {
    let namespace = &trial.members.namespace;
    let mut lived_still = false;
    for _ in 0..3 {
        let killed = async |before: &Agreement| {
            let [ending, other] = [1, 2].map(|step| (before.leader + step) % SIZE);
            let places = trial.members.places().await;
            let logs = async |member| namespace.kubectl(&["logs", &name(member)]).await.unwrap_or_default();
            let began = Instant::now();
            namespace.kubectl(&["delete", "pod", &name(ending), "--wait=false"]).await.unwrap();
            wait_until("the pod is ending", async || logs(ending).await.contains("asked to stop")).await;
            trial.nodes.in_node(places[before.leader].node, &["pkill", "-KILL", "-x", "quorate"]);
            lived_still = began.elapsed() < ENDING;
            assert_ne!(trial.members.succeed(before.leader).await.leader, before.leader);
            wait_for_another(trial, ending, &places[ending]).await;
            // Its next pod may lead later.
            let next = leader_changes(trial, before.term).await.into_values().next().expect("somebody leads");
            let is_other = |change: &String| change.contains(&format!(r#""name":"{}""#, name(other)));
            assert!(!lived_still || next.iter().all(is_other), "{} won while it was ending: {next:#?}", name(ending));
        };
        trial.survives("the Raft leader killed while the pod of a follower is ending", killed).await;
        if lived_still {
            return;
        }
    }
    panic!("whenever the Raft leader was killed, the other pod had gone already");
}

async fn wait_until_led(trial: &Trial, enough: impl Fn(usize) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let leader = trial.members.agree(&[0, 1, 2]).await.leader;
        if enough(leader) {
            return;
        }
        assert!(Instant::now() < deadline, "{} leads still after {PATIENCE:?}", name(leader));
        sleep(Duration::from_millis(100)).await;
    }
}
