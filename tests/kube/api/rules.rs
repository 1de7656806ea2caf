//! What the API server itself refuses of Quorate's resources, and what it takes: one test a rule.

use super::assert_refused;
use super::fixture::Resources;
use crate::kubectl::kubectl_with_input;

const KINDS: [&str; 3] = ["QuorateCluster", "ReplicatedConfig", "LeaderElection"];

#[tokio::test]
async fn what_is_left_out_has_the_defaults_of_the_schema() {
    let resources = Resources::served().await;
    for kind in KINDS {
        resources.declare(kind, "web", "{}").await.unwrap();
    }
    let expected = [
        ("qc/web", serde_json::json!({ "cluster": "default", "voters": 3, "learners": 0, "paused": false })),
        ("rcfg/web", serde_json::json!({ "cluster": "default", "data": {}, "historyLimit": 20 })),
        ("le/web", serde_json::json!({ "cluster": "default", "seats": 1 })),
    ];
    for (object, spec) in expected {
        assert_eq!(resources.get(object).await["spec"], spec, "{object}");
    }
}

#[tokio::test]
async fn voters_are_1_3_5_or_7_also_through_scale() {
    let resources = Resources::served().await;
    for voters in [1, 3, 5, 7] {
        resources.declare("QuorateCluster", "web", &format!("{{voters: {voters}}}")).await.unwrap();
    }
    for voters in [2, 4, 6] {
        let refusal = resources.declare("QuorateCluster", "web", &format!("{{voters: {voters}}}")).await;
        assert_refused(refusal, "it must be 1, 3, 5 or 7: with an even number");
    }
    let refusal = resources.declare("QuorateCluster", "web", "{voters: 9}").await;
    assert_refused(refusal, "spec.voters in body should be less than or equal to 7");
    let scale = async |replicas: &str| resources.namespace.kubectl(&["scale", "qc/web", replicas]).await;
    assert_refused(scale("--replicas=4").await, "it must be 1, 3, 5 or 7");
    scale("--replicas=5").await.unwrap();
    assert_eq!(resources.get("qc/web").await["spec"]["voters"], 5);
}

#[tokio::test]
async fn the_name_of_a_cluster_is_a_dns_label() {
    let resources = Resources::served().await;
    for kind in KINDS {
        for bad in ["Web", "a.b", "a-", "\"\""] {
            let refusal = resources.declare(kind, "web", &format!("{{cluster: {bad}}}")).await;
            assert_refused(refusal, "it must be a DNS label: lower-case letters, digits or '-'");
        }
        resources.declare(kind, "web", &format!("{{cluster: {}}}", "a".repeat(63))).await.unwrap();
        let refusal = resources.declare(kind, "long", &format!("{{cluster: {}}}", "a".repeat(64))).await;
        assert_refused(refusal, "spec.cluster: Too long");
    }
}

#[tokio::test]
async fn a_resource_stays_with_its_cluster() {
    let resources = Resources::served().await;
    for kind in KINDS {
        resources.declare(kind, "web", "{}").await.unwrap();
        resources.declare(kind, "web", "{cluster: default}").await.unwrap();
        let refusal = resources.declare(kind, "web", "{cluster: other}").await;
        assert_refused(
            refusal,
            "spec.cluster: Forbidden: it cannot be changed: delete the resource and create it again",
        );
        resources.namespace.kubectl(&["delete", kind, "web"]).await.unwrap();
        resources.declare(kind, "web", "{cluster: other}").await.unwrap();
    }
}

#[tokio::test]
async fn a_quorate_cluster_is_named_like_a_stateful_set_and_its_services() {
    let resources = Resources::served().await;
    resources.declare("QuorateCluster", &"a".repeat(52), "{}").await.unwrap();
    for bad in [&"a".repeat(53), "1a", "a.b"] {
        let refusal = resources.declare("QuorateCluster", bad, "{}").await;
        assert_refused(refusal, "metadata.name must be that of a StatefulSet and its Services: at most 52");
    }
}

