//! Releases beside each other in one Kubernetes: each serves what names its cluster, and leaves everything else alone.

use serde_json::Value;

use super::helm::Release;
use crate::namespace::Namespace;
use crate::nodes::Nodes;

impl Release {
    /// One member that serves what names this cluster, in a namespace of its own.
    async fn called(cluster: &str) -> Self {
        Self::running_with(&["--set=voters=1", &format!("--set=cluster={cluster}")]).await
    }
}

/// Something of each kind, for the members of a cluster.
async fn declare(namespace: &Namespace, cluster: &str, text: &str) {
    for (kind, spec) in [("ReplicatedConfig", format!("data: {{text: {text}}}")), ("LeaderElection", "seats: 2".into())]
    {
        let head = format!("apiVersion: quorate.io/v1alpha1\nkind: {kind}\nmetadata: {{name: of-{cluster}}}");
        namespace.apply(&format!("{head}\nspec: {{cluster: {cluster}, {spec}}}\n")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_releases_leave_each_others_resources_alone_and_a_third_that_claims_the_same_name_says_so() {
    let nodes = Nodes::alone().await;
    let shared = Namespace::fresh("shared").await;
    let clusters = ["blue", "green"];
    let releases = [Release::called(clusters[0]).await, Release::called(clusters[1]).await];
    for text in ["first", "second"] {
        for cluster in clusters {
            declare(&shared, cluster, text).await;
        }
    }
    declare(&shared, "nobody", "never").await;
    let kinds = ["replicatedconfig", "leaderelection"];
    for (cluster, release) in clusters.iter().zip(&releases) {
        let id = release.status().await["clusterId"].take();
        for kind in kinds {
            let object = format!("{kind}/of-{cluster}");
            let generation = shared.get(&object).await.unwrap()["metadata"]["generation"].take();
            shared.wait(&object, &format!("jsonpath={{.status.observedGeneration}}={generation}"), 60).await;
            shared.wait(&object, "condition=Ready", 60).await;
            assert_eq!(shared.get(&object).await.unwrap()["status"]["clusterId"], id, "{object}");
        }
        let get =
            async |what: &str| release.namespace.exec("quorate-0", &["quorate", "get", "config", what]).await.unwrap();
        let all = get(&shared.name).await;
        assert_eq!(all.matches("of-").count(), 1, "{cluster} serves others' too: {all}");
        let own = get(&format!("{}/of-{cluster}", shared.name)).await;
        assert!(own.contains("second"), "{own}");
    }

    let third = Release::called(clusters[0]).await;
    let claims = |condition: &&Value| {
        let message = condition["message"].as_str().unwrap_or_default();
        condition["type"] == "Degraded" && message.contains(&format!("{}/of-blue is written by", shared.name))
    };
    let is_told = |status: &Value| status["conditions"].as_array().into_iter().flatten().any(|it| claims(&it));
    third.status_when("told whose the resources are", is_told).await;
    // Its owner goes on.
    declare(&shared, clusters[0], "third").await;
    shared.wait("replicatedconfig/of-blue", "jsonpath={.status.observedGeneration}=3", 60).await;

    let writes = nodes.audit(&shared.name);
    let written = |kind: &str, cluster: &str| {
        let of = |entry: &&Value| {
            let object = &entry["objectRef"];
            object["resource"] == format!("{kind}s") && object["name"] == format!("of-{cluster}")
        };
        let account = |entry: &Value| entry["user"]["username"].as_str().unwrap_or_default().to_owned();
        writes.iter().filter(of).map(account).collect::<Vec<_>>()
    };
    for kind in kinds {
        for (cluster, release) in clusters.iter().zip(&releases) {
            let (accounts, account) = (written(kind, cluster), release.account("quorate"));
            assert!(!accounts.is_empty(), "nobody is seen to write the status of a {kind}");
            assert!(accounts.iter().all(|it| *it == account), "not only {account}: {accounts:?}");
        }
        assert_eq!(written(kind, "nobody"), Vec::<String>::new());
    }
}
