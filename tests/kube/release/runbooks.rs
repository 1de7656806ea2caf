//! What the runbooks say to look at, and how they say that it is over, done as it stands there in a cluster that is well: there all of it
//! must succeed. What they say to do is done by the tests that each of them names.

use std::fs;
use std::path::Path;

use super::helm::Release;
use crate::alone;
use crate::kubectl::{kubectl, shell};
use crate::support::markdown::Markdown;

/// The parts of a runbook that change nothing.
const LOOKING: [&str; 2] = ["What to check, in this order", "How to see that it is over"];

/// What finds nothing where all is well, never ends, or needs what this cluster lacks: metrics-server, and to be in a pod.
const LEFT_OUT: [&str; 6] = ["--previous", "grep", "--watch", "kubectl top", "curl", "jq"];

#[tokio::test(flavor = "multi_thread")]
async fn whoever_looks_where_the_runbooks_say_finds_a_cluster_that_is_well() {
    let _alone = alone().await;
    let release = Release::running().await;
    // One runbook looks at a config of the examples.
    kubectl(&["apply", "--server-side", "--filename", "examples/shop.yaml"]).await.unwrap();
    let mut done = 0;
    for (runbook, script) in scripts() {
        let script = script
            .replace("--namespace quorate ", &format!("--namespace {} ", release.namespace.name))
            .replace("serviceaccount:quorate:", &format!("serviceaccount:{}:", release.namespace.name))
            .replace("/namespaces/quorate/", &format!("/namespaces/{}/", release.namespace.name));
        let said = shell(&script).await.unwrap_or_else(|refusal| panic!("{runbook}:\n{script}\n{refusal}"));
        println!("{runbook}:\n{script}\n{said}");
        done += 1;
    }
    kubectl(&["delete", "--filename", "examples/shop.yaml"]).await.unwrap();
    assert!(done >= 15, "only {done} scripts were found in the runbooks: are they still looked for?");
}

/// What to type, with the runbook that says so.
fn scripts() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let runbook = path.file_name().unwrap().to_str().unwrap().to_owned();
        for part in text
            .split("\n#")
            .filter(|part| LOOKING.iter().any(|title| part.trim_start_matches(['#', ' ']).starts_with(title)))
        {
            for block in Markdown::parse(part).blocks("sh") {
                let whole = block.replace("|\n", "| ");
                let lines: Vec<_> =
                    whole.lines().filter(|line| !LEFT_OUT.iter().any(|word| line.contains(word))).collect();
                if !lines.is_empty() {
                    found.push((runbook.clone(), lines.join("\n")));
                }
            }
        }
    }
    found
}