#[tokio::test]
async fn the_preferred_leader_is_called_like_a_pod_of_a_stateful_set() {
    let resources = Resources::served().await;
    let longest = format!("{}-12", "a".repeat(60));
    for good in ["quorate-0", "a-1", "a-b9-12", &longest, "null"] {
        resources.declare("QuorateCluster", "web", &format!("{{preferredLeader: {good}}}")).await.unwrap();
    }
    for bad in ["quorate", "quorate-", "-1", "1a-0", "Quorate-1", "a.b-1", "a_b-1", "a--", "quorate-1a", "a-1 "] {
        let refusal = resources.declare("QuorateCluster", "web", &format!("{{preferredLeader: {bad:?}}}")).await;
        assert_refused(refusal, "it must be the name of a member, such as quorate-1: that of the StatefulSet");
    }
    let refusal = resources.declare("QuorateCluster", "web", &format!("{{preferredLeader: {longest}3}}")).await;
    assert_refused(refusal, "spec.preferredLeader: Too long");
}

#[tokio::test]
async fn each_part_of_a_name_is_a_label() {
    let resources = Resources::served().await;
    let long = "a".repeat(63);
    for kind in ["ReplicatedConfig", "LeaderElection"] {
        resources.declare(kind, &format!("{long}.{long}"), "{}").await.unwrap();
        let refusal = resources.declare(kind, &format!("b.{long}a"), "{}").await;
        assert_refused(refusal, "metadata.name must not have more than 63 characters between dots");
    }
}

#[tokio::test]
async fn the_keys_of_a_config_are_those_of_a_config_map() {
    let resources = Resources::served().await;
    let longest = "k".repeat(253);
    let good = format!("{{data: {{a: \"1\", app.yaml: \"2\", .env: \"3\", A_b-c.9: \"4\", {longest}: \"5\"}}}}");
    resources.declare("ReplicatedConfig", "web", &good).await.unwrap();
    for bad in ["a/b", "a b", "ä", "..", ".", "\"\"", &"k".repeat(254)] {
        let refusal = resources.declare("ReplicatedConfig", "web", &format!("{{data: {{{bad}: \"1\"}}}}")).await;
        assert_refused(refusal, "spec.data: Invalid value: each key must be 1 to 253 letters, digits");
    }
}

#[tokio::test]
async fn a_config_is_small() {
    let resources = Resources::served().await;
    let with = |length: usize| format!("{{data: {{a: {}, b: {}}}}}", "x".repeat(500_000), "x".repeat(length));
    resources.declare("ReplicatedConfig", "web", &with((1 << 20) - 500_002)).await.unwrap();
    let refusal = resources.declare("ReplicatedConfig", "web", &with((1 << 20) - 500_001)).await;
    assert_refused(refusal, "keys and texts must not be longer than 1 MiB together: divide them");

    let texts = |count: usize| (0..count).map(|number| format!("k{number}: \"\"")).collect::<Vec<_>>().join(", ");
    resources.declare("ReplicatedConfig", "many", &format!("{{data: {{{}}}}}", texts(256))).await.unwrap();
    let refusal = resources.declare("ReplicatedConfig", "more", &format!("{{data: {{{}}}}}", texts(257))).await;
    assert_refused(refusal, "spec.data: Too many: 257: must have at most 256 items");
}

