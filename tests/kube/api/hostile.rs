//! Resources that somebody has written badly, or in bad faith: what they cost is their own, and all others are served.

use super::operated::Operated;
use crate::kubectl::kubectl_with_input;
use crate::support::trio::wait_for;

/// A schema that is nested so deep; the API server takes up to 10,000 levels.
fn nested(levels: usize) -> String {
    format!("schema: {}true{}, data: {{text: one}}", "{items: ".repeat(levels), "}".repeat(levels))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_nested_too_deep_keeps_no_other_from_being_seen_neither_in_a_watch_nor_in_a_list() {
    let mut cluster = Operated::running().await;
    cluster.apply_text("web", "one").await;
    cluster.wait_for("rcfg/web", "Ready", "True").await;
    for (name, levels) in [("deeper", 1000), ("deep", 115)] {
        // The tests' own reader has the limit that the operator must do without.
        let apply = ["--namespace", &cluster.cluster, "apply", "--server-side", "--filename=-"];
        kubectl_with_input(&apply, &cluster.document("ReplicatedConfig", name, &nested(levels))).await.unwrap();
        let (object, path) = (format!("rcfg/{name}"), "{.status.conditions[?(@.type==\"Accepted\")].message}");
        let message = async || {
            let told =
                cluster.resources.namespace.kubectl(&["get", &object, &format!("--output=jsonpath={path}")]).await;
            told.ok().filter(|message| !message.is_empty())
        };
        let message = wait_for("it is not refused", message).await;
        assert_eq!(message, "spec: it is nested deeper than the limit of 100 levels: make it flatter");
    }
    cluster.apply_text("web", "two").await;
    cluster.wait_until_served("web", Some("two")).await;

    // The next leader begins with a list.
    let old = cluster.trio.leader().await;
    cluster.trio.kill(old);
    cluster.start(old);
    cluster.trio.wait_until_ready(old).await;
    cluster.apply_text("web", "three").await;
    cluster.wait_until_served("web", Some("three")).await;
    cluster.wait_for("rcfg/web", "Ready", "True").await;
    cluster.apply("ReplicatedConfig", "deeper", &nested(90)).await.unwrap();
    cluster.wait_for("rcfg/deeper", "Ready", "True").await;
    for member in 0..3 {
        let log = cluster.trio.log(member);
        assert!(!log.contains("are not seen") && !log.contains("recursion limit"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_would_cost_all_memory_is_refused_and_others_are_served_meanwhile() {
    let cluster = Operated::running().await;
    let link = |number: usize| {
        let next = format!("{{$ref: '#/$defs/d{}'}}", number + 1);
        format!("d{number}: {{allOf: [{next}, {next}]}}")
    };
    let definitions: Vec<_> = (0..40).map(link).chain(["d40: {type: integer}".to_owned()]).collect();
    let schema = format!("{{$ref: '#/$defs/d0', $defs: {{{}}}}}", definitions.join(", "));
    cluster.apply("ReplicatedConfig", "bomb", &format!("schema: {schema}, data: {{text: '1'}}")).await.unwrap();
    let list = "1,".repeat(200_000);
    let many = format!("schema: {{items: {{type: string}}}}, data: {{text: '[{list}]'}}");
    cluster.apply("ReplicatedConfig", "many", &many).await.unwrap();
    cluster.apply_text("web", "one").await;
    cluster.wait_until_served("web", Some("one")).await;
    let (_, message) = cluster.wait_for("rcfg/bomb", "Accepted", "False").await;
    assert!(message.contains("when its $refs are written out"), "{message}");
    let (_, message) = cluster.wait_for("rcfg/many", "Accepted", "False").await;
    assert!(message.contains("at \"/0\": the value is not of type \"string\""), "{message}");
    // Of another cluster, it is not even looked at.
    let spec = format!("{{cluster: other, schema: {schema}}}");
    cluster.resources.declare("ReplicatedConfig", "other", &spec).await.unwrap();
    cluster.apply_text("web", "two").await;
    cluster.wait_for("rcfg/web", "Ready", "True").await;
    let other = cluster.resources.get("rcfg/other").await;
    assert_eq!(other["status"]["conditions"][0]["reason"], "Pending", "{other:#}");
}
