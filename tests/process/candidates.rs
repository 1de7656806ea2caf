//! Elections with many candidates while the Raft leader is killed again and again.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::alone;
use crate::support::candidates::{Candidates, Contest};
use crate::support::effort::Effort;
use crate::trio::{SIZE, Trio, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_raft_leader_every_second_overlaps_no_reigns_and_ends_none_that_is_kept_alive() {
    let _alone = alone().await;
    let rounds = Effort::from_environment().pick(12, 60);
    let mut trio = Trio::running().await;
    let contest = Contest {
        namespace: "default".to_owned(),
        elections: 20,
        candidates: 3,
        longest_reign: Duration::from_secs(3),
    };
    let candidates = Candidates::start(&trio.http, &trio.urls(), &contest);
    for _ in 0..rounds {
        let next = Instant::now() + Duration::from_secs(1);
        let leader = trio.leader().await;
        trio.kill(leader);
        trio.start(leader);
        sleep_until(next).await;
    }
    for member in 0..SIZE {
        trio.wait_until_ready(member).await;
    }
    wait_for("an election has no leader", async || candidates.vacant().is_empty().then_some(())).await;
    let reigns = candidates.judge().await;
    println!("{reigns} reigns in {} elections while the Raft leader was killed {rounds} times", contest.elections);
    assert!(reigns > contest.elections * contest.candidates, "only {reigns} reigns");
}