#[tokio::test]
async fn a_rollback_names_a_version_that_was_there_when_it_is_declared() {
    let resources = Resources::served().await;
    let version = async |version: u32| {
        let status = format!("{{clusterId: {}, observedLeadership: 1, version: {version}}}", "a".repeat(32));
        resources.report("quorate", "ReplicatedConfig", "web", &status).await
    };
    resources.declare("ReplicatedConfig", "web", "{}").await.unwrap();
    version(3).await.unwrap();
    let refusal = resources.declare("ReplicatedConfig", "web", "{rollbackTo: 4}").await;
    assert_refused(refusal, "spec.rollbackTo must not be greater than status.version");
    resources.declare("ReplicatedConfig", "web", "{rollbackTo: 3}").await.unwrap();
    version(1).await.expect("a status is written whatever is declared");
    resources.declare("ReplicatedConfig", "web", "{rollbackTo: 3, data: {a: b}}").await.unwrap();
    resources.declare("ReplicatedConfig", "web", "{}").await.unwrap();
    let refusal = resources.declare("ReplicatedConfig", "web", "{rollbackTo: 0}").await;
    assert_refused(refusal, "spec.rollbackTo in body should be greater than or equal to 1");
    resources.declare("ReplicatedConfig", "new", "{rollbackTo: 3}").await.unwrap();
}

#[tokio::test]
async fn numbers_are_in_their_ranges() {
    let resources = Resources::served().await;
    let cases = [
        ("ReplicatedConfig", "historyLimit", [1, 100], [0, 101]),
        ("LeaderElection", "seats", [1, 1000], [0, 1001]),
        ("QuorateCluster", "learners", [0, 20], [-1, 21]),
    ];
    for (kind, field, good, bad) in cases {
        for number in good {
            resources.declare(kind, "web", &format!("{{{field}: {number}}}")).await.unwrap();
        }
        for number in bad {
            let refusal = resources.declare(kind, "web", &format!("{{{field}: {number}}}")).await;
            assert_refused(refusal, &format!("spec.{field} in body should be "));
        }
    }
}

#[tokio::test]
async fn a_ttl_is_half_a_second_to_a_day() {
    let resources = Resources::served().await;
    for good in ["500ms", "10s", "5m", "24h", "null"] {
        resources.declare("LeaderElection", "web", &format!("{{sessionTtl: {good}}}")).await.unwrap();
    }
    for bad in ["499ms", "25h", "\"10\"", "1.5s", "1h30m", "-1s", "soon"] {
        let refusal = resources.declare("LeaderElection", "web", &format!("{{sessionTtl: {bad}}}")).await;
        assert_refused(refusal, "it must be 500ms to 24h, written as a whole number");
    }
}

#[tokio::test]
async fn a_schema_is_any_object_and_is_kept_as_it_is() {
    let resources = Resources::served().await;
    let schema = "{type: object, required: [port], properties: {port: {type: integer, maximum: 65535}}}";
    resources.declare("ReplicatedConfig", "web", &format!("{{schema: {schema}}}")).await.unwrap();
    assert_eq!(resources.get("rcfg/web").await["spec"]["schema"]["properties"]["port"]["maximum"], 65535);
    let refusal = resources.declare("ReplicatedConfig", "web", "{schema: text}").await;
    assert_refused(refusal, "schema");
}

#[tokio::test]
async fn what_does_not_exist_is_refused_and_a_text_must_be_one() {
    let resources = Resources::served().await;
    let refusal = resources.create("QuorateCluster", "web", "spec: {voter: 3}").await;
    assert_refused(refusal, "unknown field \"spec.voter\"");
    let refusal = resources.create("ReplicatedConfig", "web", "spec: {data: {port: 80}}").await;
    assert_refused(refusal, "spec.data.port in body must be of type string: \"integer\"");
    for kind in KINDS {
        assert_refused(resources.create(kind, "web", "").await, "spec: Required value");
    }
}

#[tokio::test]
async fn the_examples_are_taken() {
    let resources = Resources::served().await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let mut documents = 0;
    for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_some_and(|extension| extension == "yaml") {
            // They name namespaces that are not there.
            let text = std::fs::read_to_string(&file).unwrap();
            let lines = text.lines().filter(|line| !line.starts_with("  namespace: "));
            let text = lines.collect::<Vec<_>>().join("\n");
            let arguments = ["--namespace", &resources.namespace.name, "create", "--dry-run=server", "--filename=-"];
            documents += kubectl_with_input(&arguments, &text).await.unwrap().lines().count();
        }
    }
    assert!(documents >= 5, "{documents} documents were found");
}
