//! What users get from members in pods, seen as they see it: with kubectl and the command line that the image brings.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::beside_others;
use crate::clients::Clients;
use crate::members::{Members, PATIENCE, SIZE, name};

#[tokio::test]
async fn members_in_restricted_pods_elect_replicate_and_serve_by_names_alone() {
    let _whole = beside_others().await;
    let members = Members::running().await;
    let exec = async |member: usize, arguments: &str| {
        let command: Vec<_> = ["quorate"].into_iter().chain(arguments.split(' ')).collect();
        members.namespace.exec(&name(member), &command).await.unwrap()
    };
    exec(1, "put kv greeting hello").await;
    let mut leaders = Vec::new();
    for member in 0..SIZE {
        assert_eq!(exec(member, "get kv greeting").await, "hello");
        let status = exec(member, "status --output json").await;
        for place in members.places().await {
            assert!(!status.contains(&place.ip), "it knows a member by the address of its pod: {status}");
        }
        let status: Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["members"].as_array().unwrap().len(), SIZE);
        leaders.push(status["leader"].clone());
    }
    assert!(leaders.iter().all(|leader| leader.is_string() && *leader == leaders[0]), "{leaders:?}");
    let log = members.namespace.logs(&name(0)).await;
    assert!(log.contains("\"message\":\"serving\""), "its log does not say that it serves: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_pods_with_a_sidecar_one_leads_and_when_it_goes_the_other() {
    let _whole = beside_others().await;
    let members = Members::running().await;
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/kubernetes/sidecar.yaml");
    members.namespace.apply(&fs::read_to_string(example).unwrap()).await.unwrap();
    members.namespace.kubectl(&["rollout", "status", "deployment/worker", "--timeout=1m"]).await.unwrap();
    let clients = Clients::start(&members.namespace.name, &members.urls(), members.urls());
    let one_after_the_other = async {
        let first = leader(&members, None).await;
        works(&members, &first).await;
        members.namespace.kubectl(&["delete", "pod", &first, "--wait=false"]).await.unwrap();
        let began = Instant::now();
        let next = leader(&members, Some(&first)).await;
        println!("{next} leads {:.1?} after {first} was deleted", began.elapsed());
        works(&members, &next).await;
        println!("its application works {:.1?} after that", began.elapsed());
    };
    clients.with_rounds(one_after_the_other).await;
    clients.judge().await;
}

/// Waits until the application of this pod has worked; then, and as long as the pod leads, it is the only one that does.
async fn works(members: &Members, leader: &str) {
    let deadline = Instant::now() + PATIENCE;
    let done_by = async || members.namespace.exec(&name(0), &["quorate", "get", "kv", "worker/done-by"]).await;
    while done_by().await.as_deref() != Ok(leader) {
        assert!(Instant::now() < deadline, "{leader} leads, and {:?} works", done_by().await);
        sleep(Duration::from_millis(100)).await;
    }
    // Four pieces of work.
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        assert_eq!(done_by().await.as_deref(), Ok(leader), "another one works than the one that leads");
        sleep(Duration::from_millis(100)).await;
    }
}

/// The pod whose sidecar says that it leads, once it is another one than `before`. kubectl alone is asked, as whoever uses a
/// cluster from outside would do.
async fn leader(members: &Members, before: Option<&str>) -> String {
    let namespace = &members.namespace;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let pods =
            namespace.kubectl(&["get", "pods", "--selector=app.kubernetes.io/name=worker", "--output=name"]).await;
        for pod in pods.unwrap().lines().filter_map(|pod| pod.strip_prefix("pod/")) {
            // A pod that is not there yet, or no more, has no log.
            let log = namespace.kubectl(&["logs", pod, "--container=elect"]).await.unwrap_or_default();
            if before != Some(pod) && log.contains("/worker is held, with fencing token ") {
                return pod.to_owned();
            }
        }
        assert!(Instant::now() < deadline, "nobody else leads within {PATIENCE:?}");
        sleep(Duration::from_millis(100)).await;
    }
}
