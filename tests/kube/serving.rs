//! What users get from the manifests, seen as they see it: with kubectl and the command line that the image brings.

use serde_json::Value;

use crate::alone;
use crate::members::{Members, SIZE, name};

#[tokio::test]
async fn members_in_restricted_pods_elect_replicate_and_serve_by_names_alone() {
    let _alone = alone().await;
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
