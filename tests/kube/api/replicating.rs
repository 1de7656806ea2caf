//! How fast what is declared is there, and statuses that the API server does not keep.

use tokio::time::Instant;

use super::fixture::apply_crds;
use super::operated::Operated;
use crate::kubectl::{self, kubectl_with_input};
use crate::support::trio::{SIZE, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_is_readable_on_every_member_at_once() {
    const ROUNDS: usize = 100;
    let cluster = Operated::running().await;
    cluster.apply_text("web", "0").await;
    cluster.wait_until_served("web", Some("0")).await;
    let mut took = Vec::new();
    for round in 1..=ROUNDS {
        let text = round.to_string();
        cluster.apply_text("web", &text).await;
        let began = Instant::now();
        for member in 0..SIZE {
            wait_for("it is not served", async || {
                (cluster.served(member, "web").await.as_deref() == Some(&text)).then_some(())
            })
            .await;
        }
        took.push(began.elapsed());
    }
    took.sort();
    let at = |percent: usize| took[(ROUNDS - 1) * percent / 100];
    println!(
        "from the answer to an apply until every member served it: median {:?}, 90 % {:?}, 99 % {:?}, longest {:?}",
        at(50),
        at(90),
        at(99),
        at(100)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_crd_of_an_older_release_configs_are_served_and_their_statuses_follow_once_it_is_replaced() {
    let cluster = Operated::running_alone().await;
    let name = "replicatedconfigs.quorate.io";
    let mut older = kubectl::get(&["crd", name]).await.unwrap();
    let status = &mut older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"];
    status.as_object_mut().unwrap().remove("replicatedTo").expect("it is a field");
    let older = serde_json::json!({
        "apiVersion": older["apiVersion"], "kind": older["kind"], "metadata": { "name": name }, "spec": older["spec"]
    });
    let force = ["apply", "--server-side", "--force-conflicts", "--filename=-", "--field-manager=quorate-crds"];
    kubectl_with_input(&force, &older.to_string()).await.unwrap();

    cluster.apply_text("web", "one").await;
    cluster.wait_until_served("web", Some("one")).await;
    wait_for("nobody says what is wrong", async || {
        (0..SIZE).any(|member| cluster.trio.log(member).contains("replicatedTo")).then_some(())
    })
    .await;
    apply_crds().await.unwrap();
    cluster.wait_for("rcfg/web", "Ready", "True").await;
}
