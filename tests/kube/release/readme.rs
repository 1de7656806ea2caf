//! What the README says of Kubernetes, done as it stands there.

use crate::alone;
use crate::kubectl::{kubectl, shell};

/// The commands of the README's part, but for the first ones, which make the image; each with its comment.
fn commands() -> Vec<&'static str> {
    let readme = include_str!("../../../README.md");
    let part = readme.split_once("\n## On Kubernetes\n").unwrap().1.split_once("\n## ").unwrap().0;
    let blocks = part.split("```sh\n").skip(1).map(|block| block.split_once("```").unwrap().0);
    let commands: Vec<_> = blocks.flat_map(str::lines).collect();
    assert!(commands[0].starts_with("make image"), "{commands:?}");
    commands[1..].to_vec()
}

/// The namespace that the README speaks of, gone with the test.
struct ItsNamespace;

impl Drop for ItsNamespace {
    fn drop(&mut self) {
        let commands =
            ["delete namespace quorate --wait=false", "delete clusterrole,clusterrolebinding quorate:quorate:quorate"];
        for command in commands {
            let mut kubectl = crate::kubectl::command();
            drop(kubectl.args(command.split(' ')).arg("--ignore-not-found").output().unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_types_what_the_readme_says_gets_what_it_says() {
    let _alone = alone().await;
    kubectl(&["get", "namespace", "quorate"]).await.expect_err("there is a namespace `quorate` already");
    let _its = ItsNamespace;
    for command in commands() {
        let said = shell(command).await.unwrap_or_else(|refusal| panic!("{command}\n{refusal}"));
        let beginning = said.lines().take(12).collect::<Vec<_>>().join("\n");
        println!("$ {command}\n{beginning}");
        let expected = match command {
            command if command.starts_with("helm test") => "available, 1 more may fail",
            command if command.contains("get quoratecluster quorate") => "True",
            command if command.contains("get config default/shop") => "Free shipping this week",
            command if command.contains("/proxy/metrics") => "quorate_raft_is_leader",
            command if command.contains("get replicatedconfig shop") => "3/3",
            _ => "",
        };
        assert!(said.contains(expected), "{expected} is not what {command} printed:\n{said}");
    }
}
