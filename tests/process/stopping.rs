//! Members that are asked to stop, and serve on for a while: what they do until then.

use std::time::Duration;

use tokio::time::Instant;

use crate::alone;
use crate::trio::{SIZE, Trio, name, wait_for};

impl Trio {
    /// Three members that serve on for so long when they are asked to stop.
    async fn stopping_after(delay: &str) -> Self {
        let mut trio = Self::new();
        for member in 0..SIZE {
            let mut command = trio.command(member);
            command.args(["--stop-delay", delay]);
            trio.start_with(member, command);
        }
        trio.start_all().await;
        trio
    }

    /// Waits until all but `but` say that somebody else leads; who.
    async fn leader_but(&self, but: &[usize]) -> usize {
        let seen_by = async |member: usize| {
            let leader = self.get_json(member, "/v1/leader").await?;
            (0..SIZE).find(|other| leader["name"] == name(*other))
        };
        wait_for("nobody else leads", async || {
            let member = (0..SIZE).find(|member| !but.contains(member))?;
            seen_by(member).await.filter(|leader| !but.contains(leader))
        })
        .await
    }

    async fn put(&self, member: usize, value: &str) -> reqwest::StatusCode {
        let url = format!("{}/v1/kv/stopping", self.url(member));
        self.http.put(url).body(value.to_owned()).send().await.unwrap().status()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_asked_to_stop_leads_no_more_and_serves_on_and_never_wins_while_another_can() {
    let _alone = alone().await;
    let mut trio = Trio::stopping_after("5m").await;
    let stopping = trio.leader().await;
    let before = reigns(&trio, stopping);
    assert!(before > 0, "it leads");
    trio.ask_to_stop(stopping);
    let mut leader = trio.leader_but(&[stopping]).await;
    let ready = trio.http.get(format!("{}/readyz?verbose", trio.health_url(stopping))).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    assert!(ready.text().await.unwrap().contains("this member is stopping"));

    for round in 0..3 {
        let value = round.to_string();
        assert_eq!(trio.put(stopping, &value).await, 200, "it serves on");
        trio.kill(leader);
        let next = trio.leader_but(&[stopping, leader]).await;
        assert_eq!(next, 3 - stopping - leader);
        let url = format!("{}/v1/kv/stopping", trio.url(stopping));
        assert_eq!(trio.http.get(url).send().await.unwrap().text().await.unwrap(), value);
        trio.start(leader);
        trio.wait_until_ready(leader).await;
        leader = next;
    }
    assert_eq!(reigns(&trio, stopping), before, "it has led again");
    assert!(trio.ended(stopping).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_delay_is_over_ends_in_order_and_one_that_is_asked_again_at_once() {
    let _alone = alone().await;
    let mut trio = Trio::stopping_after("1s").await;
    let leader = trio.leader().await;
    let began = Instant::now();
    let status = trio.terminate(leader).await;
    assert!(status.success() && began.elapsed() >= Duration::from_secs(1), "{status} after {:?}", began.elapsed());

    let other = (leader + 1) % SIZE;
    let mut command = trio.command(leader);
    command.args(["--stop-delay", "5m"]);
    trio.start_with(leader, command);
    trio.wait_until_ready(leader).await;
    trio.ask_to_stop(leader);
    wait_for("it is not stopping", async || trio.log(leader).contains("asked to stop").then_some(())).await;
    trio.ask_to_stop(leader);
    assert_eq!(trio.wait_until_ended(leader).await.code(), Some(130));
    assert_eq!(trio.put(other, "still there").await, 200);
}

/// How often a member has led, as its log tells.
fn reigns(trio: &Trio, member: usize) -> usize {
    let own = format!("name=\"{}\"", name(member));
    let log = trio.log(member);
    log.lines().filter(|line| line.contains("the Raft leader has changed") && line.contains(&own)).count()
}
